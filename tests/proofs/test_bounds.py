"""What a wake may cost: erases of flash, which take 50 ms each and wear it out, and memory (`make flash-cost`).

Must stay true: measured on the real agent over the NOR model, with compaction in the mean.
"""

import pytest

from proofs.powercut import bounds, sweep
from support.needs import need_micropython, need_mosquitto


@pytest.fixture(scope="module")
def bench():
    need_micropython()
    need_mosquitto()
    with sweep.new_bench() as bench:
        yield bench


@pytest.mark.timeout(600)
def test_a_wake_with_one_command_and_one_record_takes_at_most_two_erases(bench):
    """Even the worst of them, short of the one in hundreds that compacts the journal."""
    cost = bounds.cost(bench, commands=1, records=1, wakes=120)
    print(bounds.table([cost]))
    assert cost.erases <= 2
    assert cost.years() > 50


@pytest.mark.timeout(600)
def test_ten_queued_commands_take_at_most_a_fifth_of_an_erase_each(bench):
    """Over enough wakes for the journal to be compacted: a group is one write, however many there are in it."""
    cost = bounds.cost(bench, commands=10, records=1, wakes=50)
    print(bounds.table([cost]))
    assert cost.each <= 0.2


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_a_thousand_queued_commands_take_no_more_memory_than_ten(bench):
    only_32_bit(bench)
    few, many = (bounds.memory(bench, commands) for commands in (10, 1000))
    print(f"{few} bytes in use with 10 queued commands, {many} with 1000")
    assert many - few <= bounds.GROWTH * 1024


@pytest.mark.timeout(600)
def test_a_thousand_queued_commands_get_by_with_the_heap_of_ten(bench):
    """Memory in use says nothing of the heap's holes."""
    only_32_bit(bench)
    few = bounds.smallest_heap(bench, 10)
    print(f"{few} KiB of heap with 10 queued commands")
    tries = (bounds.passes(bench, 1000, few + bounds.GROWTH) for _ in range(3))  # what meets what in the heap is chance
    assert any(tries)


def only_32_bit(bench):
    if bench.bits != 32:
        pytest.skip("a board's objects are those of a 32-bit interpreter")
