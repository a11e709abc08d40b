"""What a handler sees of its wake: it waits through `hold`, which feeds the watchdog and keeps to the limit."""

from desk import Port

from dormouse.wake import Overrun, Wake


def begin(limit=None):
    port = Port()
    port.now = 12345
    wake = Wake(port, {"id": "dev1", "watchdog": 30}, None)
    if limit is not None:
        wake.start(limit)
    return port, wake


def overruns(wake, seconds):
    try:
        wake.hold(seconds)
    except Overrun:
        return True
    return False


def test_hold_waits_as_long_as_it_is_told_and_feeds_the_watchdog():
    """A watchdog of a Pico bites after 8 s; a valve may be open for a minute."""
    port, wake = begin(60)
    wake.hold(30)
    assert port.now == 12345 + 30000
    assert port.fed >= 300
    wake.hold(0.25)
    assert port.now == 12345 + 30250
    assert wake.stop() is False


def test_hold_ends_at_the_handlers_limit():
    """And not at the end of what was asked for."""
    port, wake = begin(5)
    assert overruns(wake, 6)
    assert 5000 <= port.now - 12345 <= 5100


def test_hold_may_use_all_of_the_limit():
    """A handler of `limit=60` holds for 60 s."""
    _, wake = begin(60)
    assert not overruns(wake, 60)
    assert wake.stop() is False


def test_many_short_holds_count_together():
    """The limit is the handler's and not the call's."""
    port, wake = begin(5)
    held = 0
    while not overruns(wake, 1):
        held += 1
    assert held == 5
    assert port.now - 12345 == 5000


def test_a_handler_that_waits_by_itself_is_found_out_when_it_returns():
    """It can't be stopped, but its result tells."""
    port, wake = begin(5)
    port.now += 5001
    assert wake.stop() is True
    port, wake = begin(5)
    port.now += 5000
    assert wake.stop() is False


def test_outside_a_handler_there_is_no_limit():
    """A reading may wait for its sensor; the limit of a handler that ended must not hold on."""
    port, wake = begin(1)
    wake.stop()
    wake.hold(3)
    assert port.now == 12345 + 3000


def test_holding_for_nothing_or_less_returns_at_once():
    """An argument from outside may be anything."""
    for seconds in (0, -1, -1e9, 0.0001):
        port, wake = begin(5)
        assert not overruns(wake, seconds)
        assert port.now == 12345
        assert port.fed == 1


def test_a_fraction_of_a_second_is_a_limit_too():
    """`limit=0.5`."""
    port, wake = begin(0.5)
    assert overruns(wake, 1)
    assert 500 <= port.now - 12345 <= 600


def test_battery_time_and_configuration_are_the_devices_own():
    """None is an honest answer."""
    port, wake = begin()
    assert (wake.battery(), wake.time(), wake.config) == (3.7, None, {"id": "dev1", "watchdog": 30})
    port.unix = 1795000000
    assert wake.time() == 1795000000
