"""The errors a user sees. Every message names the offending value and the next action."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SweepError(Exception):
    """A fault at run time: one message, exit status 1, nothing finished is lost."""

    exit_status = 1


class InputError(SweepError):
    """Wrong input: one message, exit status 2, raised before anything is trained."""

    exit_status = 2


def input_error(problems: list[str]) -> InputError:
    """All `problems` in one error, so that a user mends a config in one go."""
    if len(problems) == 1:
        return InputError(problems[0])
    return InputError(f"{len(problems)} problems:\n" + "\n".join(f"  - {problem}" for problem in problems))


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` Did you mean 'near'?` for the nearest of `known`, or nothing."""
    candidates = [name for name in known if name != wrong]
    near = difflib.get_close_matches(wrong, candidates, n=1, cutoff=0.6)
    if not near:
        leaf = {name.rsplit(".", 1)[-1]: name for name in candidates}
        near = [leaf[n] for n in difflib.get_close_matches(wrong.rsplit(".", 1)[-1], leaf, 1, 0.75)]
    return f" Did you mean '{near[0]}'?" if near else ""


def reason_of(error: BaseException) -> str:
    """The first line of another library's error, without its full stop, to quote in a message."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


class OutOfSpaceError(SweepError):
    """The disk is too full for the next write; the study pauses."""
