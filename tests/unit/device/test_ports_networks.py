"""Joining one of several Wi-Fis, with an address of one's own, and networks that not every port can join."""

import hardware
from hardware import CONFIG, SECRETS, both, wake

from dormouse.errors import LinkError

BEST = b"\x02" * 6  # the stronger of the two access points
HOUSE, BARN, FIELD = (b"house", b"one"), (b"barn", b"two"), (b"field", b"three")
THREE = dict(CONFIG, networks=[HOUSE, BARN, FIELD])


def points(*names):
    """What a scan finds."""
    return [(name, name[:1] * 6, 6, -60, 3, False) for name in names]


def refusal(world, kind, config):
    """Stage and reason of a wake that does not join."""
    port_class, _, _ = hardware.boot(world, kind)
    port = port_class("timer")
    port.start(config)
    try:
        port.join(config, SECRETS, 20000)
    except LinkError as e:
        return e.stage, e.reason


def asked(world):
    """The networks that were tried, in order."""
    return [words[0] for words in world.told("connect")]


def test_of_several_networks_the_first_that_is_there_is_joined_after_one_scan():
    """In the order of the configuration, not of their strength; and the next wake needs no scan."""

    def check(world, kind):
        world.points = points(b"field", b"barn", b"other")
        assert wake(world, kind, THREE) is None
        assert (asked(world), len(world.told("scan"))) == ([b"barn"], 1)
        assert world.told("connect")[0][1] == b"two"
        assert wake(world, kind, THREE) is None
        assert (asked(world), world.told("scan")) == ([b"barn"], [])
        assert world.told("static") == [(world.address,)]

    both(check)


def test_a_better_network_is_looked_for_once_the_lease_is_over():
    """An hour with the second choice, then one scan; with the first there is none."""

    def check(world, kind):
        world.points = points(b"barn")
        assert wake(world, kind, THREE) is None
        world.points = points(b"house", b"barn")
        assert wake(world, kind, THREE) is None
        assert (asked(world), world.told("scan")) == ([b"barn"], [])
        world.seconds += 3601
        assert wake(world, kind, THREE) is None
        assert (asked(world), len(world.told("scan"))) == ([b"house"], 1)
        world.seconds += 3601
        assert wake(world, kind, THREE) is None
        assert (asked(world), world.told("scan")) == ([b"house"], [])

    both(check)


def test_a_network_that_does_not_let_us_in_costs_its_share_of_the_time():
    """However many there are, all of them get their turn before the deadline, twice."""

    def check(world, kind):
        world.points = points(b"house", b"barn", b"field")
        world.answers = ["slow", "slow", "ok"]
        assert wake(world, kind, THREE, deadline=20000) is None
        assert asked(world) == [b"house", b"barn", b"field"]
        world.points = points(b"house", b"field")
        world.answers = ["slow", "slow", "slow", "slow", "ok"]
        assert wake(world, kind, THREE, deadline=40000) is None
        assert asked(world) == [b"field", b"house", b"field", b"house", b"field"]

    both(check)


def test_failure_of_several_networks_names_the_last():
    """A password that is wrong is wrong in one of them."""

    def check(world, kind):
        world.points = points(b"barn")
        world.answers = [-3 if kind == "rp2" else 202]
        assert refusal(world, kind, THREE) == ("password", "wrong Wi-Fi password: b'barn'")
        world.points = points(b"other")
        assert wake(world, kind, THREE) == "ap"
        assert asked(world) == []

    both(check)


def test_hidden_networks_come_behind_those_that_are_seen():
    """What is seen is there for certain."""

    def check(world, kind):
        world.points = points(b"field", b"")
        bad = -1 if kind == "rp2" else 203
        world.answers = [bad, "ok"]
        assert wake(world, kind, THREE) is None
        assert asked(world) == [b"field", b"house"]
        assert "bssid" not in world.told("connect")[1][2]

    both(check)


# ---- an address of one's own, and whom to ask for names


def test_a_fixed_address_is_set_before_joining_and_never_taken_for_a_lease():
    """And it is of the first network only: the others give one."""
    static = ("192.168.1.50", "255.255.255.0", "192.168.1.1", "9.9.9.9")

    def check(world, kind):
        config = dict(CONFIG, static=static, dns="9.9.9.9")
        for _ in range(2):
            assert wake(world, kind, config) is None
            assert (world.told("static"), world.told("dns")) == ([(static,)], [("9.9.9.9",)])
            before = [words[0] for words in world.events].index("static")
            assert before < [words[0] for words in world.events].index("connect")
        assert world.told("scan") == []
        world.points = points(b"barn")
        assert wake(world, kind, dict(THREE, static=static)) is None
        assert (world.told("static"), world.told("dhcp")) == ([], [])
        world.points = points(b"house", b"barn")
        world.answers = [-1 if kind == "rp2" else 203, "ok"]
        world.seconds += 3601
        assert wake(world, kind, dict(THREE, static=static)) is None
        assert (world.told("static"), world.told("dhcp")) == ([(static,)], [(True,)])

    both(check)


def test_a_resolver_of_ones_own_is_set_after_joining():
    """The network's own word for it comes with the address."""

    def check(world, kind):
        assert wake(world, kind, dict(CONFIG, dns="9.9.9.9")) is None
        names = [words[0] for words in world.events]
        assert names.index("connect") < names.index("dns")
        assert wake(world, kind) is None
        assert world.told("dns") == []

    both(check)


# ---- what not every port can


def test_wpa_enterprise_is_told_from_the_scan_where_it_tells():
    """MicroPython has no user name for it: nothing is tried. A Pico's scan shows no difference."""
    world = hardware.World()
    for security in (5, 10, 14, 15, 16):
        world.points = [(b"home", BEST, 11, -50, security, False)]
        assert refusal(world, "esp32", CONFIG) == ("join", "MicroPython has no WPA Enterprise"), security
        assert world.told("connect") == []
    world = hardware.World()
    world.points = [(b"home", BEST, 11, -50, 5, False)]
    assert wake(world, "rp2") is None, "privacy and RSN: any network with a password"


def test_a_pico_tries_wpa3_where_nothing_else_gets_in_and_remembers_it():
    """Told by default it is WPA2 alone. A wrong password is no reason for it."""
    world = hardware.World()
    world.answers = [-1, -1, "ok"]
    assert wake(world, "rp2") is None
    assert [words[2].get("security") for words in world.told("connect")] == [None, None, 20971524]
    assert wake(world, "rp2") is None
    assert world.told("connect") == [(b"home", b"abc", {"bssid": BEST, "channel": 11, "security": 20971524})]
    world = hardware.World()
    world.answers = [-3]
    assert wake(world, "rp2") == "password"
    assert len(world.told("connect")) == 2
    world = hardware.World()
    world.answers = [203]
    assert wake(world, "esp32") == "join"
    assert len(world.told("connect")) == 2
