"""What the benchmarks share: a study run in this process, its events with the time of their arrival."""

from __future__ import annotations

import io
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console

from sweep import commands
from sweep.compose import compose
from sweep.events import Event
from sweep.monitor import Monitor

_RESULTS = Path("outputs/benchmarks")
Timeline = list[tuple[float, Event]]


def save(name: str, figures: dict[str, Any]) -> None:
    """Keep the figures of a benchmark, with the machine and the versions, for the plot."""
    _RESULTS.mkdir(parents=True, exist_ok=True)
    setting = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "transformers", "optuna")},
    }
    (_RESULTS / f"{name}.json").write_text(json.dumps({**setting, **figures}, indent=1))


def kept(name: str) -> dict[str, Any] | None:
    """What `save` kept of a benchmark."""
    file = _RESULTS / f"{name}.json"
    return dict(json.loads(file.read_text())) if file.exists() else None


def recorded(
    overrides: list[str],
    folder: Path,
    resume: Path | None = None,
    seen: Callable[[Event], None] = lambda _: None,
) -> Timeline:
    """Run a sweep below `folder` (or resume one) through the real driver; its events, with the time.

    `seen` is told each event, in the driver's process.
    """
    timeline: Timeline = []

    class Recorder(Monitor):
        def on_event(self, event: Event) -> None:
            timeline.append((time.monotonic(), event))
            seen(event)
            super().on_event(event)

    output = io.StringIO()
    with mock.patch.object(commands, "Monitor", Recorder):
        console = Console(file=output, width=200)
        if resume is not None:
            code = commands.resume(resume, overrides, False, console)
        else:
            code = commands.launch(compose([*overrides, f"study.output_dir='{folder}'"]), console)
    if code:
        raise RuntimeError(output.getvalue())
    return timeline
