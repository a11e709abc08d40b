"""MicroPython's package from a newer release of this distribution, unpacked into a folder.

It needs no root, and neither reads nor changes the machine's package state. The package's source is derived from the
machine's own apt sources, and apt verifies every signature. What is unpacked runs with its own loader and C library.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

# The releases with MicroPython 1.25 or newer, in the order of trial: the next where a mirror lacks the first or is
# being changed. bookworm has none, jammy and noble have too old ones.
RELEASES = {"debian": ("trixie", "forky"), "ubuntu": ("resolute", "questing")}
# Sizes of objects as on a board: the 32-bit build that the 64-bit processor runs natively goes first.
_THIRTY_TWO_BIT = {"amd64": "i386"}
_OWN_SOURCES = ("sources.list", "sources.list.d/debian.sources", "sources.list.d/ubuntu.sources")
_APT_TIMEOUT = 300  # seconds for one apt-get, enough for a slow mirror
_TRIES, _PAUSE = 4, 20.0  # attempts at a mirror that is being updated, and seconds between them
_CHANGING = ("unexpected size", "Hash Sum mismatch")  # what apt says of one
_WRAPPER = """#!/bin/sh
root=${{0%/*}}/root
exec "$root/{loader}" --library-path "{libraries}" "$root/usr/bin/micropython" "$@"
"""


class Unavailable(Exception):
    """The package cannot be had on this machine; the text says why in one line."""


def architectures() -> tuple[str, ...]:
    """The architectures to try, best first. Unavailable without dpkg or on another distribution."""
    if os_release().get("ID") not in RELEASES:
        raise Unavailable("MicroPython is fetched on Debian and Ubuntu only: install it, or set MICROPYTHON=")
    native = _run(["dpkg", "--print-architecture"]).strip()
    return (_THIRTY_TWO_BIT[native], native) if native in _THIRTY_TWO_BIT else (native,)


def unpack_micropython(folder: Path, architecture: str, releases: Sequence[str] = ()) -> Path:
    """Fetch and unpack into the empty `folder`, from the first of `releases` that has it, else of RELEASES. Returns the
    program's path. Unavailable with apt's reason.
    """
    reason = "no release of the distribution to take it from"
    for release in releases or RELEASES[os_release()["ID"]]:
        try:
            archives = _download(folder / "apt" / release, release, architecture)
        except Unavailable as error:
            reason = str(error)
            continue
        for archive in archives:
            _run(["dpkg-deb", "--extract", str(archive), str(folder / "root")])
        shutil.rmtree(folder / "apt")
        return _write_wrapper(folder)
    raise Unavailable(f"no MicroPython for {architecture}: {reason}")


def derive_sources(text: str, is_deb822: bool, codename: str, release: str) -> str:
    """The apt source `text` of the release `codename`, pointed at `release`: its main suite only, binaries only.

    A limit of a source to the machine's architectures is removed, because the 32-bit one is needed from it.
    """
    return (_derive_deb822 if is_deb822 else _derive_lines)(text, codename, release)


def _derive_deb822(text: str, codename: str, release: str) -> str:
    text = re.sub(r"^(#|Architectures:).*\n", "", text, flags=re.MULTILINE | re.IGNORECASE)
    stanzas = []
    for stanza in re.split(r"\n\s*\n", text.strip()):
        suites = re.search(r"^Suites:(.*)$", stanza, re.MULTILINE | re.IGNORECASE)
        if suites and codename in suites[1].split():
            stanza = re.sub(r"^Suites:.*$", f"Suites: {release}", stanza, flags=re.MULTILINE | re.IGNORECASE)
            stanzas.append(re.sub(r"^Types:.*$", "Types: deb", stanza, flags=re.MULTILINE | re.IGNORECASE) + "\n")
    return "\n".join(stanzas)


def _derive_lines(text: str, codename: str, release: str) -> str:
    line = re.compile(rf"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+{re.escape(codename)}\s+(.+)$", re.MULTILINE)
    derived = []
    for options, where, components in line.findall(text):
        kept = " ".join(option for option in options.split() if not option.startswith("arch="))
        derived.append(f"deb {f'[{kept}] ' if kept else ''}{where} {release} {components}\n")
    return "".join(derived)


def _download(state: Path, release: str, architecture: str) -> list[Path]:
    """Download the package and its dependencies, as archives below `state`."""
    parts = state / "parts"
    for folder in (parts, state / "lists" / "partial", state / "cache" / "archives" / "partial", state / "log"):
        folder.mkdir(parents=True)
    (state / "status").touch()  # nothing is installed: every dependency is fetched too
    codename = os_release().get("VERSION_CODENAME", "")
    for name in _OWN_SOURCES:
        file = Path("/etc/apt", name)
        text = file.read_text() if file.is_file() else ""
        if derived := derive_sources(text, file.suffix == ".sources", codename, release):
            (parts / file.name).write_text(derived)
    if not any(parts.iterdir()):
        raise Unavailable("/etc/apt has no source of the distribution itself")
    environment = {**os.environ, "APT_CONFIG": str(_write_config(state, architecture)), "LC_ALL": "C"}
    _update(environment)
    _run(["apt-get", "-qq", "--yes", "--download-only", "install", "micropython"], environment)
    return sorted((state / "cache" / "archives").glob("*.deb"))


def _update(environment: dict[str, str]) -> None:
    """Update apt's lists, again where the mirror was changing meanwhile."""
    for left in reversed(range(_TRIES)):
        try:
            _run(["apt-get", "-qq", "update"], environment)
            return
        except Unavailable as error:
            if not left or not any(words in str(error) for words in _CHANGING):
                raise
            time.sleep(_PAUSE)


def _write_config(state: Path, architecture: str) -> Path:
    """Write apt's whole configuration: of the machine's own only its network settings, no hooks and pins."""
    network = [line for line in _run(["apt-config", "dump"]).splitlines() if line.startswith("Acquire::")]
    ours = {
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": state / "parts",
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Log": state / "log",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
    }
    config = state / "apt.conf"
    config.touch(mode=0o600)  # a proxy's address may carry a password
    config.write_text("\n".join([*network, *(f'{key} "{value}";' for key, value in ours.items())]) + "\n")
    return config


def _write_wrapper(folder: Path) -> Path:
    """Write a program that starts the unpacked interpreter, even after `folder` was moved."""
    root = folder / "root"
    loaders = sorted(root.glob("usr/lib*/**/ld-linux*.so.*"))
    if not loaders:
        raise Unavailable("the packages hold no loader")
    libraries = sorted({library.parent.relative_to(root) for library in root.glob("usr/lib/**/lib*.so.*")})
    wrapper = folder / "micropython"
    loader = loaders[0].relative_to(root)
    wrapper.write_text(_WRAPPER.format(loader=loader, libraries=":".join(f"$root/{path}" for path in libraries)))
    wrapper.chmod(0o755)
    return wrapper


def os_release() -> dict[str, str]:
    """The distribution's /etc/os-release; empty without one."""
    file = Path("/etc/os-release")
    lines = file.read_text().splitlines() if file.is_file() else []
    return {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}


def _run(argv: list[str], environment: dict[str, str] | None = None) -> str:
    """The output of a command. Unavailable with its first error line where it fails."""
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_APT_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{argv[0]}: {error}") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E: ")] or done.stderr.splitlines()
        raise Unavailable(f"{argv[0]}: {errors[0].removeprefix('E: ') if errors else 'failed'}")
    return done.stdout
