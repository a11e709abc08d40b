"""The module `time` as a board has it: its own epoch, whole seconds, and ticks that begin near 0 at boot.

Must stay true: nothing here is faster than real time; what a sleep skips comes in through `_skip` and nowhere else.
Timers (machine.Timer) are served wherever the program waits. Not as on a board: in a computation they are not.
"""

import time as _t

import vb_link as _link

_MASK = (1 << 30) - 1
_UNIX_2000 = 946684800
_epoch = 0  # Unix seconds at which the board's count begins
_shift = 0  # s by which the board's clock is ahead of this machine's
_base = _t.ticks_us()
_skipped = 0  # ms of light sleep that went by faster

_timers = []  # each [ticks_ms at which it is due, timer]
ticks_add, ticks_diff, ticks_cpu = _t.ticks_add, _t.ticks_diff, _t.ticks_cpu
_start = _t.ticks_ms()


def _set(epoch, shift):
    global _epoch, _shift
    _epoch = _UNIX_2000 if epoch == 2000 else 0
    _shift = shift


def _skip(ms):
    global _skipped, _shift
    _skipped += ms
    _shift += ms / 1000


def ticks_ms():
    return (_t.ticks_ms() - _start + _skipped) & _MASK


def ticks_us():
    return (_t.ticks_us() - _base + _skipped * 1000) & _MASK


def _busy(ms):
    """The board computes for so long: no timer is called, nobody is heard, the watchdog runs on."""
    if ms > 0:
        _t.sleep_us(int(ms * 1000))


def _serve(left):
    """Call the timers that are due. Returns for how many ms of `left` the program may wait now; -1 stands for ever."""
    for entry in list(_timers):
        late = ticks_diff(ticks_ms(), entry[0])
        if late >= 0 and entry in _timers:
            entry[1]._fire(entry)
    for entry in _timers:
        until = max(1, ticks_diff(entry[0], ticks_ms()))
        left = until if left < 0 else min(left, until)
    return left


def sleep_ms(ms):
    end = ticks_add(ticks_ms(), int(ms))
    while True:
        left = ticks_diff(end, ticks_ms())
        if left <= 0:
            break
        _link.hear(_serve(left))


def sleep(seconds):
    sleep_ms(int(seconds * 1000))


def sleep_us(us):
    _t.sleep_us(us)


def time():
    return int(_t.time() + _shift) - _epoch


def time_ns():
    return _t.time_ns() + int(_shift * 1000) * 1000000 - _epoch * 1000000000


def gmtime(seconds=None):
    return _t.gmtime((time() if seconds is None else seconds) + _epoch)[:8]


def localtime(seconds=None):
    return gmtime(seconds)


def mktime(parts):
    return int(_t.mktime(tuple(parts[:6]) + (0, 0, 0))) - _epoch
