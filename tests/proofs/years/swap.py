"""Other things under the names that modules have, for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def swapped(places: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Meanwhile each of these modules has that value under that name. AttributeError where it has nothing."""
    before = []
    try:
        for module, name, value in places:
            before.append((module, name, getattr(module, name)))
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in reversed(before):
            setattr(module, name, value)
