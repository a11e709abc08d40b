"""What the new machine takes over from this one: how to reach package sources, and nothing else.

Must stay true: every address is derived from this machine's own configuration, none is written here. Standard library
only: the first `make` on a machine has nothing else.
"""

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from dormouse_host.agent import newer_release

SOURCES = ("sources.list", "sources.list.d/debian.sources", "sources.list.d/ubuntu.sources")
CERTIFICATES = ("/etc/ssl/certs", "/usr/local/share/ca-certificates")
PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
# Environment by which package clients reach their sources; all else of it stays outside.
_PASSED = re.compile(r"(PIP_.*|https?_proxy|no_proxy|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|CI)", re.I)


class Unusable(Exception):
    """This machine cannot make the fresh one; the text says why and what to do, in one line."""


def environment() -> dict[str, str]:
    """The variables that go along."""
    return {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}


def sources(suite: str) -> dict[str, str]:
    """This machine's own apt sources, pointed at `suite`: file name below /etc/apt to text."""
    release = newer_release.os_release()
    found = {}
    for name in SOURCES:
        file = Path("/etc/apt", name)
        text = file.read_text() if file.is_file() else ""
        derived = newer_release.derive_sources(
            text, file.suffix == ".sources", release.get("VERSION_CODENAME", ""), suite
        )
        if derived:
            found[name] = derived
    if not found:
        raise Unusable("/etc/apt names no source of the distribution's own to make a fresh machine from")
    return found


def mirror(texts: dict[str, str]) -> str:
    """The first address among these apt sources."""
    for text in texts.values():
        if found := re.search(r"^(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s+)?)(\S+)", text, re.MULTILINE):
            return found[1]
    raise Unusable("/etc/apt names no address to make a fresh machine from")


def _pip_files() -> Iterator[tuple[Path, str]]:
    """pip's configuration files here, and where each belongs in the fresh root."""
    for name in PIP_FILES:
        file = Path(name).expanduser()
        if file.is_file():
            yield file, name


def local_paths() -> list[Path]:
    """Files and folders of this machine that pip's configuration names: a wheel house, an index, constraints."""
    texts = [value for name, value in environment().items() if name.upper().startswith("PIP_")]
    for file, _ in _pip_files():
        parser = configparser.RawConfigParser()
        parser.read(file)
        texts += [value for section in parser.sections() for value in parser[section].values()]
    found = []
    for word in " ".join(texts).split():
        path = Path(urlsplit(word).path)
        if path.is_absolute() and not word.startswith(("http:", "https:")) and path.exists():
            found.append(path.parent if path.name == "simple" else path)  # such an index's files lie beside it
    return sorted({path for path in found if not path.is_relative_to("/etc/ssl")})  # those are copied


def copy_into(root: Path, suite: str, homes: list[str]) -> None:
    """Give the fresh root what it needs to reach the package sources. `homes`: of those who will call pip there."""
    shutil.copyfile("/etc/resolv.conf", _place(root, "/etc/resolv.conf"))
    _place(root, "/etc/hosts").write_text("127.0.0.1 localhost fresh\n::1 localhost\n")
    _place(root, "/etc/hostname").write_text("fresh\n")
    for old in (root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").glob("*")):
        old.unlink(missing_ok=True)
    for name, text in sources(suite).items():
        _place(root, f"/etc/apt/{name}").write_text(text)
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    network = [line for line in dump.splitlines() if line.startswith("Acquire::")]
    settings = _place(root, "/etc/apt/apt.conf.d/90machine")
    settings.touch(mode=0o600)  # a proxy's address may carry a password
    settings.write_text("\n".join(network) + "\n")
    for folder in CERTIFICATES:
        if Path(folder).is_dir():
            shutil.copytree(folder, _place(root, folder), dirs_exist_ok=True, ignore=_dangling)
    for file, name in _pip_files():
        for home in homes if name.startswith("~") else [""]:
            shutil.copyfile(file, _place(root, name.replace("~", home)))


def _dangling(folder: str, names: list[str]) -> list[str]:
    """Links to what is not there, which copytree does not take."""
    return [name for name in names if not Path(folder, name).exists()]


def _place(root: Path, path: str) -> Path:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    return place
