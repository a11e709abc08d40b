"""A stop that a signal asks for: it ends a wait wherever the signal hits it, and hangs in none."""

import gc
import os
import signal
import sys
import threading
import time

from dormouse_host.processes import Stop


def asked_at(instruction: int) -> tuple[bool, int]:
    """What a wait says that is asked to stop before this instruction of its own, and how many it had until then."""
    stop, passed = Stop(), 0

    def handler(frame, event, _argument):
        nonlocal passed
        frame.f_trace_opcodes = True
        passed += event == "opcode"
        if passed < instruction:
            return handler
        sys.settrace(None)
        stop.set()
        return None

    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for one in `settrace`, and never again
    sys.settrace(handler)
    try:
        return stop.wait(0.02), passed
    finally:
        sys.settrace(None)


def test_no_wait_hangs_or_misses_it_at_whichever_instruction_the_signal_comes():
    """Between any two instructions Python runs a signal's handler. threading.Event, whose lock `wait` holds for a
    while, never returns.
    """
    unasked = [asked_at(1_000_000) for _ in range(5)]
    assert not any(answered for answered, _ in unasked), "nobody has asked"
    instructions = min(passed for _, passed in unasked)  # a select that returns early costs another round
    assert instructions > 20
    for instruction in range(1, instructions - 1):  # before the last two the answer is made up
        assert asked_at(instruction) == (True, instruction)


def test_a_wait_ends_at_once_in_another_thread_too_and_so_does_every_later_one():
    stop = Stop()
    assert not stop.wait(0)
    assert not stop.is_set()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert stop.wait(60)
    assert stop.wait(60)
    assert stop.is_set()
    assert time.monotonic() - began < 20


def test_asked_for_again_and_again_it_never_blocks():
    stop = Stop()
    for _ in range(70_000):  # a pipe holds 65536 bytes
        stop.set()
    assert stop.wait(0)


def test_it_leaves_no_file_open():
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        Stop()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_signal_ends_a_wait_whichever_thread_gets_it_and_another_one_does_not():
    stop = Stop()
    other = signal.signal(signal.SIGWINCH, lambda *_: None)
    began = time.monotonic()
    with stop.on([signal.SIGUSR1]):
        for after, number in ((0.1, signal.SIGWINCH), (0.5, signal.SIGUSR1)):
            threading.Timer(after, os.kill, (os.getpid(), number)).start()
        assert stop.wait(60)
    assert 0.4 < time.monotonic() - began < 20
    signal.signal(signal.SIGWINCH, other)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
