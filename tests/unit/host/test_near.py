"""A name that there is not, and what was meant by it: devices, their commands and arguments, boards, settings."""

import pytest
import typer.testing

from dormouse_host import near, orders
from dormouse_host.cli import app
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, project
from dormouse_host.ledger.queries import DeviceView

CATALOGUE = {"commands": [["water", {"s": "int", "slow": ["bool", False]}, 60, False]]}
PUMP = DeviceView("pump", catalogue=CATALOGUE)


def said(*words: str) -> str:
    """The error of a command."""
    return str(typer.testing.CliRunner().invoke(app.app, words).exception)


def checked(do: str, *words: str) -> tuple[str | None, str | None]:
    return orders.check(PUMP, do, orders.read_words(list(words), orders.spec_of(PUMP, do)), None)


def test_what_is_like_nothing_is_nothing():
    assert near.meant("xyz", ["water", "ping"]) == ""
    assert near.question("xyz", []) == ""
    assert near.meant("Water", ["water", "ping"]) == "water"


@pytest.mark.parametrize(
    "words",
    [
        ("status", "pumpp"),
        ("log", "pmp"),
        ("send", "pumb", "ping"),
        ("send", "--after", "x", "pumq", "ping"),
        ("devices", "remove", "pumpp", "--offline"),
        ("devices", "group", "north", "pumpp"),
    ],
    ids=" ".join,
)
def test_a_device_that_is_not_known_is_asked_back(fleet, words):
    fleet.add("pump")
    assert "is not known: did you mean pump? A new one: dormouse devices add p" in said(*words)


def test_a_command_and_an_argument_of_a_device_are_asked_back():
    with pytest.raises(HostError, match="pump has no command watr: did you mean water"):
        checked("watr")
    with pytest.raises(HostError, match="pump has no command pingg: did you mean ping"):
        checked("pingg")
    with pytest.raises(HostError, match=r"water: unknown argument slwo: did you mean slow\?"):
        checked("water", "slwo=1")
    with pytest.raises(HostError, match="water: unknown argument volume: water takes s, slow"):
        checked("water", "volume=1")


def test_a_command_of_a_program_that_is_left_out_waits_for_it():
    """Its catalogue lacks what follows the line that failed; a single declaration that is refused changes nothing."""
    catalogue = {"commands": [["water", [["s", "int"]], 5, False]]}
    gone = DeviceView("pump", catalogue=catalogue, report={"app": "import left out: cut off 2 times"})
    assert orders.check(gone, "water", {"s": 1}, None) == ('{"s":1}', None)
    said = "pump runs without its program, watr waits until it is back, unchecked"
    assert orders.check(gone, "watr", {}, None) == (
        None,
        f"{said}; app.py: import left out: cut off 2 times; did you mean water?",
    )
    refused = DeviceView("pump", catalogue=catalogue, report={"app": "command watr: a coroutine; telemetry t: no"})
    with pytest.raises(HostError, match="pump has no command watr: did you mean water"):
        orders.check(refused, "watr", {}, None)


def test_a_command_that_is_sent_unchecked_is_asked_back_too():
    _, warning = orders.check(DeviceView("new"), "pign", {}, None)
    assert warning == "what new understands is not known yet: pign is sent unchecked; did you mean ping?"
    _, warning = orders.check(DeviceView("new"), "beep", {"loud": "yes"}, None)
    said = "what new understands is not known yet: beep is sent unchecked"
    assert warning == f"{said}; yes is sent as text: a bool is true or false until then"


@pytest.mark.parametrize(
    "words, value",
    [(w, True) for w in ("true", "True", "yes", "on", "ON", "1")] + [(w, False) for w in ("false", "no", "Off", "0")],
)
def test_a_bool_is_written_as_people_write_one(words, value):
    assert orders.read_words([f"slow={words}"], {"slow": "bool"}) == {"slow": value}
    assert checked("water", "s=1", f"slow={words}") == (f'{{"s":1,"slow":{str(value).lower()}}}', None)


@pytest.mark.parametrize("word", ["maybe", "2", "null"])
def test_what_is_no_bool_is_refused(word):
    with pytest.raises(HostError, match="argument slow is not of type bool"):
        checked("water", "s=1", f"slow={word}")


def test_a_number_is_no_bool_where_none_is_declared():
    assert orders.read_words(["s=1", "name=on", "any=on"], {"s": "int", "name": "str"}) == {
        "s": 1,
        "name": "on",
        "any": "on",
    }


def test_a_board_is_asked_back():
    with pytest.raises(HostError, match="no board RPI_PICOW: did you mean RPI_PICO_W.? expected one of ESP32_GENERIC"):
        kinds.load("RPI_PICOW")
    with pytest.raises(HostError, match="no board pico_w: did you mean RPI_PICO_W"):
        kinds.load("pico_w")
    with pytest.raises(HostError, match="no board zx81: expected one of"):
        kinds.load("zx81")


def test_of_boards_to_simulate_those_are_offered_that_can_be():
    told = said("board", "run", "RPI_PICOW", "--dir", "board")
    assert told.startswith("no board RPI_PICOW: did you mean RPI_PICO_W? expected one of ESP32_GENERIC")
    assert "POSIX" not in told
    assert "did you mean" not in said("board", "run", "POSIXX", "--dir", "board")


def test_a_setting_is_asked_back():
    with pytest.raises(HostError, match=r"unknown key conect_every: did you mean connect_every\?"):
        project.checked({"id": "a", "broker": "mqtt://b", "conect_every": 5})


@pytest.mark.parametrize(
    "words, meant", [(("staus",), "status"), (("broker", "chek"), "check"), (("send", "--expirs", "3s"), "--expires")]
)
def test_a_command_and_an_option_of_ours_are_asked_back(words, meant):
    done = typer.testing.CliRunner().invoke(app.app, words)
    assert done.exit_code == 2
    assert meant in done.stderr
