"""Names made short: on a board each different name costs flash, and RAM while the agent runs.

Two names that could meet never become one. Attributes meet neither a file's top level, except in a class body, nor
locals, so that one short name serves two; locals of two functions never meet, nor do attributes that no class has both
of. Names that others see or use are kept (spoken.py).
"""

import ast
import itertools
import string
from collections.abc import Iterable, Iterator, Mapping

from dormouse_host.bundle.places import Found, Kind, Place, find
from dormouse_host.bundle.scopes import Modules
from dormouse_host.bundle.spoken import APPS, SPOKEN
from dormouse_host.bundle.true_names import TrueNames

_MOST = 3000  # short names at hand
Key = tuple[str | int | None, str]  # owner, if it matters, and name before


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
    _attributes_apart(common, private, _families(common, found, family), short)
    apart = {name: short.pop() for name in sorted(found.in_classes) if name not in kept}  # no attribute is as far down
    _tops_apart(tops, short, {**apart, **kept})
    _locals_apart([place for place in found.places if place.kind is Kind.LOCAL], tops, short)
    symbols: dict[str, set[str]] = {}
    classes: dict[str, str] = {}
    for place in tops:
        if isinstance(place.node, ast.ClassDef):
            classes[place.name] = _plain(before[id(place)])
        symbols.setdefault(place.name, set()).add(_plain(before[id(place)]))
    owned: dict[str, dict[str, str]] = {}
    for place in private:
        owned.setdefault(str(place.owner), {})[place.name] = before[id(place)]
    attributes = {_plain(name): owned[root] for name, root in family.items() if root in owned}
    shared: dict[str, set[str]] = {}
    for place in common:
        shared.setdefault(place.name, set()).add(before[id(place)])
    return TrueNames(_sorted(symbols), classes, attributes, _sorted(shared))


def _sorted(found: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(true)) for name, true in found.items()}


def _families(common: list[Place], found: Found, family: dict[str, str]) -> dict[str, set[str]]:
    """Each name of `common` -> the families of classes that have it; all of them, where only others set it."""
    having: dict[str, set[str]] = {}
    for owner, members in found.members.items():
        for name in members:
            having.setdefault(name, set()).add(family[owner])
    foreign = {p.name for p in common if p.owner is None and isinstance(getattr(p.node, "ctx", None), ast.Store)}
    return {p.name: set(family.values()) if p.name in foreign else having[p.name] for p in common}


def _attributes_apart(
    common: list[Place], private: list[Place], families: dict[str, set[str]], short: list[str]
) -> None:
    """No family of classes has one short name for two of them."""
    where: dict[Key, set[str]] = {(None, name): owners for name, owners in families.items()}
    where.update({(place.owner, place.name): {str(place.owner)} for place in private})
    _apart({**_grouped(common, owned=False), **_grouped(private, owned=True)}, where, {}, short)


def _tops_apart(tops: list[Place], short: list[str], given: dict[str, str]) -> None:
    """No file has one short name for two of them, nor have two classes one, which error texts tell. `given` says which
    get a given name.
    """
    where: dict[Key, set[str]] = {}
    for place in tops:
        where.setdefault((None, place.name), set()).add(place.file)
    for place in tops:
        if isinstance(place.node, ast.ClassDef):
            where[None, place.name].add("class")
    groups = _grouped(tops, owned=False)
    for (_, name), places in list(groups.items()):
        if name in given:
            del groups[None, name]
            for place in places:
                place.name = given[name]
    _apart(groups, where, {}, short)


def _locals_apart(places: list[Place], tops: list[Place], short: list[str]) -> None:
    """No function has one short name for two of them, nor for one and for what it uses of the top level."""
    used: dict[str, set[str]] = {}
    for place in tops:
        used.setdefault(str(place.owner), set()).add(place.name)
    groups = _grouped(places, owned=True)
    _apart(groups, {key: {str(key[0])} for key in groups}, used, short)


def _grouped(places: Iterable[Place], *, owned: bool) -> dict[Key, list[Place]]:
    groups: dict[Key, list[Place]] = {}
    for place in places:
        groups.setdefault((place.owner if owned else None, place.name), []).append(place)
    return groups


def _apart(
    groups: Mapping[Key, list[Place]], where: Mapping[Key, set[str]], used: dict[str, set[str]], short: list[str]
) -> None:
    """Rename the places of each group, the largest first; `where` it is, no other group gets the same of `short`."""
    for key in sorted(groups, key=lambda each: (-len(groups[each]), str(each))):
        new = next(name for name in short if not any(name in used.get(each, ()) for each in where[key]))
        for each in where[key]:
            used.setdefault(each, set()).add(new)
        for place in groups[key]:
            place.name = new


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


def _names() -> Iterator[str]:
    letters = string.ascii_letters + "_"
    yield from letters
    for first, second in itertools.product(letters, letters + string.digits):
        yield first + second
