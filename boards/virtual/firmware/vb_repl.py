"""boot.py, main.py and then the two prompts, friendly and raw, on standard input and output.

Must stay true: it answers byte for byte as MicroPython's shared/runtime/pyexec.c does, so that the unmodified
mpremote works; while code runs, Ctrl-C interrupts it, unless the code switched that off; at a prompt it does not.
"""

import gc
import io
import micropython
import sys
import termios
import time

import vb_link as link

_ISIG, _NOFLSH, _OPOST, _ONLCR = 1, 0x80, 1, 4
_WINDOW = 128  # bytes of raw paste per window
_in, _out = sys.stdin.buffer, sys.stdout.buffer
_flags = termios.tcgetattr(0)
_is_raw = False
_globals = {"__name__": "__main__"}
_hidden = ("vb_boot", "vb_repl")
banner = ""


def cook(running):
    """The terminal: while code runs Ctrl-C interrupts and \n becomes \r\n; at a prompt every byte is the prompt's."""
    link.forget()
    flags = list(_flags)
    flags[0] = 0
    flags[1] = _OPOST | _ONLCR if running else 0
    flags[3] = _ISIG | _NOFLSH if running else 0  # a Ctrl-C loses nothing that was printed before
    termios.tcsetattr(0, termios.TCSANOW, flags)


def _write(data):
    _out.write(data)


def _read():
    byte = _in.read(1)
    if not byte:
        link.exit(0)
    return byte[0]


def _trace(error):
    text = io.StringIO()
    sys.print_exception(error, text)
    cook(True)
    for line in text.getvalue().split("\n")[:-1]:
        if not any(name in line for name in _hidden):
            print(line)
    cook(False)


def _run(source, name, mode="exec", mark=False):
    """Run code as a board does. Did it end without an exception?"""
    error = None
    try:
        cook(True)
        exec(compile(source, name, mode), _globals)
    except BaseException as e:
        error = e
    cook(False)
    if mark:
        _write(b"\x04")
    if isinstance(error, SystemExit):
        if mark:
            _write(b"\x04")
        _soft_reset()
    if error is not None:
        try:
            _trace(error)
        except MemoryError:
            _write(b"MemoryError\r\n")
    if mark:
        _write(b"\x04")
    return error is None


def _soft_reset():
    _write(b"MPY: soft reboot\r\n")
    link.exit(link.SOFT_RAW if _is_raw else link.SOFT)


def _raw_paste():
    """The source that comes in windows; None when the sender gave up."""
    _write(b"R\x01" + bytes((_WINDOW, 0, 1)))
    source = bytearray()
    left = _WINDOW
    while True:
        byte = _read()
        if byte == 4 or byte == 3:
            _write(b"\x04")
            return bytes(source) if byte == 4 else None
        source.append(byte)
        left -= 1
        if left == 0:
            _write(b"\x01")
            left = _WINDOW


def _raw_line():
    """The next source in raw mode; None to prompt again, False to go back to the friendly prompt."""
    line = bytearray()
    while True:
        byte = _read()
        if byte == 1:
            if line == b"\x05A":
                return _raw_paste()
            if len(line) == 2 and line[0] == 5:
                _write(b"R\x00")
                line = bytearray()
                continue
            _write(b"raw REPL; CTRL-B to exit\r\n")
            return None
        if byte == 2:
            _write(b"\r\n")
            return False
        if byte == 3:
            line = bytearray()
        elif byte == 4:
            _write(b"OK")
            if not line:
                _write(b"\r\n")
                _soft_reset()
            return bytes(line)
        else:
            line.append(byte)


def _raw():
    global _is_raw
    _is_raw = True
    _write(b"raw REPL; CTRL-B to exit\r\n")
    while True:
        _write(b">")
        source = _raw_line()
        if source is False:
            _is_raw = False
            return
        if source is not None:
            _run(source, "<stdin>", mark=True)
            source = None
            gc.collect()


def _friendly():
    _write(banner)
    line = bytearray()
    _write(b">>> ")
    while True:
        byte = _read()
        if byte == 1:
            _write(b"\r\n")
            return
        if byte in (2, 3):
            _write(b"\r\n" + (banner if byte == 2 else b"") + b">>> ")
            line = bytearray()
        elif byte == 4 and not line:
            _write(b"\r\n")
            _soft_reset()
        elif byte == 5 and not line:
            _paste()
            _write(b">>> ")
        elif byte in (10, 13):
            _write(b"\r\n")
            if line:
                _run(bytes(line), "<stdin>", "single")
            line = bytearray()
            _write(b">>> ")
        elif byte in (8, 127):
            if line:
                line = line[:-1]
                _write(b"\x08 \x08")
        elif byte >= 32:
            line.append(byte)
            _write(bytes((byte,)))


def _paste():
    """Paste mode: everything up to Ctrl-D is one source."""
    _write(b"\r\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n=== ")
    source = bytearray()
    while True:
        byte = _read()
        if byte in (3, 4):
            _write(b"\r\n")
            if byte == 4:
                _run(bytes(source), "<stdin>")
            return
        source.append(byte)
        _write(b"\r\n=== " if byte == 13 else bytes((byte,)))


def _file(name):
    """Run a file of the board's; True also where there is none."""
    try:
        with open(name) as file:
            source = file.read()
    except OSError:
        return True
    return _run(source, name)


def main(after_soft_raw):
    """Never returns."""
    micropython.kbd_intr(3)  # this machine's SIGINT raises KeyboardInterrupt from now on; the terminal decides when
    cook(False)
    ok = _file("boot.py")
    if ok and not after_soft_raw:
        _file("main.py")
    gc.collect()
    if after_soft_raw:
        _raw()
    while True:
        try:
            _friendly()
            _raw()
        except MemoryError:  # the program has left none: a prompt that answers nothing, as on the board
            time.sleep_ms(100)
