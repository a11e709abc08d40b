"""The report: its figures by hand, the same bytes from the same ledger on both databases, and words that stay words."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
import typer.testing

from dormouse_host import Fleet
from dormouse_host.cli import app
from dormouse_host.cli import desk as cli_desk
from dormouse_host.desk import charts, lanes, pdf, summary
from dormouse_host.desk.report import Asked, build
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds
from dormouse_host.ledger import lives
from support import desk
from support.desk import BEGIN, EVIL, HOSTILE, HOUR

UTC = ZoneInfo("UTC")
ALL = Asked(None, None, None, UTC, 3.3)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """The path of a ledger in which 45 hours have passed."""
    path = tmp_path_factory.mktemp("report") / "ledger.db"
    desk.lived(str(path), hours=45).fleet.close()
    return path


@pytest.fixture(scope="module")
def fleet(ledger):
    with Fleet(str(ledger)) as opened:
        yield opened


@pytest.fixture(scope="module")
def html(fleet):
    return build(fleet, ALL)


class Seen(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= set(attrs)

    def handle_data(self, data):
        self.text += data


def words(html: str) -> str:
    return " ".join(Seen(html).text.split())


def run(*args: str) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app.app, ["report", *args], standalone_mode=False)


def test_the_report_has_what_each_board_did(html):
    text = words(html)
    for part in ("p50", "p95", "Worst", "Commands by outcome", "Reading temp", "Reading moist", "Battery, V", "mAh"):
        assert part in text
    for part in ("Silent times", "Errors", "Awake in each wake", "Signal, dBm", "What it did and when"):
        assert part in text
    assert text.count("Raspberry Pi Pico W") == 4, "the fifth says nonsense for its firmware"


def test_the_same_ledger_gives_the_same_bytes_on_both_databases_and_in_every_place(
    ledger, fleet, html, tmp_path, monkeypatch, postgresql_url
):
    copy = tmp_path / "copy.db"
    fleet.backup(copy)
    out = tmp_path / "there.html"
    program = [sys.executable, "-m", "dormouse_host.cli", "report", "--db", str(copy), "-o", str(out)]
    environment = {**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    subprocess.run(program, env=environment, check=True, capture_output=True, timeout=60)
    assert out.read_text() == html
    with Fleet(str(copy)) as source:
        source.export_ledger(tmp_path / "all.jsonl")
    with Fleet(postgresql_url) as target:
        target.import_ledger(tmp_path / "all.jsonl")
        assert build(target, ALL) == html


def test_nothing_is_loaded_and_no_device_s_word_is_markup(html):
    seen = Seen(html)
    assert not seen.tags & {"script", "img", "iframe", "object", "link", "form", "input", "base", "foreignobject"}
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "srcdoc")]
    assert {value for name, value in seen.attributes if name == "href"} == {f"#d-bed-{n:02}" for n in (1, 2, 3, 4)} | {
        f"#d-{EVIL}"
    }
    assert HOSTILE in seen.text, "the words are there, as words"
    assert "://" not in html.replace("http://www.w3.org/2000/svg", "")


def test_the_figures_are_those_of_the_ledger(fleet):
    """Counted another way: from the exports."""
    life = fleet.life("bed-01", BEGIN, fleet.newest() + 1)
    found = summary.summarize(life, 3.3)
    sent = [row for row in fleet.export("commands", device="bed-01") if row["do"] != "describe"]
    assert found.outcomes == {"succeeded": 5, "cancelled": 2}
    assert sum(found.outcomes.values()) == len(sent)
    took = sorted(row["settled"] - row["entered"] for row in sent if row["status"] == "succeeded")
    assert found.delays is not None
    assert (found.delays.count, found.delays.p50, found.delays.worst) == (5, took[2], took[-1])
    assert found.wakes == len(list(fleet.export("wakes", device="bed-01"))) == 45
    told = [row["last"]["ms"] / 1000 for row in fleet.export("wakes", device="bed-01") if "last" in row]
    assert found.awake == pytest.approx(sum(told) + sorted(told)[len(told) // 2])
    assert found.awake is not None
    ma = {current.state: current.ma for current in kinds.load("RPI_PICO_W").current}
    of_wake = 0.3 * ma["working"] + 0.6 * ma["receiving"] + (found.awake / 45 - 0.9) * ma["receiving"]
    asleep = (life.until - life.wakes[0].began - found.awake) * ma["asleep"]
    assert found.mah == pytest.approx((45 * of_wake + asleep) / 3600, rel=0.005), "but for the bytes on the air"
    assert found.missing == 1, "record 5"


def test_a_device_that_missed_wakes_is_silent_from_when_it_was_due(fleet):
    end = fleet.newest() + 1
    (only,) = fleet.life("bed-02", BEGIN, end).silences
    assert only[1] - only[0] == pytest.approx(12 * HOUR, abs=120)
    (last,) = fleet.life("bed-04", BEGIN, end).silences
    assert last[1] == end
    assert fleet.life("bed-01", BEGIN, end).silences == []
    inside = fleet.life("bed-02", only[0] + HOUR, only[0] + 5 * HOUR)
    assert inside.silences == [(inside.since, inside.until)], "its last report lies before the span"


def test_a_silence_needs_more_than_two_missed_wakes():
    def wake(at: float) -> lives.Wake:
        return lives.Wake(at, "s", {"next": 900})

    assert lives.silences([wake(0), wake(2000)], 0, 2500, 2500) == []
    assert lives.silences([wake(0), wake(9000)], 0, 9100, 9100) == [(900, 9000)]


def test_a_device_that_was_never_heard_is_in_the_report(tmp_path):
    """As half of those that were just provisioned: no wake, no silence, and a report all the same."""
    assert lives.silences([], 0, 100, 100) == []
    with Fleet(str(tmp_path / "ledger.db")) as fleet:
        fleet.add("bench-01")
        fleet.send("bench-01", "ping")
        life = fleet.life("bench-01", fleet.newest() - 3600, fleet.newest() + 1)
        assert (life.wakes, life.silences) == ([], [])
        assert "bench-01" in build(fleet, ALL)


def test_an_error_has_its_reason():
    """Two wakes that failed for another reason are two lines."""
    said = [{"ended": "failed", "why": why} for why in ("no access point", "no access point", "refused", "x" * 999)]
    wakes = [lives.Wake(float(at), "s", {"last": last}) for at, last in enumerate([*said, {"ended": "failed"}])]
    life = lives.Life("dev", 0, 9, (), wakes, [], [], [], [], [], [], [], 0, True)
    found = {fault.text: fault.count for fault in summary.faults(life)}
    assert list(found.items())[:2] == [("failed: no access point", 2), ("failed: refused", 1)]
    assert [len(text) for text in found][2:] == [200, len("failed")]


def test_quantiles_are_values_that_were_measured():
    values = [float(n) for n in range(1, 101)]
    assert (summary.quantile(values, 0.5), summary.quantile(values, 0.95)) == (50, 95)
    assert (summary.quantile([7.0], 0.5), summary.quantile([1.0, 9.0], 0.95)) == (7, 9)


def test_the_day_on_which_a_battery_is_empty():
    falling = [(HOUR * n, 4.0 - 0.001 * n) for n in range(100)]
    assert summary.forecast(falling, 3.3) == pytest.approx(700 * HOUR, rel=0.001)
    spoiled = [(at, 0.0 if at == 50 * HOUR else value) for at, value in falling]
    assert summary.forecast(spoiled, 3.3) == pytest.approx(700 * HOUR, rel=0.01), "one wrong reading turns nothing"
    assert summary.forecast([(at, 8 - value) for at, value in falling], 3.3) is None, "it is charged"
    assert summary.forecast(falling[:4], 3.3) is None
    assert summary.forecast([(at / 100, value) for at, value in falling], 3.3) is None, "an hour tells nothing"


def test_a_lane_with_many_marks_shows_how_many(fleet):
    life = fleet.life("bed-01", BEGIN, fleet.newest() + 1)
    few = lanes.picture(life, UTC)
    assert few.count("<title>") > 140
    many = lives.Life(**{**vars(life), "wakes": life.wakes * 20})
    assert lanes.picture(many, UTC).count("<rect") < 320 + few.count("<rect")


def test_a_chart_keeps_every_peak():
    points = [(float(n), 99.0 if n == 31_234 else n % 7) for n in range(50_000)]
    scale = charts.Scale(0, 50_000)
    thin = charts.thinned(points, scale)
    assert (31_234.0, 99.0) in thin
    assert len(thin) < 1500


def test_charts_of_odd_values_are_drawn():
    for values in ([0.0], [5.0, 5.0], [-1e9, 1e9], [1e-7, 2e-7]):
        points = [(float(n), value) for n, value in enumerate(values)]
        assert charts.line(points, charts.Scale(0, 10), UTC, "odd").count("nan") == 0
    assert charts.line([], charts.Scale(0, 10), UTC, "none") == ""
    assert charts.axis(charts.Scale(5, 5), 100, UTC)


def test_the_span_counts_back_from_the_newest_entry(ledger, fleet, tmp_path):
    out = tmp_path / "week.html"
    assert run("--db", str(ledger), "-o", str(out), "--since", "10h", "--zone", "Europe/Berlin").exception is None
    text = words(out.read_text())
    assert "(10 h), times of Europe/Berlin" in text
    assert run("--db", str(ledger), "-o", str(out), "--group", "garden").exception is None
    assert "bed-03" not in out.read_text()
    assert "Fleet report: garden" in words(out.read_text())


def test_a_span_with_an_end_counts_back_from_now_at_both(ledger, tmp_path, monkeypatch):
    """As `dormouse log` has it: what was 5 hours ago until what was 3 hours ago."""
    monkeypatch.setattr(cli_desk, "time", SimpleNamespace(time=lambda: BEGIN + 46 * HOUR))
    out = tmp_path / "span.html"
    assert run("--db", str(ledger), "-o", str(out), "--since", "5h", "--until", "3h").exception is None
    assert "(2 h), times of UTC" in words(out.read_text())
    error = run("--db", str(ledger), "-o", str(out), "--since", "1h", "--until", "2h").exception
    why = "--since 1h is not before --until 2h: give --since the earlier moment"
    assert isinstance(error, HostError)
    assert (str(error), error.code) == (why, 2)


@pytest.mark.parametrize(
    "args, why",
    [
        (["-o", "r.html", "--since", "2h", "--until", "2h"], "--since 2h is not before --until 2h"),
        (["-o", "r.html", "--since", "2020-01-02", "--until", "2020-01-01"], "--since 2020-01-02 is not before"),
        (["-o", "r.txt"], "expected a name that ends in .html or .pdf"),
        (["-o", "r.html", "--zone", "Nowhere/Town"], "no time zone"),
        (["-o", "r.html", "--zone", "../etc/passwd"], "no time zone"),
        (["-o", "r.html", "--group", "none"], "no group none"),
        (["-o", "r.html", "--since", "2099-01-01"], "is not before the end"),
        (["-o", "r.html", "--until", "2000-01-01"], "nothing to report yet"),
        (["-o", "/nowhere/r.html"], "/nowhere"),
    ],
)
def test_what_cannot_be_reported_is_one_line(ledger, tmp_path, monkeypatch, args, why):
    monkeypatch.chdir(tmp_path)
    error = run("--db", str(ledger), *args).exception
    assert isinstance(error, HostError | OSError)
    assert why in str(error)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_ledger_has_nothing_to_report(tmp_path):
    with Fleet(str(tmp_path / "new.db")) as fleet:
        with pytest.raises(HostError, match="no devices yet"):
            build(fleet, ALL)
        fleet.add("bed-01")
        with pytest.raises(HostError, match="nothing to report yet"):
            build(fleet, ALL)


def test_a_pdf_is_printed_where_chromium_is(ledger, tmp_path, monkeypatch):
    out = tmp_path / "report.pdf"
    if pdf.chromium() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed: apt-get install chromium", pytrace=False)
        pytest.skip("chromium is not installed")
    assert run("--db", str(ledger), "-o", str(out), "--since", "5h", "--group", "garden").exception is None
    assert out.read_bytes().startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", out.read_bytes())) >= 3, "a page for each device"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    error = run("--db", str(ledger), "-o", str(out)).exception
    assert "apt-get install chromium" in str(error)
