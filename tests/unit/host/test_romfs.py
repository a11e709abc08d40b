"""`dormouse romfs`: the image is what a flash would send, and MicroPython's own driver reads it.

Must stay true: that a wake runs from such an image is tested by the hostile network and by the bench's heaps.
"""

import hashlib
import json
import subprocess
import sys

import pytest

from dormouse_host.agent import mpy
from support.needs import need_micropython

READ = """
import os, sys, hashlib, json, vfs
vfs.mount(vfs.VfsRom(open(sys.argv[1], "rb").read()), "/rom")
def look(folder):
    for name in os.listdir(folder):
        path = folder + "/" + name
        if os.stat(path)[0] & 0x4000:
            look(path)
        else:
            data = open(path, "rb").read()
            print(json.dumps([path[5:], "".join("%02x" % b for b in hashlib.sha256(data).digest())]))
look("/rom")
"""


def dormouse(*arguments):
    argv = [sys.executable, "-m", "dormouse_host.cli", "romfs", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def read(image, tmp_path):
    """Path -> SHA-256 of what MicroPython finds in an image."""
    (tmp_path / "read.py").write_text(READ)
    argv = [need_micropython().path, tmp_path / "read.py", image]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("kind, port", [("ESP32_GENERIC", "esp32"), ("RPI_PICO_W", "rp2")])
def test_image_holds_the_agent_as_it_is_flashed_and_umqtt_simple(kind, port, tmp_path):
    done = dormouse("--board", kind, "--out", tmp_path / "agent.romfs", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "agent.romfs").stat().st_size
    found = read(tmp_path / "agent.romfs", tmp_path)
    wanted = {name: hashlib.sha256(data).hexdigest() for name, data in mpy.agent_files(port).items()}
    assert {name: found.get(name) for name in wanted} == wanted
    assert set(found) - set(wanted) == {"lib/umqtt/simple.mpy"}


def test_same_files_in_any_order_make_the_same_image(tmp_path):
    files = {"lib/b/two.mpy": b"2" * 300, "lib/a.mpy": b"1", "lib/b/one.mpy": b""}
    image = mpy.image(files)
    assert mpy.image(dict(reversed(files.items()))) == image
    (tmp_path / "image").write_bytes(image)
    assert read(tmp_path / "image", tmp_path) == {n: hashlib.sha256(d).hexdigest() for n, d in files.items()}


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--board", "TOASTER"], "TOASTER"),
        (["--board", "POSIX"], "dormouse agent run"),
        (["--board", "ESP32_GENERIC", "--out", "/dev/null/x.romfs"], "/dev/null/x.romfs"),
        (["--board", "ESP32_GENERIC", "--out", "agent.bin"], "agent.romfs"),
    ],
)
def test_what_can_t_be_done_is_one_line(arguments, said):
    done = dormouse(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
