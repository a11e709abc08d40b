"""Emulated boards: MicroPython's own firmware on an emulated RP2040, beside the virtual boards and driven like them."""
