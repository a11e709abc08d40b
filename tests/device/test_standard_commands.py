"""The built-in commands: what an owner can ask and change, and that no change locks him out.

Must stay true: each runs on a real device process, and is judged by what it answered and by what the device does
in its later wakes.
"""

import time
from typing import Any

import pytest

from dormouse_host.broker.local import free_port
from support.device_folder import APP, Device, Host, command, say
from support.peer import DISCONNECT, PUBACK, PUBLISH, Connection, Peer, honest, is_fence, keeps_listening

READING = (
    APP
    + """
@telemetry()
def level(wake):
    return {"level": 3}
"""
)


def asked(folder, interpreter, *payloads: bytes, app: str = APP, **config) -> tuple[Connection, list[dict[str, Any]]]:
    """One wake of a new device with these commands queued: the connection, and the results in order."""
    with Peer(honest(*payloads)) as peer:
        ran = Device(folder / "device", interpreter, peer.url, app, **config).wake()
        connection = peer.settled().last
    assert ran.code == 0, ran.output
    return connection, connection.results()


def test_ping_answers_with_the_milliseconds_awake_and_the_time(interpreter, tmp_path):
    """The shortest proof that a device is there and runs what it is sent."""
    _, (pong,) = asked(tmp_path, interpreter, command(None, 0, "ping"))
    assert pong["status"] == "succeeded"
    assert 0 <= pong["value"]["ms"] < 20000
    assert abs(pong["value"]["time"] - time.time()) < 60


def test_describe_tells_every_command_with_its_arguments_and_its_limit(interpreter, tmp_path):
    """With it the host refuses a wrong argument before it is sent."""
    app = """
from dormouse import command

@command("water", limit=60, repeatable=True, s=int, valve=(str, "left"))
def water(wake, s, valve):
    pass
"""
    connection, (told,) = asked(tmp_path, interpreter, command(None, 0, "describe"), app=app)
    commands = told["value"]["commands"]
    assert commands == [["water", [["s", "int"], ["valve", ["str", "left"]]], 60, True]]
    assert {"ping", "describe", "config", "reset"} <= set(told["value"]["standard"])
    assert len(connection.told("/up/wake")[0]["catalogue"]) == 8


def test_report_is_the_wake_report_at_this_moment(interpreter, tmp_path):
    """What came retained may be hours old."""
    connection, (told,) = asked(tmp_path, interpreter, command(None, 0, "report"))
    first = connection.told("/up/wake")[0]
    for key in ("wake", "state", "cause", "agent", "fw", "limit", "catalogue"):
        assert told["value"][key] == first[key]


def test_set_interval_counts_from_this_wake_on_and_survives_sleep(interpreter, tmp_path):
    """The next sleep is the new one already: a shorter interval is asked for because somebody waits."""
    with Peer(honest(command(None, 0, "set_interval", connect_every=60)), honest(present=True)) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        ran, after = device.wake(), device.wake()
        peer.settled()
    assert (ran.code, after.code) == (0, 0)
    assert 50 < ran.one("asleep")["next"] < 65
    assert 50 < after.one("asleep")["next"] < 65
    assert 50 < peer.last.told("/up/wake")[0]["next"] < 65


@pytest.mark.parametrize("args", [{"connect_every": 10**7}, {"sample_every": 10**7}])
def test_interval_out_of_range_changes_nothing(interpreter, tmp_path, args):
    """A device that sleeps for months is lost."""
    with Peer(honest(command(None, 0, "set_interval", **args))) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    (result,) = peer.results()
    assert result["status"] == "failed"
    assert next(iter(args)) in result["why"]
    assert 850 < ran.one("asleep")["next"] < 950


def test_config_is_kept_after_a_wake_that_finished_with_it(interpreter, tmp_path):
    """It is tried first, and then it stays."""
    with Peer(honest(command(None, 0, "config", set={"connect_every": 60, "budget": 15}))) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        first = device.wake()
        peer.scripts = [honest(present=True)]
        tried, later = device.wake(), device.wake()
        peer.settled()
    assert [ran.code for ran in (first, tried, later)] == [0, 0, 0]
    assert 850 < first.one("asleep")["next"] < 950
    assert all(50 < ran.one("asleep")["next"] < 65 for ran in (tried, later))
    assert "undone" not in peer.last.told("/up/wake")[0]


def test_config_that_keeps_a_wake_from_finishing_is_undone_at_the_next(interpreter, tmp_path):
    """A typing error in the broker's address must not lock the owner out; he is told what was undone."""
    dead = f"mqtt://127.0.0.1:{free_port()}"
    with Peer(honest(command(None, 0, "config", set={"broker": dead, "connect_every": 60}))) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        assert device.wake().code == 0
        peer.scripts = [honest(present=True)]
        lost = device.wake()
        assert lost.code == 1
        assert lost.one("connecting")["port"] == int(dead.rsplit(":", 1)[1])
        back, later = device.wake(), device.wake()
        peer.settled()
    assert (back.code, later.code) == (0, 0), back.output
    assert 850 < later.one("asleep")["next"] < 950
    assert peer.connections[1].told("/up/wake")[0]["undone"] == ["broker", "connect_every"]
    assert "undone" not in peer.connections[2].told("/up/wake")[0]


def test_config_on_trial_is_undone_after_a_power_cut_too(interpreter, tmp_path):
    """A setting may crash the device before it can say so."""
    with Peer(honest(command(None, 0, "config", set={"connect_every": 60}))) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        assert device.wake().code == 0
        peer.scripts = [keeps_listening]
        with device.start() as process:
            process.until("connecting")
            process.cut()
        peer.settled().scripts = [honest(present=True)]
        ran = device.wake()
    assert ran.code == 0, ran.output
    assert 850 < ran.one("asleep")["next"] < 950


WRONG = [  # (changed keys, words of the reason)
    ({"id": "other"}, "id can't be changed"),
    ({"root": "other"}, "root can't be changed"),
    ({"budget": 0}, "budget"),
    ({"colour": 1}, "unknown key colour"),
    ({"broker": "http://x"}, "broker"),
    ({"budget": "9"}, "budget is a number from 1 to 600"),
]


def test_config_that_is_wrong_is_refused_at_once(interpreter, tmp_path):
    """What can be seen to be wrong is never tried."""
    with Peer(honest(*(command(None, 0, "config", set=changed) for changed, _ in WRONG))) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        assert device.wake().code == 0
        peer.scripts = [honest(present=True)]
        assert device.wake().code == 0
        peer.settled()
    results = peer.results()
    assert [result["status"] for result in results] == ["failed"] * len(WRONG)
    for result, (_, words) in zip(results, WRONG, strict=True):
        assert words in result["why"]
    assert "undone" not in peer.last.told("/up/wake")[0]


def test_stay_awake_runs_new_commands_as_they_come_and_ends_in_time(interpreter, tmp_path, mosquitto):
    """A person at work does not wait for the next wake; and a forgotten one costs no battery."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    with Host(mosquitto.address) as host:
        assert device.wake().code == 0
        host.send(command(None, 0, "stay_awake", s=5))
        with device.start() as process:
            assert host.wait("up/result")[0]["value"] == {"s": 5}
            for n in range(3):
                host.send(say(f"live {n}"))
                assert host.wait("up/result", n + 2)[0]["value"] == {"said": f"live {n}"}
            assert process.child.poll() is None
            ran = process.end()
    assert ran.code == 0, ran.output
    assert ran.said == ["live 0", "live 1", "live 2"]
    assert 5000 <= ran.one("asleep")["ms"] < 19000, "and not to the budget's end"


def test_stay_awake_outlasts_the_budget_and_is_capped_at_an_hour(interpreter, tmp_path, mosquitto):
    """It has a deadline of its own; more than an hour at once is a mistake."""
    device = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    with Host(mosquitto.address) as host:
        assert device.wake().code == 0
        device.configure(budget=3, total=60)
        host.send(command(None, 0, "stay_awake", s=10**6))
        with device.start() as process:
            assert host.wait("up/result")[0]["value"] == {"s": 3600}
            time.sleep(3.5)
            host.send(say("after the budget"))
            assert host.wait("up/result", 2)[0]["status"] == "succeeded"
            host.send(command(None, 0, "stay_awake", s=0))
            ran = process.end()
    assert ran.code == 0, ran.output


def test_resend_sends_records_again_and_counts_those_that_are_gone(interpreter, tmp_path):
    """A PUBACK is no proof that the host has them: it asks for what it misses."""
    with Peer(honest()) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url, READING)
        for _ in range(3):
            assert device.wake().code == 0
        peer.scripts = [honest(command(None, 0, "resend", **{"from": 1, "to": 2}), present=True)]
        assert device.wake().code == 0
        peer.scripts = [honest(command(None, 0, "resend", **{"from": 2, "to": 99}), present=True)]
        assert device.wake().code == 0
        peer.settled()
    again, rest = peer.connections[-2:]
    assert [number for batch in again.told("/up/telemetry") for number, _, _ in batch["records"]] == [4, 1, 2]
    assert again.results()[0]["value"] == {"dropped": 0}
    assert sorted(number for batch in rest.told("/up/telemetry") for number, _, _ in batch["records"]) == [2, 3, 4, 5]


def test_fifth_ledger_is_refused_until_one_is_forgotten_and_a_forgotten_one_stays_refused(interpreter, tmp_path):
    """Windows for four; none is ever evicted, or an old command could run again."""

    def batch(*commands: tuple[int, str, dict]):
        def script(connection: Connection) -> None:
            flight = connection.flight()
            connection.welcome(flight)
            for number, ledger, what in commands:
                args = {key: value for key, value in what.items() if key != "do"}
                connection.command(command(connection.state, number, what["do"], ledger, **args))
            connection.return_fence(flight[-1])
            connection.serve()

        return script

    hello = {"do": "say", "text": "hello"}
    with Peer(batch(*((1, ledger, hello) for ledger in ("one", "two", "three", "four", "five")))) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        assert device.wake().said == ["hello"] * 4
        forget_one, forget_two = ({"do": "forget_ledger", "ledger": ledger} for ledger in ("one", "two"))
        peer.scripts = [batch((2, "five", forget_one), (3, "five", hello), (2, "one", hello), (2, "three", forget_two))]
        ran = device.wake()
        assert ran.said == ["hello"], ran.output
        peer.scripts = [batch((2, "two", hello), (1, "six", hello))]
        assert device.wake().said == ["hello"]
        peer.settled()
    first, second, third = (connection.results() for connection in peer.connections)
    refused = [result for result in first if result["status"] != "succeeded"]
    assert len(refused) == 1
    assert (refused[0]["final"], refused[0]["why"]) == (False, "4 ledgers are known already")
    by_id = {result["id"].partition("-")[2]: result for result in second}
    assert by_id["five.2"]["status"] == by_id["five.3"]["status"] == "succeeded"
    assert (by_id["one.2"]["status"], by_id["one.2"]["why"]) == ("unknown", "its ledger is forgotten")
    assert by_id["three.2"]["status"] == "succeeded", by_id["three.2"]
    statuses = {result["id"].partition("-")[2]: result["status"] for result in third}  # a refusal may go ahead
    assert statuses == {"two.2": "unknown", "six.1": "succeeded"}


def test_log_tells_what_went_wrong_in_earlier_wakes(interpreter, tmp_path):
    """Kept on flash, for there is no console where the device is."""
    device = Device(tmp_path / "device", interpreter, f"mqtt://127.0.0.1:{free_port()}")
    assert device.wake().code == 1
    with Peer(honest(b"rubbish"), honest(command(None, 0, "log"), present=True)) as peer:
        device.configure(broker=peer.url)
        assert [device.wake().code for _ in range(2)] == [0, 0]
        peer.settled()
    lines = peer.last.results()[0]["value"].splitlines()
    assert any(line.startswith("1 ") and " error " in line and "refused" in line for line in lines)
    assert any(line.startswith("2 ") and " rejected " in line for line in lines)


def test_log_is_bounded_and_keeps_the_newest(interpreter, tmp_path):
    """At most 2 KiB, however often it goes wrong."""
    device = Device(tmp_path / "device", interpreter, f"mqtt://127.0.0.1:{free_port()}")
    for _ in range(3):
        device.wake()
    (tmp_path / "device" / "state" / "log").write_bytes(b"1 1 error {}\n" * 157 + b"8 8 error {}\n")
    device.wake()
    with Peer(honest(command(None, 0, "log"))) as peer:
        device.configure(broker=peer.url)
        assert device.wake().code == 0
        peer.settled()
    text = peer.results()[0]["value"]
    assert len(text) <= 2048
    assert "8 8 error {}\n4 " in text
    assert (tmp_path / "device" / "state" / "log").stat().st_size <= 2048


def test_reset_confirms_its_result_first(interpreter, tmp_path):
    """Else it would come again at the next boot, for ever."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        connection.command(command(connection.state, 1, "reset"))
        connection.return_fence(flight[-1])
        result = connection.until(lambda packet: packet.kind == PUBLISH and packet.topic.endswith("up/result"))
        assert connection.results()[0]["status"] == "succeeded"
        connection.silent(0.3)  # it waits for the acknowledgement
        connection.send(b"\x40\x02" + result.pid.to_bytes(2, "big"))
        connection.until(lambda packet: packet.kind == DISCONNECT)

    again = honest(present=True)
    with Peer(script, again) as peer:
        device = Device(tmp_path / "device", interpreter, peer.url)
        ran = device.wake()
        assert ran.code == 0, ran.output
        after = device.wake()
        peer.settled()
    assert after.code == 0
    assert after.all("result") == []
    assert PUBACK in {packet.kind for packet in peer.connections[0].received}
    assert any(is_fence(packet) for packet in peer.connections[1].of(PUBLISH))
