"""The firmware's start: the board's modules in the place of this machine's, its flash at /, then boot.py and main.py.

Must stay true: what a board's program can import is the board's: modules that only this machine has cannot be
imported, and those that differ are replaced before the program runs. No part of the agent is here.

    micropython -X heapsize=… -m vb_boot FOLDER DESCRIPTOR

FOLDER holds these files; DESCRIPTOR is the line to the simulation, which begins with what this boot is about.
"""

import builtins
import gc
import io
import micropython
import os
import sys
import vfs
from collections import namedtuple

sys.path[:] = [sys.argv[1]]

import norflash
import vb_link as link
import vb_machine
import vb_repl as repl
import vb_socket
import vb_time

_MISSING = ("ffi", "jni", "termios", "argparse")  # the last one upstream freezes for its command line
_FROZEN = "/.frozen.d"
_OS = "chdir getcwd ilistdir listdir mkdir mount remove rename rmdir stat statvfs umount unlink urandom"
_SYS = "argv byteorder exit maxsize modules path stderr stdin stdout version version_info"


class Module:
    """A module made of an object: its attributes are the names."""

    def __init__(self, source, names):
        for name in names.split():
            setattr(self, name, getattr(source, name))


def board_os(facts):
    """`os` without what only this machine has, and with what a board has."""
    uname = namedtuple("uname", ("sysname", "nodename", "release", "version", "machine"))
    version = ".".join(str(n) for n in facts["version"])
    answer = uname(facts["port"], facts["port"], version, "v" + version, facts["machine"])
    module = Module(os, _OS)
    module.sync = lambda: None
    module.uname = lambda: answer
    return module


def print_exception(e, file=sys.stdout):
    """A traceback without our own frames, which no board has."""
    text = io.StringIO()
    sys.print_exception(e, text)
    for line in text.getvalue().split("\n")[:-1]:
        if '"vb_' not in line:
            file.write(line + "\n")


def board_sys(facts):
    """`sys` as the board has it: its platform and its name."""
    implementation = namedtuple("implementation", ("name", "version", "_machine", "_mpy", "_build"))
    module = Module(sys, _SYS)
    module.platform = facts["port"]
    module.print_exception = print_exception
    version = sys.implementation.version
    if list(version[:3]) != facts["version"]:
        version = tuple(facts["version"]) + ("",)
    module.implementation = implementation("micropython", version, facts["machine"], facts["mpy"], facts["build"])
    return module


def board_micropython():
    """`micropython`, whose kbd_intr is the terminal's: mpremote mount speaks binary while it is off."""
    hidden = ("__class__", "__name__", "__dict__", "mem_current", "mem_peak", "mem_total")
    module = Module(micropython, " ".join(name for name in dir(micropython) if name not in hidden))
    module.kbd_intr = lambda byte: repl.cook(byte != -1)
    return module


def board_modules(facts):
    """What an import finds in the place of this machine's module of that name."""
    if facts["port"] == "esp32":
        import vb_esp32 as machine
        import vb_network_esp32 as network

        sdk = machine._Esp32(facts["wakes"])
        if facts["version"] >= [1, 29]:
            machine.wake_pins = machine._wake_pins
    else:
        import vb_network_rp2 as network
        import vb_rp2 as machine

        sdk = machine._Rp2()
        if facts["registers"]:
            machine.mem_backup = machine._mem_backup
            machine._keep(facts["registers"])
    modules = {
        facts["port"]: sdk,
        "machine": machine,
        "network": network,
        "time": vb_time,
        "socket": vb_socket,
        "select": vb_socket._Select(),
        "os": board_os(facts),
        "sys": board_sys(facts),
        "micropython": board_micropython(),
    }
    if facts["times"].get("handshake"):
        import vb_tls

        modules["tls"] = vb_tls
    return modules


def load_time(importer, ms):
    """`importer`, which takes `ms` for each KiB that it loads from a file of the board's."""
    known = set(sys.modules)
    deep = False

    def find(name, *rest):
        nonlocal deep
        if deep:
            return importer(name, *rest)
        deep = True
        start = vb_time.ticks_us()
        try:
            module = importer(name, *rest)
        finally:
            deep = False
        size = 0
        for new in [name for name in sys.modules if name not in known]:
            known.add(new)
            try:
                size += os.stat(sys.modules[new].__file__)[6]
            except (AttributeError, OSError):
                pass  # not from a file, or from the firmware
        vb_time._busy(ms * size / 1024 - vb_time.ticks_diff(vb_time.ticks_us(), start) / 1000)
        return module

    return find


def replace(modules, frozen, carried, load):
    """From here on an import finds `modules` first, and those called in `frozen` in the file system `carried`;
    `load`: the ms for each KiB of a file, 0 for none."""
    sys.modules.update(modules)
    for name in [name for name in sys.modules if name[:3] == "vb_" or name == "norflash"]:
        del sys.modules[name]
    real = builtins.__import__
    running = []  # the modules that an import runs now, the innermost last

    def run(name, *rest):
        at = 0
        while at >= 0:  # each package before what is in it, so that it is known which one runs
            at = name.find(".", at + 1)
            part = name if at < 0 else name[:at]
            if part not in sys.modules:
                running.append(part)
                try:
                    real(part)
                finally:
                    running.pop()
        return real(name, *rest)

    def find(name, *rest):
        if len(rest) > 3 and rest[3] and running:  # MicroPython looks at who calls, and that is this module
            base = running[-1].split(".")
            base = base[: max(0, len(base) + hasattr(sys.modules[running[-1]], "__path__") - rest[3])]
            if not base:
                raise ImportError("can't perform relative import")
            name = ".".join(base + [name] if name else base)
            rest = rest[:3]
        top = name.split(".")[0]
        if top[:1] == "u" and top[1:] in modules:  # their names before MicroPython 1.12
            name = top = top[1:]
        if top in _MISSING:
            raise ImportError("no module named '%s'" % name)
        if top not in frozen:
            return run(name, *rest)
        vfs.mount(carried, _FROZEN, readonly=True)
        sys.path.insert(1, _FROZEN)  # where frozen modules stand: after the current folder, before /lib
        try:
            return run(name, *rest)
        finally:
            sys.path.remove(_FROZEN)
            vfs.umount(_FROZEN)

    builtins.__import__ = load_time(find, load) if load else find


def tell_flash(flash):
    """Tell the simulation what flash operations there were since it was told last."""
    if flash.erases or flash.programs:
        cost = flash.erases, flash.programs
        flash.zero()
        link.write("flash", *cost)


def mount(facts):
    """The flash at /, formatted where there is nothing on it, as firmware does at its first start."""
    image = vfs.VfsPosix().open(facts["image"], "r+b")
    times = facts["times"]
    erase, page = times.get("erase", norflash.ERASE_MS), times.get("program", norflash.PAGE_MS)
    pause = vb_time._busy if times else None
    flash = norflash.NorFlash(image, facts["blocks"], facts["block"], facts["cut"], link.exit, erase, page, pause)
    link.before.append(lambda: tell_flash(flash))
    program = facts["program"]
    vfs.umount("/")
    try:
        files = vfs.VfsLfs2(flash, progsize=program)
    except OSError:
        vfs.VfsLfs2.mkfs(flash, progsize=program)
        files = vfs.VfsLfs2(flash, progsize=program)
    vfs.mount(files, "/")
    os.chdir("/")
    if facts["port"] == "esp32" and "boot.py" not in os.listdir("/"):
        with open("boot.py", "w") as file:
            file.write("# This file is executed on every boot (including wake-boot from deepsleep)\n")


def prepare():
    """Everything up to boot.py. Returns whether a raw prompt was soft reset."""
    facts = link.connect(int(sys.argv[2]))
    vb_machine.facts.update(facts)
    vb_time._set(facts["epoch"], facts["shift"])
    modules = board_modules(facts)  # these read their files, which are out of sight after mount
    carried = vfs.VfsPosix(sys.argv[1] + "/frozen")
    mount(facts)
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = []
    replace(modules, facts["frozen"], carried, facts["times"].get("load", 0))
    if not facts["soft"]:
        vb_time._busy(facts["times"].get("boot", 0) - vb_time.ticks_ms())
    version = ".".join(str(n) for n in facts["version"])
    repl.banner = b'MicroPython v%s; %s\r\nType "help()" for more information.\r\n' % (
        version.encode(),
        facts["machine"].encode(),
    )
    return facts["soft"] == "raw"


is_raw = prepare()
gc.collect()
repl.main(is_raw)
