"""`make audit`: everything that `make` installs, looked up among known vulnerabilities by pip-audit.

Must stay true: exit 0 means that each package was looked up and none has a known vulnerability; what could not be
looked up is one line, and never passes as looked up.

    python -m project.audit PIP-AUDIT LOCK... [-- OPTION...]
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_WITHIN = 900  # seconds for some hundred questions
_NAMED = 3  # packages of a longer list


def main(words: Sequence[str]) -> int:
    """The exit code."""
    program, *rest = words
    locks, options = (rest[: rest.index("--")], rest[rest.index("--") + 1 :]) if "--" in rest else (rest, [])
    argv = [program, "--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    argv += [word for lock in locks for word in ("-r", lock)]
    try:
        done = subprocess.run([*argv, *options], capture_output=True, text=True, timeout=_WITHIN, check=False)
        found = judged(done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        found = [f"nothing was looked up: no answer within {_WITHIN} s"]
    except OSError as error:
        found = [f"nothing was looked up: {program}: {error.strerror}"]
    for line in found:
        print(f"make audit: {line}", file=sys.stderr)
    if not found:
        print(f"everything in {', '.join(locks)} was looked up: no known vulnerability")
    return 1 if found else 0


def judged(output: str, errors: str) -> list[str]:
    """What keeps the packages from being fit for use, a line each, from what pip-audit wrote."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip() or "pip-audit said nothing").splitlines()[-1]
        return [f"nothing was looked up, for the service is out of reach or pip-audit fails: {last[:200]}"]
    found = [_line(package, each) for package in packages for each in package.get("vulns", ())]
    missing = [package["name"] for package in packages if "skip_reason" in package]
    if missing or not packages:
        names = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
        why = f"{len(missing)} of {len(packages)} packages were not looked up ({names})"
        found.append(f"{why}: the service does not know them, or is out of reach")
    return found


def _line(package: dict[str, Any], found: dict[str, Any]) -> str:
    fixed = ", ".join(found.get("fix_versions", ())) or "no version yet"
    return f"{package['name']} {package['version']} is vulnerable: {found['id']}, fixed in {fixed}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
