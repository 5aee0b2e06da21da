"""Write JSON for people: indented, as every file and report of this package has it."""

from __future__ import annotations

import msgspec


def indented_json(value: object) -> bytes:
    """Encode a value as indented JSON in UTF-8, with a line feed at the end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
