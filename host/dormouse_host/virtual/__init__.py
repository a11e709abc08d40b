"""Virtual boards: MicroPython with a board's flash, resets, sleep, Wi-Fi and watchdog, and the pytest fixture."""
