# mypy: ignore-errors
"""MicroPython's unix port: a boot in a process of its own, which can end at once.

Must stay true: after `stop` nothing of the program runs, no `finally` and no buffer; a process that `apart` started
ends with the one that started it. By libc where the interpreter has ffi, which is fast: a fork costs a millisecond.
Else by a shell: `apart` starts the interpreter anew, and `stop` sends a signal that nothing handles.
"""

import os
import sys
import time

try:
    import ffi

    libc = ffi.open(None)
    stop = libc.func("v", "_exit", "i")
    _fork = libc.func("i", "fork", "")
    _wait = libc.func("i", "waitpid", "ipi")
except ImportError:
    libc = None
    _SIGNALS = {0: ("ALRM", 14), 1: ("PROF", 27), 70: ("USR2", 12), 75: ("USR1", 10)}  # by the status to end with

    def stop(status):
        os.system("kill -%s $PPID" % _SIGNALS[status][0])
        while True:
            time.sleep(1)


def lived(function, *args):
    """Call it, and end with 0; with 1 and a traceback where it raises."""
    try:
        function(*args)
        code = 0
    except BaseException as e:
        sys.print_exception(e, sys.stdout)
        code = 1
    stop(code)


def apart(command, tell, function, *args):
    """The status with which `function` ended in another process; 128 and more for a signal.

    `tell(pid)` where it is forked. Else `command` is the shell's, which has to call the same function by `lived`.
    """
    if libc:
        status = bytearray(4)
        pid = _fork()
        if pid == 0:
            lived(function, *args)
        tell(pid)
        _wait(pid, status, 0)
        return status[1] if not status[0] & 127 else 128 + (status[0] & 127)
    ended = os.system("exec setpriv --pdeathsig KILL -- " + command)
    for status, (_, number) in _SIGNALS.items():
        if ended & 127 == number:
            return status
    return ended >> 8 if not ended & 127 else 128 + (ended & 127)
