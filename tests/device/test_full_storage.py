"""A device whose storage takes nothing more: it says so, acknowledges nothing that it could not keep, and sleeps.

Must stay true: the storage is a real file system, made full for one process by the kernel's limit on the size of a
file; what the broker was not acknowledged comes at the next wake, once.
"""

import sys

from support.device_folder import Device, Host, Process, say

LIMIT = 130  # bytes of a file: marks and the journal's tail still fit, the journal itself does not
_WITH_LIMIT = (
    "import os, resource, sys; size = int(sys.argv[1]);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); os.execv(sys.argv[2], sys.argv[2:])"
)


def wake_on_full_storage(device):
    """One wake whose writes beyond LIMIT fail with EFBIG: CPython ignores SIGXFSZ, and so does what it turns into."""
    argv, environment = device.interpreter.command(device.folder)
    argv = [sys.executable, "-c", _WITH_LIMIT, str(LIMIT), *argv]
    with Process(argv, {**environment, "DORMOUSE_CAUSE": "power"}) as process:
        return process.end()


def test_on_full_storage_nothing_is_acknowledged_and_the_device_sleeps_on_time(interpreter, tmp_path, mosquitto):
    """A PUBACK for a command that is not on flash would lose it at the next power cut."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    assert device.wake().code == 0
    texts = [f"number {n}" for n in range(12)]
    with Host(mosquitto.address) as host:
        host.send(*[say(text) for text in texts])
        ran = wake_on_full_storage(device)
        error = ran.one("error")
        assert (ran.code, error["kind"]) == (1, "StorageError")
        assert "cmd" in error["why"]
        assert ran.said == []
        assert ran.in_time(5)
        again = device.wake()
        assert again.code == 0
        assert again.said == texts
