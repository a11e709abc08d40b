"""For those who freeze the agent into firmware, in MicroPython's ports/esp32, mpy-cross built:

make BOARD=OLIMEX_ESP32_POE FROZEN_MANIFEST=/path/to/dormouse/boards/OLIMEX_ESP32_POE/manifest.py
"""

include("$(PORT_DIR)/boards/manifest.py")
include("../manifest.py", port="esp32")
