"""Virtual boards: real MicroPython on simulated hardware, and a whole device around one."""
