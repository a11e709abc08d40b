"""What a release may hold, and how it is built: what is wrong is found here, and no device is asked."""

import pytest

from dormouse_host import release
from dormouse_host.errors import HostError
from dormouse_host.flash import kinds, project, releases
from dormouse_host.release import Release

APP = "from dormouse import command\n\n@command('on')\ndef on(wake):\n    return 1\n"


def words(function, *arguments) -> str:
    with pytest.raises(HostError) as caught:
        function(*arguments)
    assert caught.value.code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../main.py", "no path"),
        ("/guard.mpy", "no path"),
        ("a//b.py", "no path"),
        ("release", "no path"),
        ("notes~", "no path"),
    ],
)
def test_no_file_of_a_release_lies_outside_its_slot(name, told):
    assert told in words(release.check, Release({name: b""}))


def test_a_release_has_bounds_that_a_device_keeps_too():
    assert "files" in words(release.check, Release({f"{n}.py": b"" for n in range(release.MOST_FILES + 1)}))
    assert "MB" in words(release.check, Release({"data": bytes(release.MOST_BYTES + 1)}))
    long = Release({f"{n:03}{'x' * 100}": b"" for n in range(200)})
    assert str(len(long.manifest)) in words(release.check, long)
    assert len(release.check(Release({f"{n:03}": b"" for n in range(200)})).manifest) <= release.MOST_MANIFEST


@pytest.fixture
def here(tmp_path):
    (tmp_path / "dormouse.toml").write_text(
        'broker = "mqtt://127.0.0.1"\n[app]\nfiles = ["data.txt", "more/sensor.py"]\n'
    )
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "data.txt").write_text("42")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "sensor.py").write_text("PIN = 3\n")
    return project.read(tmp_path)


def test_the_same_program_is_the_same_release(here):
    board = kinds.load("RPI_PICO_W")
    one, two = releases.build(here, board), releases.build(here, board)
    assert one.id == two.id
    assert sorted(one.files) == ["app.mpy", "data.txt", "more/sensor.mpy"]
    assert one.keep == release.AGENT, "the agent stays that of the slot that runs"
    assert sorted(releases.build(here, None).files) == ["app.py", "data.txt", "more/sensor.py"], (
        "a process takes sources"
    )


def test_with_the_agent_a_release_is_for_one_kind_of_board(here):
    made = releases.build(here, kinds.load("RPI_PICO_W"), agent=True)
    assert made.port == "rp2"
    assert "lib/dormouse/agent.mpy" not in made.files, "it is bundled"
    assert "lib/dormouse/connection.mpy" in made.files
    assert "by pip" in words(lambda: releases.build(here, None, agent=True))


def test_what_does_not_compile_is_told_with_its_line(here):
    (here.folder / "app.py").write_text("def on(:\n")
    with pytest.raises(HostError, match=r"app.py does not compile: line 1"):
        releases.build(here, None)


def test_a_device_s_firmware_names_its_board():
    assert releases.kind_of("cpython 3.11.7") is None
    found = releases.kind_of("RPI_PICO_W 1.28.0")
    assert found is not None
    assert found.name == "RPI_PICO_W"
    assert "no board is known" in words(releases.kind_of, "TOASTER 1.0")
