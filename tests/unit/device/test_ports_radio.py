"""Joining Wi-Fi: fast with what is known, one scan where that is wrong, and every failure by its stage."""

import os
from binascii import crc32
from struct import pack

import hardware
from hardware import CONFIG, SECRETS, both, wake

BEST = b"\x02" * 6  # the stronger of the two access points
OPEN = dict(CONFIG, networks=[(b"home", b"")])


def test_second_join_needs_no_scan_and_no_dhcp():
    """A scan takes seconds, DHCP up to one: the wake after a good one has neither."""

    def check(world, kind):
        assert wake(world, kind) is None
        assert len(world.told("scan")) == 1
        assert wake(world, kind) is None
        assert world.told("scan") == []
        assert world.told("static") == [(world.address,)]
        (join,) = world.told("connect")
        assert join[0:2] == (b"home", b"abc")
        assert join[2] == ({"bssid": BEST, "channel": 11} if kind == "rp2" else {"bssid": BEST})

    both(check)


def test_radio_is_off_before_sleep():
    """Else it draws 100 mA on an ESP32, and ends a Pico's sleep at once."""

    def check(world, kind):
        wake(world, kind)
        assert world.told("radio")[-1] == (False,)
        last = world.events.index(("radio", False))
        assert [words[0] for words in world.events[last + 1 :]] in (["deepsleep"], ["reset"])

    both(check)


def test_address_is_asked_for_again_after_an_hour():
    """A lease ends, and the address may be another's by then."""

    def check(world, kind):
        wake(world, kind)
        world.seconds += 3601
        assert wake(world, kind) is None
        assert world.told("static") == []
        assert world.told("scan") == []

    both(check)


def test_clock_that_went_back_makes_the_address_old():
    """A Pico W after a loss of power is in 2021 again: nobody knows how long it was off."""

    def check(world, kind):
        wake(world, kind)
        world.seconds -= 500
        wake(world, kind)
        assert world.told("static") == []

    both(check)


def test_what_proves_wrong_is_given_up_for_one_scan():
    """The access point was replaced: the same wake finds the new one, and the next is fast again."""

    def check(world, kind):
        wake(world, kind)
        world.points = [(b"home", b"\x03" * 6, 1, -40, 3, False)]
        world.answers = [-2 if kind == "rp2" else 201, "ok"]
        assert wake(world, kind) is None
        assert len(world.told("scan")) == 1
        assert world.told("dhcp") == [(True,)]
        assert world.told("connect")[-1][2]["bssid"] == b"\x03" * 6
        assert wake(world, kind) is None
        assert world.told("scan") == []

    both(check)


def test_silent_access_point_costs_five_seconds_before_the_scan():
    """No status comes: the limit of the fast way ends it."""

    def check(world, kind):
        wake(world, kind)
        world.answers = ["slow", "ok"]
        before = world.ms
        assert wake(world, kind) is None
        assert 5000 <= world.ms - before < 5500

    both(check)


def test_other_network_or_password_is_not_joined_with_the_old_ones_address():
    """The configuration changed: BSSID and address belong to the network before."""

    def check(world, kind):
        wake(world, kind)
        assert wake(world, kind, config=dict(CONFIG, networks=[(b"home", b"new")])) is None
        assert (len(world.told("scan")), world.told("static")) == (1, [])

    both(check)


def test_failed_wake_asks_for_an_address_at_the_next():
    """Joined with an address that is somebody else's by now: nothing but DHCP gets out of that."""

    def check(world, kind):
        wake(world, kind)
        port_class, _, _ = hardware.boot(world, kind)
        port = port_class("timer")
        port.start(CONFIG)
        port.join(CONFIG, SECRETS, 20000)
        assert len(world.told("static")) == 1
        port.forget()  # as the agent does when the broker does not answer
        try:
            port.sleep(1000)
        except hardware.Reset:
            pass
        assert wake(world, kind) is None
        assert (world.told("static"), world.told("scan")) == ([], [])

    both(check)


def test_each_failure_has_its_stage():
    """`make flash` tells the owner from it what to do."""

    def check(world, kind):
        none, password = (-2, -3) if kind == "rp2" else (201, 202)
        for answer, stage in ((none, "ap"), (password, "password"), ("slow", "address"), ("ok", None)):
            world.answers = [answer]
            assert wake(world, kind) == stage, (kind, answer)
        world.answers = [-1 if kind == "rp2" else 203]
        assert wake(world, kind, config=OPEN) == "join"
        world.points = []
        assert wake(world, kind, config=OPEN) == "ap"
        assert world.told("connect") == [], "nobody of that name: nothing to wait for"
        assert wake(world, kind, config=dict(CONFIG, networks=[(b"", b"")])) == "join"

    both(check)


def test_one_failure_by_chance_does_not_end_the_wake():
    """Associating fails now and then, more often far from the access point."""

    def check(world, kind):
        world.answers = [-1 if kind == "rp2" else 203, "ok"]
        assert wake(world, kind) is None

    both(check)


def test_network_that_hides_its_name_is_tried_all_the_same():
    """Its access point answers only to who names it."""

    def check(world, kind):
        world.points = [(b"", b"\x05" * 6, 3, -50, 3, True)]
        assert wake(world, kind) is None
        assert world.told("connect") == [(b"home", b"abc", {})]

    both(check)


def test_a_name_that_is_no_utf8_is_joined_by_its_bytes():
    """Old access points write Latin-1."""

    def check(world, kind):
        world.points = [(b"Caf\xe9", BEST, 11, -50, 3, False)]
        assert wake(world, kind, config=dict(CONFIG, networks=[(b"Caf\xe9", b"")])) is None
        assert world.told("connect")[-1][0] == b"Caf\xe9"
        assert world.told("connect")[-1][2]["bssid"] == BEST

    both(check)


def test_joining_ends_at_the_deadline():
    """However long the address takes, and whatever was tried before."""

    def check(world, kind):
        wake(world, kind)
        world.answers = ["slow"]
        assert wake(world, kind, deadline=7000) == "address"

    both(check)


def test_garbage_in_retained_memory_costs_a_scan_and_nothing_else():
    """After a loss of power it holds anything."""
    world = hardware.World()
    wake(world, "esp32")
    good = world.memory
    flipped = bytes((good[10] ^ 1,))
    bad = [b"", b"\x00" * 2048, b"\xff" * 2048, os.urandom(2048), good[:-1], good + b"\0"]
    bad += [good[:10] + flipped + good[11:], b"\x63" * len(good)]
    other = b"\x02" + good[5:]  # of a version to come, with its checksum
    bad.append(pack("<I", crc32(other, 77)) + other)
    for memory in bad:
        world.memory = memory
        assert wake(world, "esp32") is None
        assert (len(world.told("scan")), world.told("static")) == (1, [])
    world.memory = good
    wake(world, "esp32")
    assert world.told("scan") == []


def test_up_already_is_not_joined_again():
    """The second connection of a wake."""

    def check(world, kind):
        port_class, _, _ = hardware.boot(world, kind)
        port = port_class("timer")
        port.start(CONFIG)
        port.join(CONFIG, SECRETS, 20000)
        port.join(CONFIG, SECRETS, 20000)
        assert len(world.told("connect")) == 1

    both(check)
