"""JSON headers of messages, told apart from what is none; numbers that nobody knows are null there, NaN here."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from gpudiff.model.errors import BadMessage, MissingKey

Kind = TypeVar("Kind")


def decode_header(text: Any, kind: type[Kind], required: Sequence[str], who: str) -> Kind:
    """What a JSON object says, as a msgspec.Struct.

    text : bytes or str; required : its keys that must be there, each of which is named where it is not
    who : what a refusal begins with
    Raises MissingKey, and BadMessage for what is no JSON, no object, or has a value of another kind.
    """
    try:
        said = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as error:
        raise BadMessage(f"{who}: expected a JSON object: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"{who}: expected JSON: {error}") from None
    missing = [key for key in required if key not in said]
    if missing:
        raise MissingKey(f"{who}: missing {', '.join(missing)}")
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"{who}: {error}") from None


def or_nan(value: float | None) -> float:
    """The number; NaN for null."""
    return math.nan if value is None else value


def or_none(value: float) -> float | None:
    """The number; null for NaN and infinities, which JSON has not."""
    return value if math.isfinite(value) else None
