"""The command line in this process: what a command prints, and the error that a person reads."""

import pytest
import typer.testing

from dormouse_host.cli import app
from dormouse_host.errors import HostError


def run(*words: str) -> str:
    """What a command writes to stdout; what goes wrong raises as in `main`."""
    result = typer.testing.CliRunner().invoke(app.app, list(words), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def refused(*words: str) -> tuple[str, int]:
    with pytest.raises(HostError) as caught:
        run(*words)
    return str(caught.value), caught.value.code
