"""`dormouse bench`: the counts that no busy machine changes, and the picture.

Must stay true: only counts and ratios are judged here; the figures for people come from `make bench`.
"""

import json
import queue
import subprocess
import sys
import time
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from dormouse_host.lab.bench import cases, measure, table
from dormouse_host.lab.bench.proxy import Proxy, packets
from support.needs import need_micropython, need_mosquitto

PROGRAM = [sys.executable, "-m", "dormouse_host.cli", "bench", "--proxy", "--no-heap", "--runs", "1"]


pytestmark = pytest.mark.timeout(1000)  # thrice the longest run


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Rows of the case with ten of each, and the picture.

    An agent that a busy machine held up asks for its fence a second time, or is overtaken by the proxy between two
    writes, which is no fault of the agent's and more than it needs: of three runs the first without that counts, if
    there is one.
    """
    need_mosquitto()
    need_micropython()
    svg = tmp_path_factory.mktemp("bench") / "wake.svg"
    for _ in range(3):
        done = subprocess.run(
            [*PROGRAM, "--case", "10,10", "--json", "--svg", str(svg)], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        rows = {row["style"]: row for row in map(json.loads, done.stdout.splitlines())}
        if rows["ours"]["causal"] == 3 and rows["ours"]["segments"] <= cases.SEGMENTS:
            break
    return rows, svg.read_text()


def test_our_wake_takes_three_round_trips_by_causality_and_the_scripts_one_for_each_publish(measured):
    rows, _ = measured
    assert rows["ours"]["causal"] == 3
    assert rows["tuned"]["causal"] >= 22
    assert rows["plain"]["causal"] >= 22


def test_ten_of_each_take_few_segments_and_no_more_bytes_than_the_bare_protocol_by_a_third(measured):
    rows, _ = measured
    ours, bare = rows["ours"], rows["tuned"]
    assert ours["segments"] <= cases.SEGMENTS
    assert ours["up"] + ours["down"] <= cases.BYTES * (bare["up"] + bare["down"])
    assert rows["plain"]["writes"] > 3 * bare["writes"]


def test_flash_of_a_wake_is_counted(measured):
    rows, _ = measured
    assert 1 <= rows["ours"]["erases"] <= 4
    assert rows["ours"]["flash_ms"] >= 50 * rows["ours"]["erases"]
    assert rows["tuned"]["erases"] is None


@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_a_heap_of_64_kib_is_enough_with_the_agent_in_romfs(case):
    """For every case, a thousand queued commands included: memory is bounded, whatever waits at the broker."""
    if need_micropython().bits != 32:
        pytest.skip("a board's objects are those of a 32-bit interpreter")
    with measure.Bench(need_mosquitto()) as bench:
        assert measure.passes(bench, "ours", case, cases.HEAP, rom=True)
        assert not measure.passes(bench, "ours", case, cases.HEAP // 2, rom=True), "this test could not fail"


class Gathering(Proxy):
    """What the broker sends within 50 ms arrives together, however busy the machine is."""

    split = False  # in two parts, 250 ms apart, where it is long: a busy machine has done the first by then

    def _forward(self, late, sink):
        together: queue.Queue = queue.Queue()
        self._start(super()._forward, together, sink)
        chunk = late.get()
        while chunk:
            data, following = chunk.data, chunk
            while following:
                try:
                    following = late.get(timeout=0.05)
                except queue.Empty:
                    break
                data += following.data if following else b""
            at = between_packets(data) if self.split and not chunk.up and len(data) > 500 else len(data)
            for n, part in enumerate(filter(None, (data[:at], data[at:]))):
                together.put(replace(chunk, data=part, went=time.monotonic() + cases.DELAY + 0.25 * n))
            chunk = following and late.get()
        together.put(None)


class Splitting(Gathering):
    """As from a broker that is interrupted between two commands."""

    split = True


def between_packets(data):
    """Where about half of the bytes end, and a packet with them."""
    at = 0
    for _, body in packets(data):
        if at > len(data) / 2:
            break
        at += len(body) + (2 if len(body) < 128 else 3)
    return at


def wake(monkeypatch, proxy, style):
    need_micropython()
    monkeypatch.setattr(measure, "Proxy", proxy)
    with measure.Bench(need_mosquitto()) as bench:
        return measure.wake(bench, style, (10, 10))


def test_tls_costs_the_handshake_and_one_record_a_flight(monkeypatch):
    ours, secure = (wake(monkeypatch, Gathering, style) for style in ("ours", "ours, TLS"))
    assert ours.writes == 4, "first flight, PUBACKs, results, end record"
    assert secure.writes == 4, "of ours, each one record"
    assert 3 <= secure.causal <= 6
    assert secure.up > ours.up


def test_commands_that_arrive_in_two_parts_cost_a_second_write_of_pubacks_and_no_round_trip(monkeypatch):
    """What a busy broker does: the fifth write. Waiting for the rest would be a guessed pause."""
    row = wake(monkeypatch, Splitting, "ours")
    assert (row.writes, row.causal) == (5, 3)


def test_picture_has_a_lane_for_each_and_a_mark_for_every_chunk(measured):
    rows, svg = measured
    tree = ElementTree.fromstring(svg)
    texts = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in cases.STYLES] == ["ours", "plain", "tuned"]
    marks = [line for line in tree.iter("{http://www.w3.org/2000/svg}line") if line.get("stroke") != "#e4e4e4"]
    assert len(marks) == sum(len(row["flights"]) for style, row in rows.items() if style != "ours, TLS")


def test_missed_target_is_told():
    row = cases.Row("ours", 3, 1, useful=3.16, asleep=3.3, causal=3, up=1, down=1, segments=1, writes=1)
    assert [met for _, met in table.judged([row])] == [False]


@pytest.mark.parametrize("case", ["ten,ten", "3", "1,0", "-1,1"])
def test_case_that_is_none_is_refused(case):
    done = subprocess.run([*PROGRAM, f"--case={case}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "two numbers" in done.stderr
