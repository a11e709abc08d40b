"""For those who freeze the agent into firmware, in MicroPython's ports/esp32, mpy-cross built:

make BOARD=ESP32_GENERIC_C5 FROZEN_MANIFEST=/path/to/dormouse/boards/ESP32_GENERIC_C5/manifest.py
"""

include("$(PORT_DIR)/boards/manifest.py")
include("../manifest.py", port="esp32")
