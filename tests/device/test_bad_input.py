"""What the outside world may get wrong: the broker, the payload, the app, the configuration.

Must stay true: each ends in one clear line of the log or in one `rejected` result with its reason, within the
budget, with exit code 1 (try again later) or 2 (fix it), and without a traceback.
"""

import json
import subprocess
from binascii import crc32

import pytest

from dormouse_host.broker.local import Mosquitto, free_port
from support import peers
from support.device_folder import APP, Device, Host, Ran, command, say
from support.needs import need_mosquitto
from support.peer import CONNECT, Connection, Peer, answers, connack, honest, packet, suback

BUDGET = 10  # none of these needs it; the machine may be busy
SILENT = {"budget": 2, "patience": 600}  # for a peer whose answer decides nothing


def failed(ran: Ran, code: int, budget: float = BUDGET) -> dict:
    """The only error of a wake that ended with `code`, in time."""
    assert ran.code == code, ran.output
    assert ran.in_time(budget)
    assert ran.events[-1].name == "asleep"
    return ran.one("error")


def waker(folder, interpreter, url: str, **config) -> Device:
    return Device(folder / "device", interpreter, url, **{"budget": BUDGET, **config})


# ---- the broker


def test_broker_that_is_not_there_is_refused_and_asked_again_later(interpreter, tmp_path):
    """The commonest fault of all."""
    ran = waker(tmp_path, interpreter, f"mqtt://127.0.0.1:{free_port()}").wake()
    error = failed(ran, 1)
    assert (error["kind"], error["stage"], error["why"]) == ("LinkError", "connect", "refused")
    assert ran.one("asleep")["next"] > 1500  # twice 900, less the jitter


def test_broker_whose_name_is_not_known_is_named(interpreter, tmp_path):
    """A typing error looks like this."""
    error = failed(waker(tmp_path, interpreter, "mqtt://no-such-broker.invalid").wake(), 1)
    assert (error["kind"], error["stage"]) == ("LinkError", "dns")
    assert "no-such-broker.invalid" in error["why"]


@pytest.mark.parametrize(
    "refusal, code, kind, words",
    [
        (1, 2, "ConfigError", "MQTT 3.1.1"),
        (2, 2, "ConfigError", "client id"),
        (3, 1, "LinkError", "unavailable"),
        (4, 2, "ConfigError", "wrong user or password"),
        (5, 2, "ConfigError", "not authorised"),
        (6, 1, "ProtocolError", "CONNACK code 6"),
    ],
)
def test_refusal_followed_by_a_reset_names_its_reason(interpreter, tmp_path, refusal, code, kind, words):
    """The flight behind a refused CONNECT is unread, so the broker's close is a RST: CONNACK is read all the same."""

    def script(connection: Connection) -> None:
        connection.next()
        connection.send(connack(refusal))
        connection.reset()

    with Peer(script) as peer:
        error = failed(waker(tmp_path, interpreter, peer.url).wake(), code)
        assert len(peer.connections) == 1
    assert (error["kind"], error["stage"]) == (kind, "connack")
    assert words in error["why"]


def test_refusal_that_a_reset_hid_is_learnt_by_a_connect_alone_in_the_next_wake(interpreter, tmp_path):
    """lwIP reports the reset before it hands over what came before it: a Pico W would never learn why."""

    def hides(connection: Connection) -> None:
        connection.next()
        connection.reset()

    def refuses(connection: Connection) -> None:
        assert [each.kind for each in connection.flight()] == [CONNECT]
        connection.send(connack(4))
        connection.reset()

    def accepts(connection: Connection) -> None:
        assert [each.kind for each in connection.flight()] == [CONNECT]
        connection.send(connack())
        flight = connection.flight()
        connection.send(*answers(flight))
        connection.command(say("after all"))
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(hides, refuses, hides, accepts, honest(present=True)) as peer:
        device = waker(tmp_path, interpreter, peer.url)
        assert "before CONNACK" in failed(device.wake(), 1)["why"]
        assert failed(device.wake(), 2)["why"] == "wrong user or password"
        failed(device.wake(), 1)
        ran = device.wake()
        assert ran.code == 0, ran.output
        assert ran.said == ["after all"]
        assert device.wake().code == 0
        peer.settled()
    assert len(peer.last.chunks[0]) > 100  # in one flight again


def test_wrong_password_is_named_and_no_secret_is_told(interpreter, tmp_path):
    """With a real mosquitto, whose refusal is a CONNACK and a reset."""
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "ann", "hunter2"], check=True)
    with Mosquitto(need_mosquitto(), ["allow_anonymous false", f"password_file {passwords}"]) as broker:
        device = waker(tmp_path, interpreter, broker.address.url)
        assert "password" in failed(device.wake(), 2)["why"]
        device.secrets(user="ann", password="letmein")
        ran = device.wake()
        assert "password" in failed(ran, 2)["why"]
        device.secrets(user="ann", password="hunter2")
        good = device.wake()
        assert good.code == 0, good.output
    for each in (ran, good):
        assert "letmein" not in each.output
        assert "hunter2" not in each.output
        assert "ann" not in each.output.replace("cannot", "")


@pytest.mark.parametrize(
    "behaviour, kind, words",
    [
        (peers.closes_at_once, "LinkError", "before CONNACK"),
        (peers.closes_after_connect, "LinkError", "before CONNACK"),
        (peers.speaks_http, "ProtocolError", "not an MQTT broker"),
        (peers.speaks_ssh, "ProtocolError", "not an MQTT broker"),
        (peers.stays_silent, "LinkError", "silent for 600 ms"),
        (peers.dies_after_connack, "LinkError", ""),
        (peers.never_acknowledges, "LinkError", ""),
    ],
)
def test_server_that_is_no_good_broker_is_one_clear_line(interpreter, tmp_path, behaviour, kind, words):
    """Whatever listens there: the wake ends in time and says what it met."""
    config = SILENT if behaviour in (peers.stays_silent, peers.dies_after_connack, peers.never_acknowledges) else {}
    with peers.serving(behaviour) as port:
        device = waker(tmp_path, interpreter, f"mqtt://127.0.0.1:{port}", **config)
        error = failed(device.wake(), 1, config.get("budget", BUDGET))
    assert error["kind"] == kind
    assert words in error["why"]


@pytest.mark.parametrize("granted, refused", [(0x80, True), (0, True), (1, False)])
def test_subscription_that_is_refused_is_an_error_and_not_an_empty_queue(interpreter, tmp_path, granted, refused):
    """umqtt.simple was told that all is well: without the subscription every queue looks empty."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.send(connack(), suback(flight[1].pid, granted), *answers(flight[2:]))
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        ran = waker(tmp_path, interpreter, peer.url).wake()
    assert ran.code == refused, ran.output
    if refused:
        assert "subscription" in failed(ran, 1)["why"]


@pytest.mark.parametrize(
    "garbage",
    [
        packet(0x30, b""),
        packet(0x32, b"\x00\x01"),
        packet(0x32, b"\xff\xffd"),
        packet(0x32, b"\x00\x01d\x00\x00{}"),
        packet(0x36, b"\x00\x01d\x00\x01{}"),
        packet(0x40, b"\x00"),
        packet(0x90, b"\x00\x01"),
        b"\x32\xff\xff\xff\xff\x7f",
        bytes(range(256)),
    ],
    ids=["empty", "no id", "topic too long", "id 0", "QoS 3", "short PUBACK", "short SUBACK", "length", "noise"],
)
def test_garbage_after_connack_ends_the_connection_and_not_the_wake(interpreter, tmp_path, garbage):
    """A peer that breaks the contract can't be understood any further; a new connection can."""

    def script(connection: Connection) -> None:
        connection.welcome(connection.flight())
        connection.send(garbage)
        connection.listen()

    with Peer(script, honest(say("whole"), present=True)) as peer:
        ran = waker(tmp_path, interpreter, peer.url, patience=2500).wake()
        assert len(peer.connections) == 2
    assert ran.code == 0, ran.output
    assert ran.said == ["whole"]


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
"""


NO_VALUE = "done, but its value is no JSON of at most 512 bytes"
FAULTS = [  # (command, status, words of the reason)
    ("raises", "failed", "KeyError"),
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
        assert (result["status"], words in result["why"]) == (status, True), result
        assert "value" not in result
        assert len(json.dumps(result)) < 300


BROKEN = {
    "raises": ("1 // 0\n", "ZeroDivisionError"),
    "syntax": ("def broken(:\n", "SyntaxError"),
    "missing": ("import no_such_module\n", "ImportError"),
    "exits": ("raise SystemExit(4)\n", "SystemExit"),
    "declares": ('from dormouse import command\ncommand("x", s=object)\n', "ConfigError"),
    "safe_state": ("def safe_state():\n    raise OSError(5)\n", "OSError"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_app_that_does_not_import_leaves_the_device_reachable_and_is_reported(interpreter, tmp_path, fault):
    """Its owner learns what is wrong, can ask and can repair; the device sleeps on schedule."""
    source, words = BROKEN[fault]
    asked = ["ping", "describe", "report", "log"]
    with Peer(honest(*(command(None, 0, each) for each in asked))) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url, source).wake()
        connection = peer.settled().last
    assert ran.code == 0, ran.output
    error = ran.one("error")
    assert (error["kind"], error["stage"]) == ("app", "import")
    reported = connection.told("/up/wake")[0]["app"].replace("ModuleNotFoundError", "ImportError")
    assert words in reported
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


# ---- what config.json may get wrong


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "id"),
        ("{", "config.json is not JSON"),
        ("[]", "config.json is not a JSON object"),
        ('{"id":"d","broker":"mqtt://h","colour":1}', "unknown key colour"),
        ('{"id":"d","broker":"mqtt://h","budget":"20"}', "budget is of the wrong type"),
        ('{"id":"d","broker":"mqtt://h","budget":0}', "budget is a number from 1 to 600"),
        ('{"id":"d","broker":"mqtt://h:port"}', "broker is mqtt://host[:port]"),
        ('{"id":"d","broker":"mqtt://user:secret@h"}', "broker is mqtt://host[:port]"),
        ('{"id":"d","broker":"mqtt://secret@h"}', "broker is mqtt://host[:port]"),
    ],
)
def test_configuration_that_is_wrong_names_the_key_and_ends_with_code_2(interpreter, tmp_path, text, words):
    """Fix it: trying again changes nothing. The device sleeps all the same. (All the rules: device/test_config.py.)"""
    device = Device(tmp_path / "device", interpreter, "mqtt://127.0.0.1:9")
    config = tmp_path / "device" / "config.json"
    config.unlink()
    if text is not None:
        config.write_bytes(text.encode("latin-1"))
    error = failed(device.wake(), 2)
    assert error["kind"] == "ConfigError"
    assert words in error["why"]
    assert "secret" not in error["why"]


def test_secrets_that_are_no_json_are_named_and_not_told(interpreter, tmp_path):
    """The file's name is enough to find the fault."""
    device = Device(tmp_path / "device", interpreter, "mqtt://127.0.0.1:9")
    (tmp_path / "device" / "secrets.json").write_text('{"password": "hunter2"')
    ran = device.wake()
    assert failed(ran, 2)["why"] == "secrets.json is not JSON"
    assert "hunter2" not in ran.output
