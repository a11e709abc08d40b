"""A device on a virtual board: the README's example as it stands there, and the fixture in a run of its own."""

import re
import subprocess
import sys
from pathlib import Path

from needs import need_micropython, need_mosquitto

ROOT = Path(__file__).resolve().parents[1]


def example() -> str:
    """The README's test."""
    found = re.search(r"```python\n(def test_valve.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def run(tmp_path: Path, test: str) -> subprocess.CompletedProcess[str]:
    """A project of a user's: an app and a test, run by pytest there."""
    need_micropython()
    need_mosquitto()
    (tmp_path / "app.py").write_bytes((ROOT / "device" / "app.py").read_bytes())
    (tmp_path / "test_app.py").write_text(test)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)


def test_readme_example_passes_for_a_users_app(tmp_path):
    """Five lines, no import: the fixture is registered by the installation."""
    done = run(tmp_path, example())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_readme_example_fails_for_an_app_that_leaves_the_valve_open(tmp_path):
    """A test that can't fail is none."""
    broken = example().replace('"app.py")', '"open.py")')
    (tmp_path / "open.py").write_text((ROOT / "device" / "app.py").read_text().replace("valve(0)", "valve(1)"))
    done = run(tmp_path, broken)
    assert done.returncode == 1
    assert "driven[-1] == (4, 0)" in done.stdout
