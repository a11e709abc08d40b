"""What every board's manifest.py freezes: the agent with the port `port` and no other.

Must stay true: the same modules as `make flash` puts on that board.
"""

import os

options.defaults(port="")

_SHARED = {name for name in os.listdir("../device/dormouse/ports") if name not in ("esp32.py", "rp2.py", "posix.py")}
_ports = [f"ports/{name}" for name in sorted(_SHARED | {f"{options.port}.py"}) if name.endswith(".py")]
_agent = [name for name in sorted(os.listdir("../device/dormouse")) if name.endswith(".py")]

package("dormouse", files=_agent + _ports, base_path="../device")
require("umqtt.simple")
