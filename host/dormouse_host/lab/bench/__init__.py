"""What a wake costs, ours beside the two that people write by hand (`make bench`).

Must stay true: every row is a wake of a real MicroPython process with the real umqtt.simple against a real mosquitto
with stock settings, through a proxy that delays and records; a wake that did not carry all of its commands and records
gives no row; no feature of ours is off.

    proxy.py     delays and records
    cases.py     what is measured, and a row
    subject.py   a device on disk: ours, the plain script, the tuned script
    plain.py     the script, which runs on MicroPython
    nor.py       our wake on simulated flash, which runs on MicroPython
    measure.py   one wake through the proxy; the smallest heap
    table.py     rows for people
    picture.py   the timelines as SVG
"""
