"""How deep the firmware's C stack has been: the stack is filled with a pattern, and the lowest changed word counts.

Must stay true: a fill changes nothing that the firmware still uses. MicroPython on RP2040 has one stack for everything,
Python's frames and interrupts, in the 8 KiB of SRAM4 and SRAM5; below it ends the heap, and nothing checks.
"""

from collections.abc import MutableSequence

BOTTOM, TOP = 0x20040000, 0x20042000  # __StackBottom and __StackTop of the firmware's linker script
_SRAM = 0x20000000
_FILL = b"\xaa" * 4
_MARGIN = 32  # bytes below the stack pointer that are left alone


class Stack:
    """`sram`: the chip's memory from 0x20000000 on."""

    def __init__(self, sram: memoryview | MutableSequence[int]) -> None:
        self._sram = sram

    def fill(self, pointer: int = TOP) -> None:
        """Fill what is free below the stack pointer; the whole stack at a reset."""
        if not BOTTOM <= pointer <= TOP:
            return
        end = pointer if pointer == TOP else max(BOTTOM, (pointer - _MARGIN) & ~3)
        self._sram[BOTTOM - _SRAM : end - _SRAM] = _FILL * ((end - BOTTOM) // 4)

    def depth(self) -> int:
        """The most bytes that were in use since the last fill; TOP - BOTTOM: it may have overflowed."""
        used = bytes(self._sram[BOTTOM - _SRAM : TOP - _SRAM])
        free = 0
        while used[free : free + 4] == _FILL:
            free += 4
        return TOP - BOTTOM - free
