"""What `make` installs is named by version and hash, and the names say nothing of where this machine gets it from."""

import re
import tomllib
from pathlib import Path

import layout

ROOT = Path(__file__).resolve().parents[1]
LOCKS = (ROOT / "requirements.lock", ROOT / "supply.lock")


def locked(path: Path) -> dict[str, tuple[str, int]]:
    """Package -> (version, how many hashes)."""
    found = {}
    for block in re.split(r"\n(?=[a-zA-Z0-9])", path.read_text()):
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", block)
        if match:
            found[_name(match[1])] = (match[2], block.count("--hash=sha256:"))
    return found


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text.partition("[")[0]).lower()


def wanted(extras: tuple[str, ...]) -> dict[str, str]:
    """What pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    pairs = [line.partition(";")[0].strip().split("==") for line in lines]
    assert all(len(pair) == 2 for pair in pairs), f"everything is pinned: {lines}"
    return {_name(name): version for name, version in pairs}


def test_lock_agrees_with_pyproject():
    """After a change there: make lock."""
    have = {name: version for name, (version, _) in locked(LOCKS[0]).items()}
    assert {name: have.get(name) for name in wanted(("embedded-broker", "dev"))} == wanted(("embedded-broker", "dev"))


def test_tools_that_lock_and_audit_are_locked_too():
    lines = [line for line in (ROOT / "supply.in").read_text().splitlines() if line and not line.startswith("#")]
    have = locked(LOCKS[1])
    for line in lines:
        name, _, version = line.partition("==")
        assert have[_name(name)][0] == version


def test_every_package_has_hashes_and_no_place():
    for path in LOCKS:
        packages = locked(path)
        assert len(packages) > 20
        assert [name for name, (_, hashes) in packages.items() if not hashes] == []
        text = path.read_text()
        assert re.search(r"://|^-|^ *--(?!hash)", text, re.MULTILINE) is None
        assert layout.registry_hosts(path.name, text) == []


def test_make_takes_nothing_without_a_hash():
    makefile = (ROOT / "Makefile").read_text()
    installs = re.findall(r"-m pip install (.*)", makefile)
    assert len(installs) > 2
    assert all("--require-hashes" in line or line.endswith("--no-deps --no-build-isolation -e .") for line in installs)
