"""Shell completion: verbs here, overrides by Hydra (https://hydra.cc/docs/tutorials/basic/running_your_app/tab_completion)."""

from __future__ import annotations

import os

from sweep.compose import run_hydra

VERBS = ("launch", "resume", "stop", "status", "confirm", "chaos", "export", "predict")


def complete(arguments: list[str]) -> int:
    """Answer `sweep -sc install=SHELL` and the `query=SHELL` that a shell sends at each Tab."""
    if any(argument.startswith("query=") for argument in arguments):
        words = os.environ.get("COMP_LINE", "").split(" ")
        if len(words) <= 2 or words[1] not in VERBS:
            typed = words[1] if len(words) > 1 else ""
            print(" ".join(verb for verb in VERBS if verb.startswith(typed)))
            return 0
        if words[1] != "launch":
            return 0  # the shell completes file names
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    return run_hydra(["-sc", *arguments[1:]])
