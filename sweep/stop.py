"""The verb stop: ask a study's driver, from another shell, what Ctrl-C asks in its own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from rich.console import Console

from sweep.errors import InputError
from sweep.opening import open_study
from sweep.presence import driver_of
from sweep.summary import quoted


def stop(root: Path, now: bool, console: Console) -> int:
    """Pause the study in `root` and wait until its driver is gone. Returns the exit status.

    Args:
        root: the study's folder.
        now: do not wait for the end of the running epochs.
        console: where to print.

    Raises:
        InputError: no study, or its driver runs on another machine.
    """
    paths, _ = open_study(root)
    driver = driver_of(paths)
    if driver is not None and not driver.here:
        raise InputError(
            f"{root} was last driven by process {driver.pid} on {driver.host}: type sweep stop there."
        )
    if driver is None or not driver.alive():
        console.print(f"{root} is not running.", highlight=False, soft_wrap=True)
        return 0
    os.kill(driver.pid, signal.SIGTERM)
    with console.status("Stopping now …" if now else "Waiting for the end of the running epochs …"):
        if now:
            time.sleep(0.5)  # two signals at once would arrive as one
            if driver.alive():
                os.kill(driver.pid, signal.SIGTERM)
        while driver.alive():
            time.sleep(0.1)
    console.print(f"stopped. Continue:  sweep resume {quoted(root)}", highlight=False, soft_wrap=True)
    return 0
