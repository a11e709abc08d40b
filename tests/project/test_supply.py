"""What `make` installs is named by version and hash, and the names say nothing of where this machine gets it from."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from project import audit
from support import layout

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (ROOT / "requirements.lock", ROOT / "supply.lock", ROOT / "docs.lock")


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
    """Package -> lowest version, as pyproject.toml asks for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    found = {}
    for line in lines:
        match = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", line)
        assert match, f"{line}: a lower bound and no upper one, or this can't be installed beside others"
        found[_name(match[1])] = match[2]
    return found


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition(".post")[0]))


def test_everything_that_can_be_asked_for_has_a_lower_bound_only():
    """A library that pins can't be installed beside another one that pins otherwise."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert len(wanted(tuple(extras))) > 20


def test_lock_agrees_with_pyproject():
    """After a change there: make lock."""
    have = {name: version for name, (version, _) in locked(LOCKS[0]).items()}
    low = wanted(("embedded-broker", "emulator", "dev"))
    assert [name for name in low if name not in have] == []
    assert [name for name, least in low.items() if _order(have[name]) < _order(least)] == []


@pytest.mark.parametrize("lock", LOCKS[1:], ids=lambda lock: lock.name)
def test_tools_of_a_folder_of_their_own_are_locked_too(lock):
    """Those of `make lock` and `make audit`, and those of `make docs`."""
    lines = [line for line in lock.with_suffix(".in").read_text().splitlines() if line and not line.startswith("#")]
    have = locked(lock)
    assert lines
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


# ---- make audit


def audited(folder: Path, output: str, errors: str = "", code: int = 0) -> int:
    """The exit code of `make audit` where pip-audit ends like this."""
    (folder / "out").write_text(output)
    (folder / "err").write_text(errors)
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat {folder}/out; cat {folder}/err >&2; exit {code}\n")
    program.chmod(0o755)
    return audit.main([str(program), "requirements.lock"])


def test_audit_passes_what_was_looked_up_and_is_clean(tmp_path, capsys):
    assert audited(tmp_path, '{"dependencies":[{"name":"a","version":"1","vulns":[]}],"fixes":[]}') == 0
    assert capsys.readouterr() == ("everything in requirements.lock was looked up: no known vulnerability\n", "")


def test_audit_names_what_is_vulnerable_and_what_fixes_it(tmp_path, capsys):
    vulns = '{"id":"PYSEC-1","fix_versions":["2"],"aliases":[],"description":"x"}'
    said = f'{{"dependencies":[{{"name":"a","version":"1","vulns":[{vulns}]}}],"fixes":[]}}'
    assert audited(tmp_path, said, code=1) == 1
    assert capsys.readouterr().err == "make audit: a 1 is vulnerable: PYSEC-1, fixed in 2\n"


@pytest.mark.parametrize(
    "output, errors, line",
    [
        (
            json.dumps({"dependencies": [{"name": name, "skip_reason": "not found"} for name in "abcd"]}),
            "No known vulnerabilities found",
            "4 of 4 packages were not looked up (a, b, c, …): the service does not know them, or is out of reach",
        ),
        (
            "",
            "Traceback (most recent call last):\n  …\nrequests.exceptions.ConnectionError: refused\n",
            "nothing was looked up, for the service is out of reach or pip-audit fails: "
            "requests.exceptions.ConnectionError: refused",
        ),
    ],
)
def test_audit_says_in_one_line_what_was_not_looked_up_and_fails(tmp_path, capsys, output, errors, line):
    """pip-audit itself ends with 0 where it has skipped every package."""
    assert audited(tmp_path, output, errors) == 1
    assert capsys.readouterr() == ("", f"make audit: {line}\n")


def test_audit_without_pip_audit_fails(tmp_path, capsys):
    assert audit.main([str(tmp_path / "nothing"), "requirements.lock"]) == 1
    assert "nothing was looked up" in capsys.readouterr().err
