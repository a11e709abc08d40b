"""Device-years in minutes: agent, relay and ledger as they are, in one process, in a world that is simulated.

`python -m proofs.years --help`. What is real: every module of the device (a universe of its own for each device), the
relay's loop with its Connection, the ledger in SQLite. What is modelled: time (hub.py), flash (flash.py), network
(net.py), broker (broker.py, mqtt.py), the board (board.py), and paho below the relay's Connection (client.py).
A schedule (plan.py) is made from a seed; the world (world.py) plays it; the oracle (oracle.py) judges from outside.
"""
