"""The power-cut proof: the real agent, cut off at every instant, by a harness that shares no code with it.

What must hold, after every cut and every pair of cuts, once the device has been started again until it is quiet:

    lost    Every command has a final status. Whatever the broker handed over and saw acknowledged, the device still
            has: the relay never finds a command missing but after the broker itself has forgotten it. Every telemetry
            record that was stored is at the host under its number, with its values, or counted as dropped. The file
            system mounts, and no byte of flash is programmed twice.
    twice   No effect happens twice; of a command declared repeatable, at most three attempts. A status that was told
            is never told differently. A telemetry number never stands for two records.
    lies    The status is the true one: `succeeded` only for an effect that happened, `failed` only after the handler
            raised, `interrupted` only for the one command that was started when power went, and never for a repeatable
            one with attempts left; `expired`, `cancelled` and `rejected` only for those that are, without effect.
    stuck   Every wake ends by itself, asleep within its budget, and a few of them are enough.

How it is made:
    board/lives.py      MicroPython: forks one process per wake, mounts a real littlefs over the NOR model, runs the
                        real agent, and ends with libc's _exit at the point it is told to
    board/probe_app.py  the handlers; each effect is one write to a pipe, at the moment it happens
    bench.py            a worker: one real mosquitto, one MicroPython, one relay, one device after the other
    relay.py            the host's side by docs/design.md's rules, over paho-mqtt; it is also the record of what arrived
    stories.py          what happens in a run: commands, tombstones, wakes, a broker that forgets
    oracle.py           the promises above, as a function from what was seen to what is wrong
    points.py           the names of cut points, and where to find all of them
    sweep.py            all points, or a sample that a seed chooses; `python -m proofs.powercut`
    planted.py          bugs that the harness must find
    bounds.py           what a wake costs in erases, in memory and in years of flash
A point that a run did not come to is an error of the harness and fails the run.
"""
