"""The end-to-end proof: a real broker, real relays and the real agent, through every fault that the issue names.

What must hold at the end of each run, once everything was awake without faults until nothing moved:

    lost      Every command of the ledger has a final status. Every telemetry record that a device numbered is in the
              database, or counted as dropped. A value is lost only where power went.
    twice     No effect happened twice; of a command declared repeatable, at most three attempts. No reading is stored
              twice. Nothing is published when everything is settled; without faults, no command twice.
    untrue    The status is the true one by the device's own file of effects: `succeeded` and `failed` only for what
              was done to its end, `expired`, `cancelled` and `rejected` only for what was never begun, `interrupted`
              at most once for each cut, `unknown` only where a flash was wiped or a ledger put back. No other final
              status was told before it, but a guess.

How it is made:
    board/          the devices' app, which writes each effect to a file; wakes.py runs the agent on either interpreter
    devices.py      a device: its folder, its processes, and what it truly did
    host.py         a mosquitto that can be killed and set back; relays as processes
    book.py         the ledger's database, which can be put back and have a full disk; small_disk.py: SQLite's
    world.py        all of it together, the orders that were given, and how it comes to rest
    cases.py        what is done to it: cases_network.py, cases_memory.py
    oracle.py       the promises above, as a function from a world to what is wrong with it
    planted.py      bugs that the proof must find
    runs.py         one case and its line; one.py: in a process of its own
    many.py         several at the same time, on both databases; `python -m proofs.endtoend`
"""
