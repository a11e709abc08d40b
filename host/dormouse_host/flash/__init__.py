"""Flashing boards: projects, files, serial ports, the wire to a board, and its first wake."""
