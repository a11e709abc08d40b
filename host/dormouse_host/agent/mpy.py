"""The agent as it is put on a board: each file's path there, and its bytes.

Must stay true: what is built depends on the sources and on nothing else, so that a second flash finds nothing changed;
a board gets its own port and no other.

    python -m dormouse_host.agent.mpy        what each module and each file comes to, in bytes
"""

import ast
import sys
import tempfile
from functools import cache
from pathlib import Path

from dormouse_host.agent.compiled import compiler
from dormouse_host.agent.process import agent_folder
from dormouse_host.bundle import constants, merge, prune, scopes, shorten, sources
from dormouse_host.errors import HostError

PACKAGE = "dormouse"
LIMIT = 50 * 1024  # bytes of .mpy of the whole agent with its port, on any board


@cache
def agent_files(port: str, folder: Path | None = None) -> dict[str, bytes]:
    """Path on the board (`lib/dormouse/…mpy`) -> content, for a board whose `sys.platform` is `port`.

    `folder` contains the package, if it is another than the one that is installed.
    """
    texts = bundled(port, folder)
    packages = {PACKAGE, f"{PACKAGE}.ports"}
    paths = {name: name.replace(".", "/") + ("/__init__" if name in packages else "") for name in texts}
    return {f"lib/{paths[name]}.mpy": compile_mpy(text, paths[name] + ".py") for name, text in texts.items()}


def bundled(port: str, folder: Path | None = None) -> dict[str, str]:
    """Dotted name of a file of the bundle -> its source."""
    files, public = merged(port, folder)
    shorten.shorten(files, public)
    return {name: ast.unparse(tree) + "\n" for name, tree in files.items()}


def merged(port: str, folder: Path | None = None) -> tuple[scopes.Modules, dict[str, str]]:
    """The bundle's files before their names are made short, and the labels that keep a plain name."""
    modules = sources.modules((folder or agent_folder()) / PACKAGE, port)
    port_module = f"{PACKAGE}.ports.{port}"
    if port_module not in modules:
        raise HostError(f"the agent has no port {port}", 2)
    names = scopes.Names(modules)
    public = _public(modules, names, port_module)
    found = constants.take_out(modules, names)
    files = merge.merge(modules, names, found, merge.plan(modules, (PACKAGE, f"{PACKAGE}.agent", port_module)))
    prune.prune(files, public)
    return files, public


def _public(modules: scopes.Modules, names: scopes.Names, port_module: str) -> dict[str, str]:
    """Labels that keep their plain names: what a user's app imports, what the agent finds a port by, and the kinds of
    error, which logs and results name.
    """
    plain = [scopes.Symbol(port_module, "Port"), scopes.Symbol(port_module, "main")]
    for name in ("command", "telemetry", "run"):
        meaning = names.meaning(PACKAGE, name)
        if not isinstance(meaning, scopes.Symbol):
            raise HostError(f"the agent does not offer {name}")
        plain.append(meaning)
    for module, tree in modules.items():
        plain += [scopes.Symbol(module, s.name) for s in tree.body if isinstance(s, ast.ClassDef) and s.bases]
    return {merge.label(symbol): symbol.name for symbol in plain}


def compile_mpy(text: str, name: str) -> bytes:
    """Source to .mpy, without its line numbers. HostError with the compiler's words."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.py", Path(folder) / "out.mpy"
        source.write_text(text)
        compiler(name, source, target, "-O3")
        return target.read_bytes()


def sizes(port: str) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of .mpy of each module compiled by itself, and of each file of the bundle."""
    folder = agent_folder()
    paths = sorted((folder / PACKAGE).rglob("*.py"))
    names = {path: ".".join(path.relative_to(folder).with_suffix("").parts) for path in paths}
    wanted = sources.modules(folder / PACKAGE, port)
    alone = {
        n: len(compile_mpy(p.read_text(), p.name)) for p, n in names.items() if n.removesuffix(".__init__") in wanted
    }
    return alone, {name: len(data) for name, data in agent_files(port).items()}


def main() -> None:
    """Print the sizes for the port of every board, and exit with 1 where a whole agent is above LIMIT."""
    from dormouse_host.flash import kinds

    worst = 0
    for port in sorted({kinds.load(name).port for name in kinds.names()} - {"posix"}):
        alone, files = sizes(port)
        worst = max(worst, sum(files.values()))
        for title, table in ((f"{port}: each module by itself", alone), (f"{port}: as flashed", files)):
            sys.stdout.write(f"\n{title}\n")
            for name, size in sorted(table.items(), key=lambda item: -item[1]):
                sys.stdout.write(f"  {size:6d}  {name}\n")
            sys.stdout.write(f"  {sum(table.values()):6d}  in all\n")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
