"""Hydra's override grammar: read by Hydra's own parser, written back by its own rules."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from sweep.errors import InputError

SWEEPS = "interval(a,b), tag(log, interval(a,b)), int(interval(a,b)), choice(x,y), range(a,b,step)"


def parse_override(text: str) -> Override:
    """Hydra's reading of one override.

    Raises:
        InputError: with Hydra's reason.
    """
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        lines = [line for line in str(error).splitlines() if line and not line.startswith("See ")]
        reason = lines[0] if lines else "it does not parse"
        raise InputError(
            f"The override '{text}' cannot be read: {reason}. Write key=value, or one of {SWEEPS}."
        ) from None


def to_hydra(value: Any) -> str:
    """`value` in Hydra's grammar; strings are quoted, so that "1" and "null" stay strings."""
    text: str = Override._get_value_element_as_str(_quoted(value))
    return text


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return QuotedString(value, Quote.single)
    if isinstance(value, list):
        return [_quoted(element) for element in value]
    if isinstance(value, dict):
        return {key: _quoted(element) for key, element in value.items()}
    return value
