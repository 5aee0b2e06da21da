"""Write JSON for people, and read JSON that anybody may have written."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import msgspec

Value = TypeVar("Value")


def indented_json(value: object) -> bytes:
    """Encode a value as indented JSON in UTF-8, with a line feed at the end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


@overload
def decode_json(text: bytes) -> Any: ...


@overload
def decode_json(text: bytes, type: type[Value]) -> Value: ...


def decode_json(text: bytes, type: Any = Any) -> Any:
    """Decode JSON.

    Args:
        text: JSON in UTF-8.
        type: type of the value.

    Raises:
        ValueError: the text is no JSON, not in UTF-8, nested too deep, or not of the type. The
            message is one line.
    """
    try:
        return msgspec.json.decode(text, type=type)
    except UnicodeDecodeError as error:  # of a string; msgspec checks them one by one
        raise ValueError(f"it is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except msgspec.MsgspecError as error:
        raise ValueError(" ".join(str(error).split())) from error
