"""What a payload or the app may get wrong (the files of a device: test_bad_files.py).

Must stay true: each ends in one clear line of the log or in one `rejected` result with its reason, within the
budget and without a traceback.
"""

import json
from binascii import crc32

import pytest

from support.device_folder import APP, Device, Host, command, say
from support.peer import Peer, honest

# ---- what a command may get wrong

TYPED = """
from dormouse import command

@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)

@command("mix", n=int, x=(float, 1.5), on=(bool, False), names=(list, None), more=(dict, None))
def mix(wake, n, x, on, names, more):
    return [n, x, on]
"""

BAD = [  # (what follows the id, words of the reason)
    ('"do":"nothing"', "unknown command nothing"),
    ('"do":"say"', "argument text is missing"),
    ('"do":"say","args":{"text":3}', "argument text is not of type str"),
    ('"do":"say","args":{"text":"a","loud":1}', "unknown argument loud"),
    ('"do":"say","args":["a"]', "args is not an object"),
    ('"do":"mix","args":{"n":"3"}', "argument n is not of type int"),
    ('"do":"mix","args":{"n":1.5}', "argument n is not of type int"),
    ('"do":"mix","args":{"n":true}', "argument n is not of type int"),
    ('"do":"mix","args":{"n":1,"on":1}', "argument on is not of type bool"),
    ('"do":"mix","args":{"n":null}', "argument n is not of type int"),
    ('"do":7', "do is missing or not a string"),
    ('"args":{}', "do is missing or not a string"),
    ('"do":"say","args":{"text":"a"},"exp":"soon"', "exp is not a number"),
    ('"void":"gone"', "void needs an id"),
    ('"do":"say","args":{"text":"a"', "not JSON"),
    ('"do":"say","args":{"text":"a"}}', "not JSON"),
    ('"do":' + "[" * 1020, "nested deeper than 8"),
    ('"do":' + '{"a":' * 300, "nested deeper than 8"),
    ('"do":"say","args":{"text":"' + "a" * 3000 + '"}', "bytes, above the limit of 2048"),
]


def test_command_that_is_wrong_is_rejected_with_its_reason_and_the_ones_around_it_run(interpreter, tmp_path, mosquitto):
    """Each is answered, so that its sender learns it; none ends the wake or comes again."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url, TYPED)
    with Host(mosquitto.address) as host:
        assert device.wake().code == 0
        state = host.wait("up/wake")["state"]
        host.send(say("first"))
        for number, (rest, _) in enumerate(BAD, 1):
            end = "" if rest.endswith(("[", '{"a":', ':"a"')) else "}"
            host.send(f'{{"id":"{state}-test.{number}",{rest}{end}'.encode())
        host.send(say("last"))
        ran = device.wake(heap="128k")
        assert ran.code == 0, ran.output
        assert ran.said == ["first", "last"]
        results = {result.get("id"): result for result in host.results(len(BAD) + 2) if "id" in result}
        for number, (rest, words) in enumerate(BAD, 1):
            result = results[f"{state}-test.{number}"]
            assert (result["status"], words in result["why"]) == ("rejected", True), (rest, result)
        assert device.wake().all("rejected") == []


NAMELESS = [  # (payload, words of the reason)
    (b"", "not JSON"),
    (b"water the roses", "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b'{"do":"say","args":{"text":"\xff"}}', "not JSON"),
    (b"[]", "not a JSON object"),
    (b"7", "not JSON"),
    (b'"say"', "not JSON"),
    (b"null", "not JSON"),
    (b"[" * 1020 + b"]" * 1020, "nested deeper than 8"),
    (b"{}", "do is missing or not a string"),
    (b'{"id":"7f3a-k9fe.017","do":"ping"}', "id is not <state>-<ledger>.<number>"),
    (b'{"id":17,"do":"ping"}', "id is not <state>-<ledger>.<number>"),
    (b'{"id":"","do":"ping"}', "id is not <state>-<ledger>.<number>"),
    (b'{"id":"a-b.99999999999","do":"ping"}', "id is not <state>-<ledger>.<number>"),
    (b'{"void":"cancelled"}', "void needs an id"),
]


def test_payload_without_a_legible_id_is_rejected_with_its_reason(interpreter, tmp_path):
    """`mosquitto_pub` sends anything; the answer still says why, and the CRC says to what."""
    with Peer(honest(*(payload for payload, _ in NAMELESS), say("next"))) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake(heap="128k")
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["next"]
    rejected = {result["crc"]: result for result in peer.results() if result["status"] == "rejected"}
    for payload, words in NAMELESS:
        result = rejected.pop(crc32(payload))
        assert words in result["why"], payload
        assert "id" not in result
    assert not rejected


def test_retained_command_without_an_id_is_rejected_and_with_one_runs_once(interpreter, tmp_path, mosquitto):
    """SUBSCRIBE at every wake delivers it at every wake (docs/design.md)."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    with Host(mosquitto.address) as host:
        device.wake()
        state = host.wait("up/wake")["state"]
        host.send(say("at every wake"), retain=True)
        wakes = [device.wake() for _ in range(2)]
        host.send(command(state, 1, "say", text="once"), retain=True)
        wakes += [device.wake() for _ in range(3)]
        assert [ran.said for ran in wakes] == [["at every wake"], [], ["once"], [], []]
        assert all(ran.code == 0 for ran in wakes)
        results = [result for batch in host.heard("up/result") for result in batch]
    # each comes live, without RETAIN, and with it at every SUBSCRIBE: the window answers those with the status
    assert {result["status"] for result in results if "id" in result} == {"succeeded"}
    refused = [result["why"] for result in results if result["status"] == "rejected"]
    assert len(refused) == 2
    assert all(why.startswith("retained and without an id") for why in refused)


# ---- what the app may get wrong

HANDLERS = """
import sys
import time
from dormouse import command

@command("say", text=str)
def say(wake, text):
    wake.log("say", text=text)

@command("raises")
def raises(wake):
    {}["missing"]

@command("exits")
def exits(wake):
    sys.exit(3)

@command("recurses")
def recurses(wake):
    return recurses(wake)

@command("greedy")
def greedy(wake):
    return len(bytearray(1 << 50))

@command("holds", limit=0.3)
def holds(wake):
    wake.hold(5)
    wake.log("say", text="past the limit")

@command("spins", limit=0.2)
def spins(wake):
    time.sleep(0.4)

@command("object")
def an_object(wake):
    return object()

@command("nan")
def nan(wake):
    return {"x": float("nan")}

@command("long")
def long(wake):
    return "x" * 600

@command("wide")
def wide(wake):
    return {3: "a key that is no string"}

@command("texts")
def texts(wake):
    raise ValueError("x" * 500 + "\\n")

@command("interrupts")
def interrupts(wake):
    raise KeyboardInterrupt

@command("sleeper")
def sleeper(wake):
    async def later():
        pass
    return later()

def inner():
    return 1 // 0

@command("deep")
def deep(wake):
    return inner()
"""


NO_VALUE = "done, but its value is no JSON of at most 512 bytes"
FAULTS = [  # (command, status, words of the reason)
    ("raises", "failed", "KeyError: missing at app.py:12 in raises"),
    ("interrupts", "failed", "KeyboardInterrupt"),
    ("sleeper", "failed", "it returned a "),
    ("deep", "failed", " at app.py:66 in inner, app.py:70 in deep"),
    ("exits", "failed", "SystemExit"),
    ("recurses", "failed", "Error: "),
    ("greedy", "failed", "Error"),
    ("texts", "failed", "ValueError: xxx"),
    ("holds", "interrupted", "went past its limit of 0.3 s"),
    ("spins", "interrupted", "went past its limit of 0.2 s"),
    ("object", "succeeded", NO_VALUE),
    ("nan", "succeeded", NO_VALUE),
    ("wide", "succeeded", NO_VALUE),
    ("long", "succeeded", NO_VALUE),
]


def test_handler_that_goes_wrong_is_told_and_the_ones_behind_it_run(interpreter, tmp_path):
    """The status says the truth about the effect: what was done is `succeeded`, even where its value can't be sent."""
    queue = [each for name, _, _ in FAULTS for each in (command(None, 0, name), say(f"after {name}"))]
    with Peer(honest(*queue)) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, HANDLERS).wake(heap="128k")
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == [f"after {name}" for name, _, _ in FAULTS]
    results = {result["do"]: result for result in peer.results()}
    for name, status, words in FAULTS:
        result = results[name]
        why = result["why"].replace("'", "")
        assert (result["status"], words in why) == (status, True), result
        assert "value" not in result
        assert len(json.dumps(result)) < 400
    logged = {fields["do"]: fields["why"] for fields in ran.all("result") if "why" in fields}
    assert logged["deep"] == results["deep"]["why"]


BROKEN = {
    "raises": ("1 // 0\n", "ZeroDivisionError", "at app.py:1 in <module>"),
    "syntax": ("\n\ndef broken(:\n", "SyntaxError", "at app.py:3"),
    "missing": ("import no_such_module\n", "ImportError", "at app.py:1 in <module>"),
    "exits": ("raise SystemExit(4)\n", "SystemExit", "at app.py:1 in <module>"),
    "interrupts": ("raise KeyboardInterrupt\n", "KeyboardInterrupt", "at app.py:1 in <module>"),
    "declares": ('from dormouse import command\ncommand("x", s=object)\n', "command x: argument s: ", ""),
    "safe_state": ("def safe_state():\n    raise OSError(5)\n", "OSError", "at app.py:2 in safe_state"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_app_that_does_not_import_leaves_the_device_reachable_and_is_reported(interpreter, tmp_path, fault):
    """Its owner learns what is wrong, can ask and can repair; the device sleeps on schedule."""
    source, words, place = BROKEN[fault]
    asked = ["ping", "describe", "report", "log"]
    with Peer(honest(*(command(None, 0, each) for each in asked))) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, source).wake()
        connection = peer.settled().last
    assert ran.code == 0, ran.output
    error = ran.one("error")
    assert (error["kind"], error["stage"]) == ("app", "import")
    reported = connection.told("/up/wake")[0]["app"].replace("ModuleNotFoundError", "ImportError")
    assert words in reported
    assert place in reported
    assert 850 < ran.one("asleep")["next"] < 950
    results = {result["do"]: result for result in connection.results()}
    assert [results[each]["status"] for each in asked] == ["succeeded"] * 4
    assert words in results["log"]["value"].replace("ModuleNotFoundError", "ImportError")


def test_reading_that_goes_wrong_costs_itself_alone(interpreter, tmp_path):
    """One bad sensor is no reason to lose the others, nor a command."""
    app = (
        APP
        + """
@telemetry()
def bad(wake):
    raise OSError(5)

@telemetry()
def good(wake):
    return {"level": 3}

@telemetry()
def none(wake):
    return None
"""
    )
    with Peer(honest(say("hello"))) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, app).wake()
        connection = peer.settled().last
    assert ran.code == 0, ran.output
    assert ran.said == ["hello"]
    assert ran.one("error")["stage"] == "bad"
    assert connection.told("/up/telemetry")[0]["records"][0][2] == {"level": 3}
    (failed,) = connection.told("/up/wake")[0]["readings"].items()
    assert failed[0] == "bad"
    assert failed[1].startswith("OSError: ")
    assert failed[1].endswith(" at app.py:11 in bad")


def test_what_a_reading_lost_in_a_wake_that_only_samples_is_told_by_the_next_that_connects(interpreter, tmp_path):
    """And by that one alone, once it has been told."""
    app = """
from dormouse import telemetry

@telemetry
def bare(wake):
    return {"never": 1}

@telemetry(every="5m")
def often(wake):
    return {"never": 1}

@telemetry()
def air(wake):
    if wake.config["led"]:
        return {"temp": 1e999 - 1e999, "hum": 40}
    return {"hum": 41}
"""
    with Peer(honest(), honest(), honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url, app, sample_every=60, led="x")
        assert device.wake().code == 0
        ran = device.wake("timer")
        assert ran.code == 0, ran.output
        assert "connected" not in [event.name for event in ran.events]
        device.configure(led="")
        device.wake()
        device.wake()
        peer.settled()
    told = [connection.told("/up/wake")[0] for connection in peer.connections]
    assert [list(report.get("readings", ())) for report in told] == [["air.temp"], ["air.temp"], []]
    batches = [batch for connection in peer.connections for batch in connection.told("/up/telemetry")]
    assert [record[2] for batch in batches for record in batch["records"]] == [
        {"hum": 40},
        {"hum": 40},
        {"hum": 41},
        {"hum": 41},
    ]
    for report in told:
        assert report["app"].split("; ")[0] == "telemetry bare: write @telemetry()"
        assert "telemetry often: every is a number" in report["app"]


def test_a_number_that_is_infinite_reaches_no_handler(interpreter, tmp_path):
    """Rejected on both interpreters; without an id, too."""
    app = (
        APP
        + """
@command("f", x=float)
def f(wake, x):
    wake.log("say", text=str(x))
"""
    )
    bad = [b'{"do":"f","args":{"x":%s}}' % x for x in (b"1e999", b"-1e999", b"NaN", b"Infinity")]
    with Peer(honest(*bad, b'{"do":"f","args":{"x":1.5}}')) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, app).wake()
        peer.settled()
    assert ran.said == ["1.5"]
    assert [result["status"] for result in peer.results()].count("rejected") == 4
