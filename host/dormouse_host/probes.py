"""The payloads of `dormouse broker check`: a relay that hears one on a device's topic knows it, and stores nothing.

Must stay true: no message of a device has this form, so that none is taken for a probe.
"""

import json
import re

_FORM = re.compile(rb'\{"check":(true|\d{1,6}|"[a-z0-9-]{1,40}")\}')


def payload(value: bool | int | str) -> bytes:
    """One of them."""
    return json.dumps({"check": value}, separators=(",", ":")).encode()


def is_probe(said: bytes) -> bool:
    """Is this payload one of them?"""
    return _FORM.fullmatch(said) is not None
