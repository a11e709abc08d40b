"""The device's own modules, loaded anew for each device: nothing of one board's memory is another's, nor the host's.

Must stay true: what runs is the text of device/dormouse and of umqtt.simple; after `boot` every module is as it is
after its import.
"""

import builtins
import copy
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_MUTABLE = (list, dict, set, bytearray)


class Sources:
    """Compiled texts: `agent` is the folder with `dormouse`, `umqtt` the one with `umqtt`."""

    def __init__(self, agent: Path, umqtt: Path) -> None:
        self.codes: dict[str, tuple[CodeType, bool]] = {}
        for root, top in ((agent, "dormouse"), (umqtt, "umqtt")):
            for file in sorted((root / top).rglob("*.py")):
                parts = file.relative_to(root).with_suffix("").parts
                package = parts[-1] == "__init__"
                name = ".".join(parts[:-1] if package else parts)
                self.codes[name] = compile(file.read_text(), str(file), "exec", dont_inherit=True), package
        self.codes.setdefault("umqtt", (compile("", "umqtt", "exec"), True))


class Universe:
    """One board's modules. `given`: modules that the board supplies in the place of the interpreter's."""

    def __init__(self, sources: Sources, given: dict[str, Any], program: Any) -> None:
        self._sources, self._given, self._program = sources, given, program
        self.modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._kept: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = []
        for name in sorted(sources.codes):
            if name == "dormouse.ports.storage" or not name.startswith(("dormouse.ports.", "dormouse.tls")):
                self._load(name)

    def keep(self) -> None:
        """As the modules are now they are after each boot."""
        for module in self.modules.values():
            values = vars(module)
            mutable = {k: copy.deepcopy(v) for k, v in values.items() if type(v) in _MUTABLE and k[:2] != "__"}
            self._kept.append((values, dict(values), mutable))

    def boot(self) -> None:
        """Every module is as `keep` found it."""
        self._given["sys"].path.clear()
        for values, kept, mutable in self._kept:
            if values != kept:
                values.clear()
                values.update(kept)
            for name, value in mutable.items():
                now = values[name]
                if now != value:
                    now.clear()
                    (now.update if isinstance(now, dict | set) else now.extend)(copy.deepcopy(value))

    def _load(self, name: str) -> ModuleType:
        if name in self.modules:
            return self.modules[name]
        code, package = self._sources.codes[name]
        module = ModuleType(name)
        values = vars(module)
        values["__builtins__"] = self._builtins
        values["__package__"] = name if package else name.rpartition(".")[0]
        if package:
            values["__path__"] = []
        self.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(self._load(parent), last, module)
        exec(code, values)
        return module

    def _import(self, name: str, values: Any = None, _locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level:
            base = values["__package__"].split(".")
            name = ".".join([*base[: len(base) - level + 1], *filter(None, [name])])
        if name == "app":
            return self._program()
        if name in self._given:
            return self._given[name]
        if name not in self._sources.codes:
            return builtins.__import__(name, None, None, fromlist, 0)
        module = self._load(name)
        if not fromlist:
            return self.modules[name.partition(".")[0]]
        for attribute in fromlist:
            if f"{name}.{attribute}" in self._sources.codes and not hasattr(module, attribute):
                self._load(f"{name}.{attribute}")
        return module


def interpreter() -> ModuleType:
    """`sys` as the device sees it: its own table of modules."""
    seen = ModuleType("sys")
    vars(seen).update({k: v for k, v in vars(sys).items() if k[:2] != "__"})
    seen.modules = {}  # type: ignore[attr-defined]
    seen.path = []  # type: ignore[attr-defined]
    seen.print_exception = lambda error, file: None  # type: ignore[attr-defined]
    return seen
