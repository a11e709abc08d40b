"""The link on real sockets: every wait has an end, and a link that drops is joined again while there is budget.

Must stay true: no test waits for a time of its own; what is judged is what the device's log says of its wake, with
a tenth of the budget to spare.
"""

import socket
import time

import pytest

from dormouse_host.broker.local import free_port
from support.device_folder import APP, Device, Host, Ran, command, say
from support.peer import PUBACK, PUBLISH, Connection, Peer, answers, connack, honest, is_fence, publish, stays_open

BUDGET = 2


def ended_in_time(ran: Ran, budget: float = BUDGET) -> dict:
    """The wake's only error; it ended within its budget and a tenth."""
    assert ran.code == 1, ran.output
    assert ran.in_time(budget)
    return ran.one("error")


def device(folder, interpreter, url: str, **config) -> Device:
    return Device(folder / "device", interpreter, url, **{"budget": BUDGET, **config})


NAMES = """
import socket
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, port, *more: real("127.0.0.1", %d, *more) + real("127.0.0.1", port, *more)
"""


@pytest.mark.parametrize("interpreter", ["cpython"], indirect=True)  # whose getaddrinfo a program can replace
def test_a_name_with_an_address_where_nobody_listens_is_tried_at_the_next(interpreter, tmp_path):
    """As ::1 of localhost, where the broker listens on 127.0.0.1."""
    with Peer(honest()) as peer:
        made = Device(tmp_path / "device", interpreter, f"mqtt://localhost:{peer.port}", app=NAMES % free_port() + APP)
        ran = made.wake()
    assert ran.code == 0, ran.output
    assert len(ran.all("connected")) == 1


def test_connect_that_is_never_answered_ends_within_budget(interpreter, tmp_path):
    """A dropped SYN: a firewall, or a router that is gone."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        filling = []
        for _ in range(3):  # the backlog is full then: Linux drops further SYNs
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(address)
            filling.append(each)
        time.sleep(0.1)
        ran = device(tmp_path, interpreter, f"mqtt://127.0.0.1:{address[1]}", patience=800, budget=10).wake()
        for each in filling:
            each.close()
    error = ended_in_time(ran)
    assert (error["stage"], error["why"]) == ("connect", "silent for 800 ms")


def test_patience_longer_than_the_budget_does_not_outlast_it(interpreter, tmp_path):
    """The budget is the wake's, whatever else is configured."""
    with Peer(stays_open) as peer:
        error = ended_in_time(device(tmp_path, interpreter, peer.url, patience=60000).wake())
    assert error["stage"] == "connack"


def test_connack_in_single_bytes_is_taken(interpreter, tmp_path):
    """TCP is a stream: a packet may come in any pieces."""

    def script(connection: Connection) -> None:
        flight = connection.flight()
        said = connack() + b"".join(answers(flight))
        for byte in said:
            connection.send(bytes((byte,)))
            time.sleep(0.005)
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(script) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output


def test_trickle_that_never_makes_a_packet_ends_within_budget(interpreter, tmp_path):
    """Each byte comes before patience is out: only the budget ends this."""

    def script(connection: Connection) -> None:
        connection.welcome(connection.flight())
        connection.send(b"\x32\x80\x10")
        while True:
            connection.send(b"\x01")
            time.sleep(0.1)

    with Peer(script) as peer:
        error = ended_in_time(device(tmp_path, interpreter, peer.url, patience=3000, budget=5).wake(), 5)
    assert "the wake's budget is used up" in error["why"]


def test_dropped_link_is_joined_again_in_the_same_wake(interpreter, tmp_path):
    """Wi-Fi drops for a moment: the next wake may be hours away."""

    def drops(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        connection.command(command(connection.state, 1, "say", text="taken"))
        connection.until(lambda packet: packet.kind == PUBACK)

    with Peer(drops, honest(say("left"), present=True)) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["taken", "left"]
    assert len(ran.all("rejoin")) == 1
    assert sorted(result["status"] for result in peer.results()) == ["succeeded", "succeeded"]


def test_acknowledgement_does_not_wait_for_the_rest_of_the_next_packet(interpreter, tmp_path):
    """A segment ends where it ends: half a PUBLISH behind a whole one, and the rest a round trip later."""

    def halves(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        state = connection.state
        both = [
            publish(connection.topic("down/cmd"), command(state, n, "say", text=f"{n}"), pid=n, qos=1) for n in (1, 2)
        ]
        connection.send(both[0], both[1][:30])
        connection.until(lambda packet: packet.kind == PUBACK and packet.pid == 1, 4)
        connection.send(both[1][30:])
        connection.return_fence(flight[-1])
        connection.serve()

    with Peer(halves) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["1", "2"]


def test_link_that_is_dead_behind_each_connack_is_tried_twice(interpreter, tmp_path):
    """Its silence costs patience and one more try, not the whole budget."""

    def dies(connection: Connection) -> None:
        connection.flight()
        connection.send(connack())
        connection.listen()

    with Peer(dies) as peer:
        ran = device(tmp_path, interpreter, peer.url, patience=400, budget=25).wake()
    error = ended_in_time(ran, 25)
    assert (error["stage"], error["why"]) == ("confirm", "silent for 400 ms")
    assert len(peer.connections) == 2


def test_result_whose_puback_was_lost_goes_again_over_the_next_connection(interpreter, tmp_path):
    """What is not confirmed is owed; the host stores it once by its id."""

    def takes_the_result(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        connection.command(command(connection.state, 1, "say", text="once"))
        connection.return_fence(flight[-1])
        connection.until(lambda packet: packet.kind == PUBLISH and packet.topic.endswith("up/result"))

    with Peer(takes_the_result, honest(present=True)) as peer:
        ran = Device(tmp_path / "device", interpreter, peer.url).wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == ["once"]
    first, second = (connection.results() for connection in peer.connections)
    assert first == second
    assert first[0]["value"] == {"said": "once"}


def test_results_of_a_wake_that_failed_go_in_the_next_first_flight(interpreter, tmp_path):
    """They are owed until a PUBACK, over sleep too."""

    def never_confirms(connection: Connection) -> None:
        flight = connection.flight()
        connection.welcome(flight)
        connection.command(command(connection.state, 1, "say", text="once"))
        connection.return_fence(flight[-1])
        connection.listen()

    def script(connection: Connection) -> None:
        flight = connection.flight()
        assert [result["status"] for result in connection.results()] == ["succeeded"]
        connection.welcome(flight, present=True)
        if is_fence(flight[-1]):
            connection.return_fence(flight[-1])
        connection.serve()

    with Peer(never_confirms) as peer:
        slow = device(tmp_path, interpreter, peer.url)
        ended_in_time(slow.wake())
        slow.configure(budget=20)
        peer.scripts = [script]
        ran = slow.wake()
        peer.settled()
    assert ran.code == 0, ran.output
    assert ran.said == []


def test_broker_that_restarts_while_the_device_sleeps_is_no_fault(interpreter, tmp_path, mosquitto):
    """With its session on disk nothing is lost."""
    sleeper = Device(tmp_path / "device", interpreter, mosquitto.address.url)
    assert sleeper.wake().code == 0
    with Host(mosquitto.address) as host:
        host.send(say("before"))
    mosquitto.stop()
    assert sleeper.wake().code == 1
    mosquitto.start()
    ran = sleeper.wake()
    assert ran.code == 0, ran.output
    assert ran.said == ["before"]
    assert ran.one("connected")["present"] is True
