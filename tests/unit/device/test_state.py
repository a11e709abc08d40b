"""What a device remembers from one wake to the next: whole or absent, and nothing that a count can break."""

from desk import reason
from runner import folder

from dormouse.errors import ConfigError
from dormouse.ports.storage import Storage
from dormouse.state import (
    CAP,
    ENDINGS,
    FENCE_DEAD,
    FENCE_NEW,
    FENCE_WORKS,
    JITTER,
    PHASES,
    STRETCH,
    State,
    connect_in,
    due,
    sleep_for,
)


def fresh(device="dev1"):
    storage = Storage(folder())
    state = State(storage)
    state.begin(device, False)
    return storage, state


def numbers(state):
    """All that is kept, as a plain value."""
    names = "wake failures unfinished cutoffs fence alone present drained ended acked clock next_connect sampled ms"
    names += " ending flights up down erases phases device"
    return [getattr(state, name) for name in names.split()]


def test_the_first_wake_is_number_one_and_knows_nothing():
    """A device that was just flashed."""
    storage, state = fresh()
    assert (state.wake, state.unfinished, state.failures, state.fence, state.ended) == (1, 0x11, 0, FENCE_NEW, 0)
    assert State(storage).device == "dev1"


def test_everything_saved_comes_back():
    """Each field with a value of its own: none may take another's place."""
    storage, state = fresh()
    state.wake, state.failures, state.unfinished, state.cutoffs, state.fence = 70000, 2, 3, 4, FENCE_DEAD
    state.ended, state.acked, state.clock, state.next_connect, state.sampled = (
        69999,
        123456,
        987654321,
        987655221,
        987654000,
    )
    state.ms, state.ending, state.flights, state.up, state.down = 1234567, 4, 7, 300, 400
    state.erases = 555
    state.phases = [100 + i for i in range(len(PHASES))]
    for flags in range(8):
        state.alone, state.present, state.drained = bool(flags & 1), bool(flags & 2), bool(flags & 4)
        state.save()
        assert numbers(State(storage)) == numbers(state)
    state.fence = FENCE_WORKS
    state.save()
    assert State(storage).fence == FENCE_WORKS


def test_begun_is_on_flash_before_anything_else():
    """A cut right after it is a wake that never ended."""
    storage, _ = fresh()
    again = State(storage)
    assert (again.wake, again.unfinished) == (1, 0x11)
    assert again.begin("dev1", False) is True
    assert (again.wake, again.unfinished, ENDINGS[again.ending]) == (2, 0x22, "cut off")


def test_a_wake_that_ended_leaves_nothing_unfinished():
    """The next one is not told that it was cut off."""
    storage, state = fresh()
    state.unfinished = 0
    state.save()
    again = State(storage)
    assert again.begin("dev1", False) is False
    assert again.ending == 0


def test_another_client_id_is_refused_and_the_old_one_stays():
    """A new id is a new and empty session: what waits for the old one would be lost in silence."""
    storage, _ = fresh("old")
    state = State(storage)
    why = reason(ConfigError, state.begin, "new", False)
    assert "old" in why
    assert "new" in why
    again = State(storage)
    assert (again.device, again.wake) == ("old", 1)
    assert again.begin("old", False)


def test_no_count_is_too_high_to_be_saved():
    """The state is written at the end of every wake: a full byte must not keep a device from sleeping."""
    storage, state = fresh("x" * 64)
    state.failures = 255
    state.cutoffs = state.flights = 100000
    state.up = state.down = state.erases = 1 << 29
    state.phases = [1 << 29] * len(PHASES)
    state.unfinished = 255
    state.save()
    again = State(storage)
    assert (again.cutoffs, again.flights, again.up, again.down) == (255, 255, 65535, 65535)
    assert again.phases == [65535] * len(PHASES)
    again.begin("x" * 64, False)
    assert again.unfinished == 255


def test_a_file_that_is_cut_changed_or_of_another_version_counts_as_none():
    """Whole or absent, never half."""
    storage, state = fresh()
    good = storage.read("wake")
    for end in range(0, len(good), 5):
        storage.replace("wake", good[:end])
        assert State(storage).wake == 0, end
    for at in range(0, len(good), 3):
        bad = bytearray(good)
        bad[at] ^= 1
        storage.replace("wake", bytes(bad))
        assert State(storage).wake == 0, at
    storage.replace("wake", good)
    state._mark.save(b"\x63" + bytes(100))
    assert State(storage).wake == 0


def test_an_ending_of_a_newer_agent_is_read_as_finished():
    """Going back to an older agent must not end in an IndexError at every wake."""
    storage, state = fresh()
    state.ending = 200
    state.save()
    assert State(storage).ending == 0


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
    assert due(1.5, 3, 2)


def test_wakes_that_power_has_ended_are_not_counted_with_those_that_broke_by_themselves():
    """Else the first that breaks after a time of bad supply would leave the program out. Both leave a fence behind."""
    storage, _ = fresh()
    for powered, count in ((True, 0x12), (True, 0x13), (False, 0x24), (False, 0x35), (True, 0x16)):
        again = State(storage)
        assert again.begin("dev1", powered) is True
        assert (again.unfinished, ENDINGS[again.ending]) == (count, "cut off")
