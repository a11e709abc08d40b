"""Which of the two slots runs: the only judge of a release on trial, asked at every boot before the agent is loaded.

Must stay true: whatever the power does, the mark names a slot or is absent, and what is started is a slot that has a
manifest, if there is any; a slot on trial is started three times at most, if it does not `write` another phase. On a
board this is outside the slots, with ports/boot.py, and no update changes it: a release finds it as it is here.
Nothing is imported that is not in the firmware; of protocol.py there are only numbers, which become part of this.

The mark is the file state/slot, three characters: the slot, what is under way, and how often a trial has begun.
"""

import os
import sys

from dormouse.protocol import BACK, IDLE, TRIAL

_BOOTS = 3


class Slots:
    """`root` ends with `/`; `bitten`: the watchdog, or something like it, ended what ran before this boot.

    `slot` is "a" or "b", or "" where there are none; `phase` is one of protocol's numbers; `boots`: of the trial;
    `went_back`: this boot is the first after a trial that failed, so that what the boot before came to says nothing.
    """

    def __init__(self, root, bitten=False):
        self.root = root
        self.slot, self.phase, self.boots, self.went_back = "a", IDLE, 0, False
        try:
            with open(root + "state/slot") as file:
                mark = file.read(3)
            self.slot, self.phase, self.boots = "ab"["ab".index(mark[0])], int(mark[1]), int(mark[2])
        except (OSError, ValueError, IndexError):
            pass  # none yet; or flash was damaged, and the slot is as good as the other
        begun = self.boots
        if not self.has(self.slot):
            if not self.back():
                self.slot = ""
        elif self.phase == TRIAL:
            self.boots += 1
            if begun >= _BOOTS or (begun and bitten) or not self.write(self.slot, TRIAL):
                self.back()
        if self.slot:
            sys.path[:0] = [root + self.slot, root + self.slot + "/lib"]

    def has(self, slot):
        """Is there a whole release in this slot, as far as its manifest tells?"""
        try:
            os.stat(self.root + slot + "/release")
            return True
        except OSError:
            return False

    def other(self):
        """The slot that does not run."""
        return "a" if self.slot == "b" else "b"

    def back(self):
        """Start the other slot, from now on. False where it has no release."""
        other = self.other()
        if not self.has(other):
            return False
        for name in ("piece", "skips"):  # they tell of the release that is left
            try:
                os.rename(self.root + "state/" + name, self.root + "state/left." + name)
            except OSError:
                pass  # there is none
        self.boots = 0
        self.write(other, BACK)
        self.slot, self.phase, self.went_back = other, BACK, True
        return True

    def write(self, slot, phase):
        """Start this slot from the next boot on; on flash when this returns True."""
        name = self.root + "state/slot"
        try:
            with open(name + "~", "w") as file:
                file.write("%s%d%d" % (slot, phase, self.boots))
            os.rename(name + "~", name)
            return True
        except OSError:
            return False
