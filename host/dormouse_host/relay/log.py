"""The relay's log: one event on one line, `<time> <level> <event> key=value …`, or the same as JSON.

Nothing that came from outside can end a line or reach a terminal as a control character. No secret is ever a field.
"""

import json
import logging
import sys
import time
from typing import Any

_logger = logging.getLogger("dormouse.relay")


def set_up(*, as_json: bool) -> None:
    """Write to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _KeyValue())
    _logger.handlers[:] = [handler]
    _logger.setLevel(logging.INFO)
    _logger.propagate = False


def info(event: str, **fields: object) -> None:
    """What went as it should."""
    _logger.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """What did not, and is dealt with."""
    _logger.warning(event, extra={"fields": fields})


def _parts(record: logging.LogRecord) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
    fields: dict[str, Any] = getattr(record, "fields", {})
    return {"time": at, "level": record.levelname.lower(), "event": record.getMessage(), **fields}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_parts(record), default=str)


class _KeyValue(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = _parts(record)
        head = f"{parts.pop('time')} {parts.pop('level')} {parts.pop('event')}"
        return " ".join([head, *(f"{key}={_value(value)}" for key, value in parts.items())])


def _value(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=') and text
    return text if plain else json.dumps(text)
