"""What the rules of a wire do to a packet; on real kernels they run in `make wire`."""

import struct

from dormouse_host.lab import wire


def packet(up: bool = True, size: int = 100, ports: tuple[int, int] = (40000, 1883), came: float = 10.0) -> wire.Packet:
    source, target = ports if up else ports[::-1]
    addresses = bytes((127, 0, 0, 1, 127, 0, 0, 2))
    tcp = struct.pack(">HHIIBBHHH", source, target, 7, 9, 0x50, wire.ACK, 4321, 0, 0) + bytes(range(size % 256))
    tcp = tcp[:16] + struct.pack(">H", checksum(addresses, tcp)) + tcp[18:]
    head = struct.pack(">BBHHHBBH8s", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, addresses)
    return wire.Packet(up, head + tcp, came, wire.ACK, size, 7, ports)


def checksum(addresses: bytes, tcp: bytes) -> int:
    """Of TCP, with its pseudo header (RFC 9293)."""
    data = addresses + struct.pack(">HH", 6, len(tcp)) + tcp + b"\0" * (len(tcp) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_closed_window_has_a_checksum_that_holds():
    rule = wire.shut(0.1, 5)
    rule(packet())
    ((_, data),) = rule(packet(up=False))
    assert struct.unpack_from(">H", data, 34) == (0,)
    assert checksum(data[12:20], data[20:]) == 0
    ((_, later),) = rule(packet(up=False, came=16))
    assert struct.unpack_from(">H", later, 34) == (4321,)


def test_black_hole_takes_what_is_long_and_goes_up():
    rule = wire.black_hole(0.1, 120)
    assert list(rule(packet(size=81))) == []
    assert len(rule(packet(size=80))) == 1
    assert len(rule(packet(up=False, size=81))) == 1


def test_dead_connection_stays_dead_and_the_next_lives_as_long():
    rule = wire.dead_after(0.1, 1)
    assert rule(packet())
    assert rule(packet(up=False)), "its first segment with data arrives"
    assert not rule(packet()), "and nothing after it"
    assert not rule(packet(up=False))
    assert rule(packet(ports=(40001, 1883)))


def test_shares_are_kept_and_a_seed_repeats_them():
    lost = [not wire_rule(packet()) for wire_rule in [wire.lossy(0.1, 0.3, 5)] for _ in range(1000)]
    again = [not wire_rule(packet()) for wire_rule in [wire.lossy(0.1, 0.3, 5)] for _ in range(1000)]
    assert lost == again
    assert 250 < sum(lost) < 350
    twice = wire.doubled(0.1, 0.5, 6)
    assert {len(twice(packet())) for _ in range(50)} == {1, 2}
    late = wire.shuffled(0.1, 0.5, 7)
    assert {rule[0][0] for rule in (late(packet()) for _ in range(50))} == {0.1, 0.1 * 1.5}
