"""A broker at a link-local IPv6 address, which is one only with the interface that it belongs to: `%scope`.

Must stay true: real mosquitto, in a network of its own, whose loopback has such an address; nothing of this machine's
network is changed.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.needs import need_mosquitto

INSIDE = """
import json, subprocess, sys, time
from pathlib import Path
from support.device_folder import Device, DeviceInterpreter

mosquitto, kind, folder = sys.argv[1:]
folder = Path(folder)
(folder / "m.conf").write_text("listener 1883\\nallow_anonymous true\\n")
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
with subprocess.Popen([mosquitto, "-c", str(folder / "m.conf")], **quiet) as broker:
    try:
        time.sleep(0.5)
        device = Device(folder / "device", DeviceInterpreter(kind), "mqtt://[fe80::77%lo]")
        said = [device.wake()]
        device.configure(broker="mqtt://[fe80::77%none]")
        said.append(device.wake())
        print(json.dumps([[ran.code, [error["stage"] for error in ran.all("error")], ran.output] for ran in said]))
    finally:
        broker.kill()
"""


def test_broker_at_a_link_local_address_is_reached_by_its_interface(interpreter, tmp_path):
    """And one whose interface does not exist is a failure of its own stage, not a crash."""
    assert shutil.which("unshare"), "unshare is missing: apt-get install util-linux"
    assert shutil.which("ip"), "ip is missing: apt-get install iproute2"
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    if subprocess.run(["unshare", *user, "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine permits no network namespace")
    inside = f'ip link set lo up && ip -6 addr add fe80::77/64 dev lo nodad && exec {sys.executable} "$@"'
    argv = ["unshare", *user, "--net", "sh", "-c", inside, "sh", "-c", INSIDE, str(need_mosquitto()), interpreter.kind]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [*argv, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    reached, lost = json.loads(done.stdout)
    assert (reached[0], reached[1]) == (0, []), reached[2]
    assert lost[0] == 1
    assert set(lost[1]) <= {"dns", "connect"}, lost[2]
    assert lost[1], lost[2]
