"""The host's side of Dormouse: what runs on a computer and speaks to the devices through the broker.

Must stay true: nothing is imported here, so that a command of the line costs only what it uses.
"""

__version__ = "0.1.0"
