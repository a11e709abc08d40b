"""What a person may have meant by a name that there is not."""

from collections.abc import Iterable
from difflib import get_close_matches

_LOOKED_AT = 5000  # names: comparing one takes some 20 µs


def meant(word: str, known: Iterable[str]) -> str:
    """The known name that is most like this word; empty where none is."""
    names = [name for name, _ in zip(known, range(_LOOKED_AT), strict=False)]
    lower = {name.lower(): name for name in reversed(names)}
    found = get_close_matches(word.lower(), lower, 1)
    return lower[found[0]] if found else ""


def question(word: str, known: Iterable[str]) -> str:
    """`: did you mean …?`, to be put behind an error; empty where nothing is like it."""
    name = meant(word, known)
    return f": did you mean {name}?" if name else ""
