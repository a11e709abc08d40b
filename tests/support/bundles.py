"""A small package for the bundler."""

from pathlib import Path

from dormouse_host.bundle import scopes, sources

PORT = "class Port:\n    pass\n"


def package(folder: Path, **modules: str) -> scopes.Modules:
    """A package `dormouse` of these modules, and its trees."""
    home = folder / "dormouse"
    (home / "ports").mkdir(parents=True)
    for name, text in {"__init__": "", "ports/__init__": "", "ports/here": PORT, **modules}.items():
        (home / f"{name}.py").write_text(text)
    return sources.modules(home, "here")
