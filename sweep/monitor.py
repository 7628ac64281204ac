"""What a person sees while a study runs: one line per epoch, and progress bars in a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sweep.events import (
    AttemptFailed,
    EpochDone,
    Event,
    StepDone,
    TrialEnded,
    TrialParked,
    TrialPaused,
    TrialStarted,
)
from sweep.score import FOLD, STANDARD_METRICS
from sweep.status import show_params, show_score


def kept_epochs(kept: int, repeated: list[int]) -> str:
    """`epochs 1–2 kept, epoch 3 repeated`."""
    first = {0: "no epoch kept", 1: "epoch 1 kept"}.get(kept, f"epochs 1–{kept} kept")
    if not repeated:
        return first
    span = f"epoch {repeated[0]}" if len(repeated) == 1 else f"epochs {repeated[0]}–{repeated[-1]}"
    return f"{first}, {span} repeated"


class Monitor:
    """Prints the events of a study; use it as a context around the driver's loop."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: dict[int, TaskID] = {}
        self._progress = Progress(
            TextColumn("trial {task.fields[number]}"),
            BarColumn(),
            TextColumn("step {task.completed}/{task.total}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Monitor:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        """Show one event of a rank."""
        if isinstance(event, StepDone):
            self._step(event)
        elif isinstance(event, TrialStarted):
            self._started(event)
        elif isinstance(event, EpochDone):
            self._epoch(event)
        elif isinstance(event, TrialEnded):
            self._remove_bar(event.number)
            if event.state == "PRUNED":
                self._say(f"trial {event.number}  stopped early by the pruner")
        elif isinstance(event, TrialParked):
            self._remove_bar(event.number)
            self._say(
                f"trial {event.number}  parked by the pruner; it goes on if it is among the best after all"
            )
        elif isinstance(event, TrialPaused):
            self._remove_bar(event.number)
            self._say(f"trial {event.number}  paused after its epoch")
        elif isinstance(event, AttemptFailed) and event.number is not None:
            self._remove_bar(event.number)

    def failed(self, number: int, error: str, log: str) -> None:
        """A trial ended as FAIL."""
        self._remove_bar(number)
        self._say(f"trial {number}  failed: {error}\n         log: {log}", style="red")

    def note(self, text: str, number: int | None = None) -> None:
        """Something out of the ordinary; trial `number` is not running at the moment."""
        if number is not None:
            self._remove_bar(number)
        self._say(text, style="yellow")

    def stopping(self, now: bool) -> None:
        """The study stops at a signal, a full disk, or because its time is used up."""
        if now:
            self._say("stopping now; nothing finished is lost", style="yellow")
        else:
            self._say(
                "pausing: running trials stop after their epoch (Ctrl-C once more: stop now)",
                style="yellow",
            )

    def _started(self, event: TrialStarted) -> None:
        again = f" (attempt {event.attempt}, {kept_epochs(event.kept, event.repeated)})"
        for line in event.damaged:
            self._say(f"trial {event.number}  passes over a damaged checkpoint: {line}", style="yellow")
        self._say(
            f"trial {event.number}  started{again if event.attempt > 1 else ''}: {show_params(event.params)}"
        )

    def _epoch(self, event: EpochDone) -> None:
        m = event.metrics
        own = "".join(f"{name} {m[name]:.4f}  " for name in m if name not in STANDARD_METRICS)
        own += "".join(f"{name} {show_score(name, m[name])}  " for name in ("latency", "size") if name in m)
        fold = f"fold {m[FOLD]}  " if FOLD in m else ""
        self._say(
            f"trial {event.number}  {fold}epoch {event.epoch}  accuracy {m['accuracy']:.4f}  "
            f"F1 {m['f1']:.4f}  loss {m['loss']:.4f}  {own}time {m['seconds']:.1f} s"
        )

    def _step(self, event: StepDone) -> None:
        if event.number not in self._bars:
            self._bars[event.number] = self._progress.add_task("", number=event.number, total=event.max_steps)
        self._progress.update(self._bars[event.number], completed=event.step)

    def _remove_bar(self, number: int) -> None:
        if (bar := self._bars.pop(number, None)) is not None:
            self._progress.remove_task(bar)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(escape(text), style=style, highlight=False, soft_wrap=True)
