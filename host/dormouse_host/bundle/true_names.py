"""The true names of what shorten.py has renamed, for the error texts of a board."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

# MicroPython's words for what only a fault of the agent's own can say.
_SAID = re.compile(r"'(\w+)'(?: object)? has no attribute '(\w+)'|\bname '(\w+)' isn't defined")


@dataclass(frozen=True)
class TrueNames:
    """Short name -> true name, or the true names: what is in different files or classes may have the same short name.
    `symbols`: of the top level, `classes` among them; `attributes`: by the true name of their class; `shared`:
    attributes of several classes.
    """

    symbols: Mapping[str, tuple[str, ...]]
    classes: Mapping[str, str]
    attributes: Mapping[str, Mapping[str, str]]
    shared: Mapping[str, tuple[str, ...]]

    def explained(self, text: str) -> str:
        """The text, with the true name in brackets behind each short one of the agent's that it names."""
        return _SAID.sub(self._add, text)

    def _add(self, said: re.Match[str]) -> str:
        owner, attribute, symbol = said.groups()
        true = self.symbols.get(symbol, ())
        if owner in self.classes:
            name = self.classes[owner]
            own = self.attributes.get(name, {}).get(attribute)
            true = tuple(f"{name}.{each}" for each in ([own] if own else self.shared.get(attribute, [attribute])))
        return f"{said[0]} [{' or '.join(true)}]" if true else said[0]
