"""`python -m proofs.fuzz`."""

from proofs.fuzz.run import main

main()
