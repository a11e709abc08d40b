"""Names made short: on a board each different name costs flash, and RAM while the agent runs.

Two names that could meet never become one. Attributes meet neither a file's top level, except in a class body, nor
locals, so that one short name serves two; locals of two functions never meet, nor do attributes that only the methods
of their own class use. Names that others see or use are kept (spoken.py).
"""

import itertools
import string
from collections import Counter
from collections.abc import Iterable, Iterator

from dormouse_host.bundle.places import Found, Kind, Place, find
from dormouse_host.bundle.scopes import Modules
from dormouse_host.bundle.spoken import APPS, SPOKEN
from dormouse_host.bundle.true_names import TrueNames

_MOST = 3000  # short names at hand


def shorten(files: Modules, kept: dict[str, str]) -> TrueNames:
    """Rename in place. `kept` says which labels of merge.py get a given name."""
    found = find(files, kept, APPS)
    common, private, family = _attributes(found)
    tops = [place for place in found.places if place.kind is Kind.TOP]
    before = {id(place): place.name for place in (*tops, *common, *private)}
    renamed = {id(place) for place in (*common, *private)}
    for place in found.places:
        if place.kind is Kind.ATTRIBUTE and id(place) not in renamed:
            found.fixed.add(place.name)
    taken = found.fixed | set(kept.values())
    short = [name for name in itertools.islice(_names(), _MOST) if name not in taken]
    beyond = _by_owner(private, short)
    _rename(common, short[beyond:])
    beyond = _by_owner([place for place in found.places if place.kind is Kind.LOCAL], short)
    apart = {name: short.pop() for name in sorted(found.in_classes) if name not in kept}  # no attribute is as far down
    _rename(tops, short[beyond:], {**apart, **kept})
    symbols = {place.name: _plain(before[id(place)]) for place in tops}
    owned: dict[str, dict[str, str]] = {}
    for place in private:
        owned.setdefault(str(place.owner), {})[place.name] = before[id(place)]
    attributes = {_plain(name): owned[root] for name, root in family.items() if root in owned}
    return TrueNames(symbols, attributes, {place.name: before[id(place)] for place in common})


def _plain(label: str) -> str:
    """The name that a label of merge.py stands for; `binascii.crc32`, where it is from elsewhere."""
    module, _, name = label.partition("__")
    return name.replace("__", ".") if module == "_foreign" else name


def _attributes(found: Found) -> tuple[list[Place], list[Place], dict[str, str]]:
    """Those of several classes, or of things that are not `self`; those of one class each, with the first of its bases
    as owner; and that one of each class.
    """
    places = [place for place in found.places if place.kind is Kind.ATTRIBUTE and _free(place.name, found)]
    family = {name: name for name in found.bases}
    for name, bases in found.bases.items():
        for base in bases:
            old = family[name]
            family = {n: family.get(base, f) if f == old else f for n, f in family.items()}
    shared = {place.name for place in places if place.owner is None}
    for place in places:
        place.owner = family.get(str(place.owner))
    return [p for p in places if p.name in shared], [p for p in places if p.name not in shared], family


def _free(name: str, found: Found) -> bool:
    return name in found.own and name not in found.fixed and name not in SPOKEN and not name.startswith("__")


def _by_owner(places: Iterable[Place], short: list[str]) -> int:
    """Rename each owner's places by themselves. Returns how many short names that took at most."""
    owners: dict[object, list[Place]] = {}
    for place in places:
        owners.setdefault(place.owner, []).append(place)
    return max((_rename(each, short) for each in owners.values()), default=0)


def _rename(places: list[Place], short: Iterable[str], kept: dict[str, str] | None = None) -> int:
    """Give each name of `places`, the most frequent first, one of `short`, or what `kept` says."""
    names = iter(short)
    new = dict(kept or {})
    for name, _ in Counter(place.name for place in places).most_common():
        new[name] = new.get(name) or next(names)
    for place in places:
        place.name = new[place.name]
    return len(new)


def _names() -> Iterator[str]:
    letters = string.ascii_letters + "_"
    yield from letters
    for first, second in itertools.product(letters, letters + string.digits):
        yield first + second
