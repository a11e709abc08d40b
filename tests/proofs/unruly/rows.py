"""All programs, and the ports that each is tried on."""

from proofs.unruly import hanging, patching, raising, spoiling
from proofs.unruly.program import Program

PROGRAMS: list[Program] = [*hanging.PROGRAMS, *raising.PROGRAMS, *spoiling.PROGRAMS, *patching.PROGRAMS]
ROWS = [(program, port) for program in PROGRAMS for port in program.ports]
