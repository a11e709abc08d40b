"""Where umqtt.simple, MicroPython and mosquitto come from: a person's choice counts, and a fetch is whole and checked.

The real archive and the real package were fetched by `make setup`; what would ask the network again is given here as
bytes or as a program that refuses, so that these tests run without it.
"""

import hashlib
import io
import subprocess
import sys
import tarfile

import pytest

from dormouse_host.agent import newer_release, toolchain
from dormouse_host.agent.process import heap_size
from dormouse_host.errors import HostError
from dormouse_host.flash import doctor
from support.needs import need_micropython

DEB822 = """\
# the distribution
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Architectures: amd64
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """Neither choice is made, and nothing is remembered from another test."""
    monkeypatch.delenv("UMQTT", raising=False)
    monkeypatch.delenv("MICROPYTHON", raising=False)
    toolchain._cached_micropython.cache_clear()
    yield
    toolchain._cached_micropython.cache_clear()


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(toolchain, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def archive_with(source):
    """A source archive as PyPI has it, with `source` as the module."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo("micropython-umqtt.simple-1.3.4/umqtt/simple.py")
        member.size = len(source)
        tar.addfile(member, io.BytesIO(source))
    return file.getvalue()


@pytest.fixture
def served(monkeypatch):
    """A function that sets which archive the download tool will bring. Nothing else is replaced."""

    def serve(archive):
        def run(argv, **_):
            folder = argv[argv.index("--download") + 1]
            if archive is not None:
                with open(f"{folder}/umqtt.tar.gz", "wb") as file:
                    file.write(archive)
            return subprocess.CompletedProcess(argv, 0 if archive else 1, "", "line one\nno route to host\n")

        monkeypatch.setattr(subprocess, "run", run)

    return serve


def test_chosen_umqtt_is_used(monkeypatch, tmp_path):
    (tmp_path / "umqtt").mkdir()
    (tmp_path / "umqtt" / "simple.py").touch()
    monkeypatch.setenv("UMQTT", str(tmp_path))
    assert toolchain.umqtt_folder() == tmp_path


def test_chosen_umqtt_without_the_module_is_an_error_that_names_it(monkeypatch, tmp_path):
    monkeypatch.setenv("UMQTT", str(tmp_path))
    with pytest.raises(HostError, match="no umqtt/simple.py") as caught:
        toolchain.umqtt_folder()
    assert caught.value.code == 2


def test_archive_with_another_checksum_is_never_unpacked(empty_cache, served):
    """Whoever replaces the archive must not get code onto anybody's board."""
    served(archive_with(b"evil = True\n"))
    with pytest.raises(HostError, match="SHA-256"):
        toolchain.umqtt_folder()
    assert not empty_cache.exists()


def test_archive_is_fetched_once_and_appears_whole(empty_cache, served, monkeypatch):
    archive = archive_with(b"good = True\n")
    monkeypatch.setattr(toolchain, "UMQTT_SHA256", hashlib.sha256(archive).hexdigest())
    served(archive)
    folder = toolchain.umqtt_folder()
    assert (folder / "umqtt" / "simple.py").read_bytes() == b"good = True\n"
    assert list(empty_cache.iterdir()) == [folder], "nothing half done is left beside it"
    served(None)
    assert toolchain.umqtt_folder() == folder


def test_failed_download_says_why_and_what_else_can_be_done(empty_cache, served):
    served(None)
    with pytest.raises(HostError, match="no route to host.*UMQTT="):
        toolchain.umqtt_folder()


def test_the_real_umqtt_is_the_pinned_one():
    assert "class MQTTClient" in (toolchain.umqtt_folder() / "umqtt" / "simple.py").read_text()


def test_faster_process_wins_the_cache(tmp_path):
    """Two workers may fetch at once; neither may see the other's half."""
    folder = tmp_path / "cache" / "thing"
    with toolchain.appearing_whole(folder) as new:
        (new / "file").write_text("mine")
        folder.mkdir()
        (folder / "file").write_text("theirs")
    assert (folder / "file").read_text() == "theirs"
    assert [path.name for path in folder.parent.iterdir()] == ["thing"]


def test_interrupted_fetch_leaves_nothing(tmp_path):
    def interrupted():
        with toolchain.appearing_whole(tmp_path / "thing") as new:
            (new / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "cache").touch()
    fetch = toolchain.appearing_whole(tmp_path / "cache" / "thing")
    with pytest.raises(HostError, match="cannot be created: "), fetch:
        pytest.fail("never reached")


def test_chosen_micropython_is_used(monkeypatch):
    found = need_micropython()
    monkeypatch.setenv("MICROPYTHON", str(found.path))
    chosen = toolchain.require_micropython()
    assert (chosen.path, chosen.version, chosen.bits, chosen.origin) == (
        found.path.resolve(),
        found.version,
        found.bits,
        "MICROPYTHON",
    )


@pytest.mark.parametrize("wrong", ["/nowhere/micropython", sys.executable, "/"])
def test_chosen_micropython_that_is_none_is_an_error_even_where_cpython_would_do(monkeypatch, wrong):
    """Quietly using another would make a person believe a result of theirs."""
    monkeypatch.setenv("MICROPYTHON", wrong)
    with pytest.raises(HostError, match="not a MicroPython that runs here") as caught:
        toolchain.micropython()
    assert caught.value.code == 2


def test_micropython_on_path_goes_before_the_cache(monkeypatch, tmp_path):
    found = need_micropython()
    (tmp_path / "micropython").write_text(f'#!/bin/sh\nexec "{found.path}" "$@"\n')
    (tmp_path / "micropython").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert toolchain.require_micropython().origin == "PATH"


def test_micropython_too_old_is_passed_over(monkeypatch, tmp_path):
    """It cannot load what mpy-cross compiles."""
    (tmp_path / "micropython").write_text("#!/bin/sh\necho micropython 1 12 0 False True\n")
    (tmp_path / "micropython").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    need_micropython()
    assert toolchain.require_micropython().origin == "cache"


def test_sixty_four_bits_are_taken_where_thirty_two_cannot_be_had(empty_cache, monkeypatch, capsys):
    """Said in one line; and what is in the cache is not fetched again."""
    tried = []

    def unpack(folder, architecture):
        tried.append(architecture)
        if architecture == "i386":
            raise newer_release.Unavailable("no MicroPython for i386: Unable to locate package micropython")
        (folder / "micropython").write_text("#!/bin/sh\necho micropython 1 25 0 True True\n")
        (folder / "micropython").chmod(0o755)

    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(newer_release, "architectures", lambda: ("i386", "amd64"))
    monkeypatch.setattr(newer_release, "unpack_micropython", unpack)
    assert toolchain.require_micropython().bits == 64
    assert "no MicroPython for i386" in capsys.readouterr().err
    toolchain._cached_micropython.cache_clear()
    assert toolchain.require_micropython().bits == 64
    assert tried == ["i386", "amd64"]


def test_build_that_the_machine_cannot_run_is_fetched_once_and_kept(empty_cache, monkeypatch):
    """A kernel without 32-bit programs must not cost a download at each start."""
    tried = []

    def unpack(folder, architecture):
        tried.append(architecture)
        (folder / "micropython").write_text(
            f"#!/bin/sh\n[ {architecture} = amd64 ] && echo micropython 1 25 0 True True\n"
        )
        (folder / "micropython").chmod(0o755)

    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(newer_release, "architectures", lambda: ("i386", "amd64"))
    monkeypatch.setattr(newer_release, "unpack_micropython", unpack)
    for _ in range(2):
        assert toolchain.require_micropython().bits == 64
        toolchain._cached_micropython.cache_clear()
    assert tried == ["i386", "amd64"]


def test_the_next_release_is_taken_where_the_first_cannot_be_had(tmp_path, monkeypatch):
    """A mirror whose list of one release is broken has others; 32 bits of a newer one are nearer to a board than 64."""
    tried = []

    def download(state, release, architecture):
        tried.append((release, architecture))
        state.mkdir(parents=True)
        if release == "trixie":
            raise newer_release.Unavailable("apt-get: Failed to fetch …  File has unexpected size")
        return []

    monkeypatch.setattr(newer_release, "os_release", lambda: {"ID": "debian"})
    monkeypatch.setattr(newer_release, "_download", download)
    monkeypatch.setattr(newer_release, "_write_wrapper", lambda folder: folder / "micropython")
    assert newer_release.unpack_micropython(tmp_path, "i386") == tmp_path / "micropython"
    assert tried == [("trixie", "i386"), ("forky", "i386")]
    assert not any(tmp_path.iterdir())


def test_who_only_asks_for_micropython_fetches_none(empty_cache, monkeypatch):
    """As `dormouse doctor` does, which says how one is got."""

    def unpack(folder, architecture):
        raise AssertionError("fetched")

    def unavailable():
        raise newer_release.Unavailable("MicroPython is fetched on Debian and Ubuntu only")

    def told():
        (finding,) = [one for one in doctor.examine([]) if "MicroPython" in one.what]
        return finding.what, finding.fix

    monkeypatch.setattr(toolchain, "umqtt_folder", lambda: empty_cache)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(newer_release, "architectures", lambda: ("i386",))
    monkeypatch.setattr(newer_release, "unpack_micropython", unpack)
    assert told() == ("MicroPython is not here yet: the first virtual board fetches it", "")
    program = empty_cache / "micropython" / "i386" / "micropython"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho micropython 1 25 0 False True\n")
    program.chmod(0o755)
    assert told() == (f"MicroPython 1.25.0, 32 bit ({program})", "")
    fix = "install MicroPython 1.25 or newer, or set MICROPYTHON= to one"
    monkeypatch.setenv("MICROPYTHON", "/nowhere")
    assert told() == ("MICROPYTHON=/nowhere: not a MicroPython that runs here", fix)
    monkeypatch.delenv("MICROPYTHON")
    monkeypatch.setattr(newer_release, "architectures", unavailable)
    assert told() == ("no MicroPython: MicroPython is fetched on Debian and Ubuntu only", fix)


def test_machine_without_micropython_gets_none_and_a_reason(empty_cache, monkeypatch):
    def unavailable():
        raise newer_release.Unavailable("MicroPython is fetched on Debian and Ubuntu only")

    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(newer_release, "architectures", unavailable)
    assert toolchain.micropython() is None
    with pytest.raises(toolchain.NoMicropython, match="Debian and Ubuntu only"):
        toolchain.require_micropython()


def test_source_is_the_machines_mirror_with_the_newer_release():
    """Same mirror, same key; no updates, no security, no sources, and no foreign stanza."""
    assert newer_release.derive_sources(DEB822, True, "bookworm", "trixie") == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_source_in_one_line_form_is_derived_alike():
    lines = (
        "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/ubuntu jammy main universe\n"
        "deb [arch=amd64] http://mirror.example/other jammy main\n"
        "# deb http://mirror.example/ubuntu jammy restricted\n"
        "deb-src http://mirror.example/ubuntu jammy main\n"
        "deb http://mirror.example/ubuntu jammy-updates main\n"
    )
    assert newer_release.derive_sources(lines, False, "jammy", "questing") == (
        "deb [signed-by=/k.gpg] http://mirror.example/ubuntu questing main universe\n"
        "deb http://mirror.example/other questing main\n"
    )


def test_mosquitto_is_found_where_only_root_looks(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = toolchain.mosquitto()
    assert found is None or found.name == "mosquitto"


@pytest.mark.parametrize("heap, bits, size", [("64k", 32, "64k"), ("64k", 64, "128k"), ("1M", 64, "2M")])
def test_heap_holds_as_many_objects_on_64_bits(heap, bits, size):
    assert heap_size(heap, bits) == size


def test_heap_without_a_unit_is_refused():
    """MicroPython would take 192 as bytes and die."""
    with pytest.raises(HostError, match="expected a size"):
        heap_size("192", 32)


@pytest.mark.parametrize(
    "said, tries",
    [
        ("Failed to fetch …/Packages.xz  File has unexpected size (1 != 2). Mirror sync in progress?", 3),
        ("Could not resolve the mirror's name", 1),
    ],
)
def test_a_mirror_that_is_being_brought_up_to_date_is_asked_again(said, tries, monkeypatch):
    """And one that is not there is not."""
    asked = []

    def run(argv, environment):
        asked.append(argv)
        if len(asked) < 3:
            raise newer_release.Unavailable(f"apt-get: {said}")

    monkeypatch.setattr(newer_release, "_run", run)
    monkeypatch.setattr(newer_release, "_PAUSE", 0)
    if tries == 1:
        with pytest.raises(newer_release.Unavailable):
            newer_release._update({})
    else:
        newer_release._update({})
    assert len(asked) == tries
