"""Runs the functions of one test file, under CPython and MicroPython alike; tests/support/on_device.py starts it.

Must stay true: a function's report is one line of JSON that lies on disk before the next function begins, so that a
crash or a hang is told from a failure and costs no earlier report; the language is what both interpreters share.
"""

import gc
import io
import json
import os
import sys

MARK = "\x1e"  # begins the line on stdout after which a function's own output comes

_scratch: list = []


def folder():
    """An empty folder of the real file system, a new one at each call; it is removed after the run."""
    path = "%s/%d" % (_scratch[0], len(_scratch))
    os.mkdir(path)
    _scratch.append(path)
    return path


def run(module, names, scratch, report):
    """Import `module`, call its functions `names` in order, and append what each came to to the file `report`."""
    _scratch.append(scratch)
    with open(report, "w") as file:

        def tell(name, **entry):
            file.write(json.dumps(dict(entry, name=name)) + "\n")
            file.flush()

        tests = None
        broken = None
        try:
            tests = __import__(module)
        except Exception as error:
            broken = _trace(error)
        for name in names:
            tell(name, begun=True)
            print(MARK + name)
            gc.collect()
            tell(name, failure=broken or _call(getattr(tests, name)))


def _call(function):
    """None where the function returned, else the traceback."""
    try:
        function()
    except Exception as error:
        return _trace(error)
    return None


def _trace(error):
    """The traceback as text."""
    if hasattr(sys, "print_exception"):
        text = io.StringIO()
        sys.print_exception(error, text)
        return text.getvalue()
    import traceback

    return "".join(traceback.format_exception(error))
