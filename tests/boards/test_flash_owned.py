"""A board that somebody has used before: nothing of theirs is lost, and nothing of ours is asked about."""

import json

import pytest

from boards.test_flash import APP, bench
from dormouse_host.errors import HostError
from dormouse_host.flash import owned
from dormouse_host.flash.board import hand_back
from dormouse_host.flash.ports import Place
from dormouse_host.flash.wire import catch

__all__ = ["bench"]
pytestmark = pytest.mark.timeout(400)
MINE = {"main.py": "print('mine')\n", "app.py": "x = 'mine'\n", "config.json": '{"mine": 1}\n'}


def put(here, tmp_path, files):
    """Somebody copies these onto the board."""
    words: list[str] = []
    for name, text in files.items():
        source = tmp_path / f"mine-{name}"
        source.write_text(text)
        words += ["cp", str(source), f":{name}", "+"]
    here.board.mpremote(*words[:-1])


def test_a_person_s_files_are_replaced_only_when_told_to_and_their_copies_stay(bench, tmp_path):
    here = bench("RPI_PICO_W")
    put(here, tmp_path, MINE)
    with pytest.raises(HostError, match=r"config\.json, main\.py; nothing was written: --yes") as caught:
        here.flash(watch=False)
    assert caught.value.code == 2
    for name, text in MINE.items():
        assert here.board.read_file(name) == text.encode()
    assert not [name for name in here.board.files() if "dormouse" in name]
    asked: list[list[str]] = []

    def agree(names):
        asked.append(list(names))
        return True

    here.more = {"agree": agree}
    done = here.flash()
    assert done.wake.succeeded, here.text()
    assert sorted(asked[0]) == ["config.json", "main.py"]
    assert "keeping your main.py as kept-1/main.py" in here.said
    for name, text in MINE.items():
        assert here.board.read_file(name if name == "app.py" else f"kept-1/{name}") == text.encode()
    assert here.board.read_file("a/app.py") == APP.encode()
    # what a flash has written is ours from then on, whatever changes in the project
    (here.folder / "app.py").write_text(APP + "\n")
    assert here.flash(connect_every=77).written == ["app.py", "config.json"]
    assert len(asked) == 1
    # … until a person changes it on the board
    with catch(Place(here.board.port), 60, lambda left: None, afresh=False) as wire:
        wire.write_file("/b/app.py", b"edited = 1\n")
        hand_back(wire)
    here.flash(watch=False, connect_every=77)
    assert asked[1:] == [["b/app.py"]]
    assert here.board.read_file("kept-2/b/app.py") == b"edited = 1\n"


class Board:
    """The prompt of a board with these answers."""

    def __init__(self, record: str | None) -> None:
        self.record = record

    def ask(self, code: str) -> object:
        return self.record if "open(" in code else 3


@pytest.mark.parametrize("record", [None, "no JSON", "[]", "7", '{"app.py": 5}'])
def test_a_record_that_is_damaged_makes_every_file_a_person_s(record):
    there = {"app.py": "ab" * 32, "main.py": None, "lib/dormouse/agent.mpy": "cd" * 32}
    assert owned.persons(Board(record), there, flashed_before=False) == ["app.py"]  # type: ignore[arg-type]
    assert owned.keep(Board(None), ["app.py"], lambda names: True) == {"app.py": "kept-3/app.py"}  # type: ignore[arg-type]


def test_a_board_flashed_before_there_was_a_record_has_no_file_of_a_person():
    there = {"app.py": "ab" * 32}
    assert owned.persons(Board(None), there, flashed_before=True) == []  # type: ignore[arg-type]
    assert json.loads(owned.record(there)) == {"app.py": "ab" * 8}
