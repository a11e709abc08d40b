"""The hostile network: whatever a peer does, the device is asleep in time, loses nothing, and tells what happened.

Must stay true: the broker is a real mosquitto; what misbehaves stands between it and the device (meddler.py), or takes
its place for one wake; every row is judged by the same rules (stage.py). `make hostile` prints the table.
"""
