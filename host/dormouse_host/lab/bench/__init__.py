"""What a wake costs, ours beside the two that people write by hand (`make bench`).

Every row is a wake of a real MicroPython process with the real umqtt.simple against a real mosquitto with its default
settings, over a wire of real TCP (lab/wire.py) or through a proxy, with all of our features on. A wake that did not
carry all of its commands and records gives no row.

    proxy.py     delays and records
    cases.py     the cases, and a row
    subject.py   a device on disk: ours, the plain script, the tuned script
    plain.py     the script, which runs on MicroPython
    nor.py       our wake on simulated flash, which runs on MicroPython
    measure.py   one wake through the proxy; the smallest heap
    table.py     the rows as a table
    picture.py   the timelines as SVG
"""
