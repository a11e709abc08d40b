"""A model of the protocol: device, broker, relay and ledger as small programs that run step by step in a seeded order,
with faults between any two steps, attackers, and an oracle that sees every effect.

It speaks the words of docs/design.md; limits are scaled down (window 8, inbox 4, 3 ledgers, 2 states that were left). A
clean run is evidence over these schedules, not a proof.

    wire.py         connections and the broker, and the limits that all parts share
    device.py       one wake of the device
    ledger.py       the ledger, whose every method is one transaction
    relay.py        the relay, which may crash between any two steps
    world.py        all of it together, the actions of a schedule, and the oracle
    rules.py        the rules that can be left out
    schedules.py    what happens in a run, from its seed
    runs.py         campaigns, shrinking, exhaustive faults; `python -m proofs.model`

Each module says at its top what it does not model. To change a rule of the protocol: change it here first, run 3000
seeds, 1000 heavy ones and --exhaustive, and leave the rule out once, to see that something needs it.
"""
