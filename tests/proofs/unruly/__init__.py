"""Unruly programs: whatever app.py does, its device connects again, takes commands, says what was at fault, and sleeps.

Must stay true: agent, boards and broker are the real ones; a program is unruly as a person's could be; every row is
judged by the same rules (oracle.py). `make unruly` prints the table.
"""
