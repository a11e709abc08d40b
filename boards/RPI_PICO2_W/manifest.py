"""For those who freeze the agent into firmware, in MicroPython's ports/rp2, mpy-cross built:

make BOARD=RPI_PICO2_W FROZEN_MANIFEST=/path/to/dormouse/boards/RPI_PICO2_W/manifest.py
"""

include("$(BOARD_DIR)/manifest.py")
include("../manifest.py", port="rp2")
