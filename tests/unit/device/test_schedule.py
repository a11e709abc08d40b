"""When to connect and when to sleep: pure arithmetic, which must never give 0 and never run away."""

from dormouse import schedule
from dormouse.schedule import CAP, JITTER, STRETCH, connect_in, due, sleep_for


def settings(connect=900, sample=0, floor=0):
    return {"connect_every": connect, "sample_every": sample, "battery_floor": floor}


def test_without_failures_it_is_the_interval_within_its_jitter():
    """A fleet that was powered on together must not stay together."""
    seconds = [connect_in(settings(), 0, None, byte) for byte in range(256)]
    assert min(seconds) == 855
    assert max(seconds) == 945
    assert seconds == sorted(seconds)
    assert len(set(seconds)) > 80


def test_each_failure_doubles_the_interval_up_to_the_cap():
    """An access point that is away for a week must not flatten the battery."""
    middle = [connect_in(settings(100), n, None, 127) for n in range(20)]
    assert middle[:8] == [int(100 * 2**n * (1 - JITTER * 0.5 / 127.5)) for n in range(8)]
    assert middle[8:] == [connect_in(settings(CAP), 0, None, 127)] * 12


def test_no_number_of_failures_gives_zero_or_more_than_the_cap():
    """Counters go up to 255 and intervals from 1 s to a week; jitter comes on top of the cap."""
    for every in (1, 1.5, 7, 900, CAP, 604800):
        for failures in (0, 1, 15, 16, 17, 255):
            for byte in (0, 1, 127, 128, 255):
                seconds = connect_in(settings(every, floor=3.3), failures, 3.0, byte)
                assert isinstance(seconds, int)
                assert 1 <= seconds <= max(CAP, every * STRETCH) * (1 + JITTER)


def test_an_interval_longer_than_the_cap_is_kept():
    """A device that connects once a day does so after a failure, too."""
    assert connect_in(settings(86400), 5, None, 127) == connect_in(settings(86400), 0, None, 127)


def test_below_the_battery_floor_it_connects_more_rarely():
    """Unknown volts are no reason, and at the floor it is still enough."""
    usual = connect_in(settings(floor=3.3), 0, 3.3, 100)
    assert usual == connect_in(settings(floor=3.3), 0, None, 100) == connect_in(settings(), 0, 0.5, 100)
    assert STRETCH * usual <= connect_in(settings(floor=3.3), 0, 3.29, 100) <= STRETCH * (usual + 1)


def test_it_sleeps_until_the_next_sample_or_the_next_connect():
    """Whichever comes first."""
    assert sleep_for(settings(), 100, 1000) == 900
    assert sleep_for(settings(sample=60), 100, 1000) == 60
    assert sleep_for(settings(sample=60), 990, 1000) == 10


def test_a_sleep_is_a_whole_number_of_at_least_one_second():
    """Zero would be a device that never sleeps; half a second can't be written to the state."""
    for sample in (0, 0.2, 1, 1.5, 60):
        for now, then in ((1000, 1000), (1001, 1000), (5000, 1000), (999, 1000), (0, 1.5)):
            seconds = sleep_for(settings(sample=sample), now, then)
            assert isinstance(seconds, int)
            assert seconds >= 1, (sample, now, then)


def test_a_reading_is_taken_once_in_each_of_its_periods():
    """Samples every 7 s, a reading every 20 s: never twice in one period, never a period left out."""
    taken = []
    before = 0
    for now in range(7, 7 * 60, 7):
        if due(20, now, before):
            taken.append(now // 20)
        before = now
    assert taken == list(range(taken[-1] + 1))


def test_a_reading_without_a_period_and_the_very_first_are_always_due():
    """A device that was just flashed reports at once."""
    assert due(0, 5, 4)
    assert due(3600, 5, 0)
    assert not due(3600, 5, 4)


def test_a_period_that_is_no_whole_number_works_too():
    """`@telemetry(every=0.5)` is a number like any other."""
    assert due(0.5, 2, 1)
    assert schedule.due(1.5, 3, 2)
