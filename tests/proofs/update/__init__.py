"""The proof of updates: a whole update on real littlefs, with the power cut at every operation of the flash.

What must hold, after every cut, once the device has been started again until it is quiet:

    neither  At each boot the guard starts a slot whose files are all those of the old release or all those of the new.
    lies     A release that the device has told to be kept is never left again.
    stuck    A few boots later the new release runs, and nothing of the update is left.
    lost     Telemetry records and the commands in the inbox are what they were before.

How it is made:
    board/update_life.py  MicroPython: one process is one boot, with guard.py, update.py, inbox and telemetry as they
                          are, on littlefs over the NOR model; it plays the host's part by what the device says
    sweep.py              all cut points of one update, and what is wrong after each; `python -m proofs.update`
    planted.py            bugs that the sweep must find
"""
