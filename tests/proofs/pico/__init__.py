"""MicroPython's own firmware for a Pico W, emulated, with the agent on it: what it costs and what it survives."""
