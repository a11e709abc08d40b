"""The device's tests on each MicroPython that can be had here, with each umqtt.simple: `make matrix`.

Must stay true: a cell is what its tests said, counted by pytest; an interpreter that can't be had is named with the
reason and makes the whole not green; what was skipped is printed with why.

    interpreters.py    where each interpreter is, fetched if missing
    __main__.py        the cells, the table, the exit code
"""
