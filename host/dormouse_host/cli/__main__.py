"""`python -m dormouse_host.cli` is `dormouse`."""

from dormouse_host.cli.app import main

if __name__ == "__main__":
    main()
