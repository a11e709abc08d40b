"""What the host costs: a ledger, a broker, a relay's process and many devices, and what each of them used.

Must stay true: the broker is mosquitto, the relay the process that `dormouse relay` is, the devices the agent's own
code with their files in memory; every figure is measured in the run that prints it.
"""
