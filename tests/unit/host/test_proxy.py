"""The measuring itself: a proxy that counted wrongly would prove anything."""

import socket
import threading
import time

import pytest

from dormouse_host.lab.bench.proxy import Proxy, packets

DELAY = 0.02
LONG = 0.5  # for a test whose own chunks must fit into a round trip


@pytest.fixture
def echo(request):
    """A server that sends back what it gets, with delays both ways in front of it: the proxy."""
    delay = getattr(request, "param", DELAY)

    def serve(peer: socket.socket) -> None:
        with peer:
            while data := peer.recv(65536):
                peer.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: serve(server.accept()[0]), daemon=True)
        thread.start()
        with Proxy(server.getsockname(), delay) as proxy:
            yield proxy
        thread.join(5)


def exchange(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    left = len(data)
    while left:
        left -= len(client.recv(left))


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_each_question_that_waits_for_an_answer_is_a_round_trip(echo, turns):
    with socket.create_connection((echo.host, echo.port)) as client:
        for _ in range(turns):
            exchange(client, b"x")
    conversation = echo.conversations[0]
    assert conversation.round_trips() == 1 + turns
    assert conversation.seconds() >= turns * 2 * DELAY


@pytest.mark.parametrize("echo", [LONG], indirect=True)
def test_questions_that_do_not_wait_share_one_round_trip(echo):
    """Many chunks, one turn: what is counted is causality, not packets."""
    with socket.create_connection((echo.host, echo.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(5):
            client.sendall(b"x")
            time.sleep(LONG / 10)
        left = 5
        while left:
            left -= len(client.recv(left))
    conversation = echo.conversations[0]
    assert len(conversation.up) > 1
    assert conversation.round_trips() == 2


def test_segments_are_those_of_an_ethernet_and_not_of_loopback(echo):
    with socket.create_connection((echo.host, echo.port)) as client:
        exchange(client, b"x" * 5000)
    assert echo.conversations[0].up[-1].segments == 4


def test_packets_are_split_by_their_lengths():
    assert packets(b"\xc0\x00\x30\x03abc") == [(0xC0, b""), (0x30, b"abc")]
    assert packets(b"\x30\x80\x01" + b"x" * 128) == [(0x30, b"x" * 128)]
    with pytest.raises(ValueError, match="cut off"):
        packets(b"\x30\x05abc")
