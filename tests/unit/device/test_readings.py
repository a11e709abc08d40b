"""A sample: each reading and each value is judged by itself, and what is dropped is named."""

import json

from desk import Port
from runner import folder

from dormouse import app
from dormouse.app import Context, telemetry
from dormouse.log import Log
from dormouse.pieces import Pieces
from dormouse.ports import posix  # which gives CPython the print_exception that the boards have
from dormouse.ports.storage import Storage
from dormouse.readings import sample

BOARD = posix.Port


class Bench:
    """One device with the readings that the test declares."""

    def __init__(self):
        app.clear()
        self.port = Port(Storage(folder()))
        self.log = Log(self.port)
        self.log.wake = 3

    def pieces(self, now, broken=False):
        """Those of a new wake."""
        return Pieces(self.port.storage, now, broken)

    def reading(self, name, value, every=0):
        def read(wake):
            return value() if callable(value) else value

        app.readings[name] = (read, every)

    def take(self, now=1000, before=0):
        """(values of each record, {what failed: why})."""
        context = Context(self.port, {"watchdog": 30}, self.log)
        records = [json.loads(data) for data in sample(context, self.log, self.pieces(now), now, before)]
        return records, self.log.failed_readings(2) or {}


def raising(error):
    def read():
        raise error

    return read


def test_one_value_that_is_no_json_costs_itself_alone():
    """NaN of one sensor used to lose every other reading of its wake."""
    bench = Bench()
    inf = 1e999
    bench.reading("air", {"temp": inf - inf, "hum": 41, "far": inf, "raw": b"x", "deep": {"a": [1, (2, None)]}})
    bench.reading("soil", {"soil": 41.5, 3: "x"})
    records, failed = bench.take()
    assert records == [{"hum": 41, "deep": {"a": [1, [2, None]]}, "soil": 41.5}]
    assert sorted(failed) == ["air.far", "air.raw", "air.temp", "soil.3"]
    assert "no JSON" in failed["air.temp"]


def test_a_reading_that_raises_ends_itself_alone_and_its_line_is_named():
    """Of any kind of error."""
    errors = [ValueError("no\nsensor"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), KeyError()]
    for error in errors:
        bench = Bench()
        bench.reading("a", raising(error))
        bench.reading("b", {"v": 1})
        records, failed = bench.take()
        assert records == [{"v": 1}]
        assert list(failed) == ["a"]
        assert failed["a"].startswith(type(error).__name__ + ": "), failed
        assert " at test_readings.py:" in failed["a"], failed
        assert "\n" not in failed["a"]


def test_a_reading_that_returns_no_dict_is_named():
    """None is an honest nothing; anything else was meant as something."""
    for value, kind in ((5, "int"), ([1], "list"), ("x", "str"), ((i for i in [1]), "generator")):
        bench = Bench()
        bench.reading("a", value)
        assert bench.take()[0] == []
        assert "no dict but " + kind in bench.log.failed_readings(2)["a"]
    bench = Bench()
    bench.reading("a", None)
    bench.reading("b", {})
    assert bench.take() == ([], {})


def test_of_two_values_with_one_key_the_first_is_stored_and_the_second_named():
    """In silence one of them was lost."""
    bench = Bench()
    bench.reading("air", {"temp": 20})
    bench.reading("soil", {"temp": 9, "wet": 1})
    assert bench.take() == ([{"temp": 20, "wet": 1}], {"soil.temp": "air has returned it already"})


def test_a_sample_that_is_long_goes_into_several_records_and_loses_nothing():
    """Twenty 1-Wire sensors are 591 bytes."""
    bench = Bench()
    wanted: dict = {"28ff641e8216b3%02x" % n: 21.4375 for n in range(20)}
    bench.reading("probes", wanted)
    bench.reading("zz", {"text": "x" * 490, "more": 1})
    records, failed = bench.take()
    assert failed == {}
    wanted.update(text="x" * 490, more=1)
    found: dict = {}
    for record in records:
        assert len(json.dumps(record, separators=(",", ":"))) <= 512
        found.update(record)
    assert found == wanted
    assert sum(map(len, records)) == len(wanted)
    assert len(records) <= 3


def test_a_value_that_no_record_holds_is_named_and_the_rest_is_stored():
    """The limit is that of one value."""
    bench = Bench()
    bench.reading("a", {"long": "x" * 512, "short": "x" * 500})
    records, failed = bench.take()
    assert records == [{"short": "x" * 500}]
    assert failed == {"a.long": "no JSON of at most 512 bytes"}


def test_the_schedule_of_a_reading_is_part_of_it():
    """Whatever it raises ends that reading alone."""
    bench = Bench()
    bench.reading("a", {"v": 1}, every="5m")
    bench.reading("b", {"w": 2}, every=300)
    bench.reading("c", {"x": 2}, every=3000)
    records, failed = bench.take(now=1000, before=500)
    assert records == [{"w": 2}]
    assert list(failed) == ["a"]


def test_what_failed_since_a_wake_is_told_from_flash_and_in_bounds():
    """A wake that only samples has nobody to tell: the next one that connects does it."""
    bench = Bench()
    bench.reading("a", raising(ValueError("first")))
    bench.take()
    bench.log.keep()
    log = Log(Port(bench.port.storage))
    log.wake = 4
    assert list(log.failed_readings(2)) == ["a"]
    assert log.failed_readings(3) is None
    for n in range(100):
        log("error", kind="telemetry", stage="reading%d" % n, why="y" * 200)
    failed = log.failed_readings(2)
    assert len(failed) > 3
    assert len(json.dumps(failed)) < 1000
    storage = Storage(folder())
    storage.replace("log", b'5 3 error {"kind":"telemetry","sta\n\n7\nx y error {"telemetry"\n')
    assert Log(Port(storage)).failed_readings(0) is None


def test_what_the_program_itself_logs_as_an_error_breaks_no_later_wake():
    """It stays on flash, and is read at each."""
    bench = Bench()
    for fields in ({}, {"stage": [1], "why": 5}, {"stage": None, "why": {"a": 1}}, {"stage": "mine", "why": [2]}):
        bench.log("error", kind="telemetry", **fields)
    assert bench.log.failed_readings(2)["mine"] == "[2]"


def test_a_declared_reading_is_taken():
    """With what @telemetry has noted."""
    bench = Bench()

    @telemetry(every=60)
    def climate(wake):
        return {"vbat": wake.battery()}

    assert bench.take() == ([{"vbat": 3.7}], {})
