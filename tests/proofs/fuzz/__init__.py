"""Bytes from outside, made up: hypothesis on CPython, and what it made up once more on MicroPython (`make fuzz`).

Must stay true: a target is the agent's own parser; what it may raise is written in the target, and anything else is a
finding; a finding goes to tests/proofs/fuzz/found/ as a file and stays a test for ever.
"""

import sys

from dormouse_host.agent import toolchain

sys.path.append(str(toolchain.umqtt_folder()))  # the session's client, as the device's process finds it
