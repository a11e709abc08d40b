"""What a device remembers from one wake to the next: whole or absent, and nothing that a count can break."""

from desk import reason
from runner import folder

from dormouse.errors import ConfigError
from dormouse.ports.storage import Storage
from dormouse.state import ENDINGS, FENCE_DEAD, FENCE_NEW, FENCE_WORKS, PHASES, State


def fresh(device="dev1"):
    storage = Storage(folder())
    state = State(storage)
    state.begin(device)
    return storage, state


def numbers(state):
    """All that is kept, as a plain value."""
    names = "wake failures unfinished cutoffs fence alone present drained ended acked clock next_connect sampled ms"
    names += " ending flights up down erases phases device"
    return [getattr(state, name) for name in names.split()]


def test_the_first_wake_is_number_one_and_knows_nothing():
    """A device that was just flashed."""
    storage, state = fresh()
    assert (state.wake, state.unfinished, state.failures, state.fence, state.ended) == (1, 1, 0, FENCE_NEW, 0)
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
    assert (again.wake, again.unfinished) == (1, 1)
    assert again.begin("dev1") is True
    assert (again.wake, again.unfinished, ENDINGS[again.ending]) == (2, 2, "cut off")


def test_a_wake_that_ended_leaves_nothing_unfinished():
    """The next one is not told that it was cut off."""
    storage, state = fresh()
    state.unfinished = 0
    state.save()
    again = State(storage)
    assert again.begin("dev1") is False
    assert again.ending == 0


def test_another_client_id_is_refused_and_the_old_one_stays():
    """A new id is a new and empty session: what waits for the old one would be lost in silence."""
    storage, _ = fresh("old")
    state = State(storage)
    why = reason(ConfigError, state.begin, "new")
    assert "old" in why
    assert "new" in why
    again = State(storage)
    assert (again.device, again.wake) == ("old", 1)
    assert again.begin("old")


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
    again.begin("x" * 64)
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
