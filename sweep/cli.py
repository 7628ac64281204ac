"""The command `sweep`: verbs, help, exit statuses. Heavy modules are imported by the verb in need."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from sweep import __version__
from sweep.errors import InputError, SweepError, did_you_mean

_OVERVIEW = """\
Find the best hyperparameters of a text classifier, keep its model.

  sweep launch                              a first sweep, on product reviews
  sweep launch task=files task.path=reviews.csv task.label_column=sentiment
  sweep resume outputs/reviews              continue after a crash or Ctrl-C
  sweep status outputs/reviews              what has been found
  sweep export outputs/reviews              the best model as a folder
  sweep predict outputs/reviews/best "The battery died after two days."
"""
_LAUNCH = """\
Start a study. Overrides follow Hydra's grammar.

  sweep launch
  sweep launch experiment=smoke             three tiny trials in under a minute
  sweep launch 'trainer.learning_rate=tag(log, interval(1e-5,1e-3))' study.n_trials=12
  sweep launch trainer.learning_rate=3e-5   a plain value is fixed, not searched
  sweep launch launcher.devices_per_trial=2
  sweep launch --cfg job                    show the config, run nothing
"""
_RESUME = """\
Continue a study up to its total number of trials; a crash loses at most the epochs in flight.

  sweep resume outputs/reviews
  sweep resume outputs/reviews study.n_trials=20
  sweep resume outputs/reviews trial=5 from=checkpoint-134    one trial from an earlier epoch
  sweep resume outputs/reviews 'trainer.learning_rate=interval(1e-5,1e-2)' --widen
"""
_STATUS = """\
Show a study's trials, finished or running.

  sweep status outputs/reviews
  sweep status outputs/reviews --json | jq .best
  sweep status outputs/reviews --checkpoints      what could be resumed from, with its scores
"""
_STOP = """\
Pause a running study from another shell: its trials stop at the end of their epochs.

  sweep stop outputs/reviews
  sweep stop outputs/reviews --now          stop at once; the epochs in flight are repeated
"""
_CHAOS = """\
Prove it: run a study twice, once undisturbed and once killing it again and again, and compare.

  sweep chaos experiment=smoke --kills 10
Drivers, their servers and ranks are killed at random moments; one trial runs at a time, so that the
two studies must be equal to the last bit. Exits 1 if anything was lost, repeated twice or different.
"""
_EXPORT = """\
Write the best trial's model as a folder that transformers opens, and prove its score.

  sweep export outputs/reviews              to outputs/reviews/best
  sweep export outputs/reviews --trial 3 --to my-model
"""
_CONFIRM = """\
Train the best trials again with new seeds, and rank them by the mean of their scores.

  sweep confirm outputs/reviews --top 3 --seeds 5
The best of many noisy scores is too good to be true. Interrupted: type the same again. Afterwards
sweep export outputs/reviews --confirmed takes the winner.
"""
_PREDICT = """\
Classify texts with an exported model: label, probability, text.

  sweep predict outputs/reviews/best "The battery died after two days."
  sweep predict outputs/reviews/best --file texts.txt     one text a line
  cat texts.txt | sweep predict outputs/reviews/best
"""


def _parser() -> argparse.ArgumentParser:
    def add(verb: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            verb,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    parser = argparse.ArgumentParser(
        prog="sweep",
        description=_OVERVIEW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Tab completion: eval "$(sweep -sc install=bash)"',
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sweep {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    launch = add("launch", _LAUNCH)
    launch.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option, path=value")
    launch.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own config groups")
    launch.add_argument("--config-name", "-cn", default="config", help="the root config")
    launch.add_argument("--cfg", "-c", choices=["job", "hydra", "all"], help="show the config")
    launch.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    launch.add_argument("--package", "-p", help="with --cfg: show only this part")
    launch.add_argument("--info", "-i", nargs="?", const="all", help="show what Hydra composed")
    launch.add_argument("--hydra-help", action="store_true", help="Hydra's own help")
    resume = add("resume", _RESUME)
    resume.add_argument("study", type=Path, metavar="STUDY_DIR")
    resume.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="path=value")
    resume.add_argument("--widen", action="store_true", help="allow intervals to become wider")
    status = add("status", _STATUS)
    status.add_argument("study", type=Path, metavar="STUDY_DIR")
    status.add_argument("--json", action="store_true", help="one JSON object, for programs")
    status.add_argument("--checkpoints", action="store_true", help="list the checkpoints on disk")
    stop = add("stop", _STOP)
    stop.add_argument("study", type=Path, metavar="STUDY_DIR")
    stop.add_argument("--now", action="store_true", help="do not wait for the end of the epochs")
    chaos = add("chaos", _CHAOS)
    chaos.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for sweep launch")
    chaos.add_argument("--kills", type=int, default=10, metavar="N")
    chaos.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    export = add("export", _EXPORT)
    export.add_argument("study", type=Path, metavar="STUDY_DIR")
    export.add_argument("--trial", type=int, help="a trial's number instead of the best")
    export.add_argument("--to", type=Path, metavar="DIR", help="where to; STUDY_DIR/best if not given")
    export.add_argument("--adapter", action="store_true", help="keep a LoRA adapter instead of merging it")
    export.add_argument("--confirmed", action="store_true", help="the winner of sweep confirm")
    confirm = add("confirm", _CONFIRM)
    confirm.add_argument("study", type=Path, metavar="STUDY_DIR")
    confirm.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="launcher.PATH=VALUE")
    confirm.add_argument("--top", type=int, default=3, metavar="N", help="how many trials (3)")
    confirm.add_argument("--seeds", type=int, default=5, metavar="N", help="how many seeds each (5)")
    predict = add("predict", _PREDICT)
    predict.add_argument("model", type=Path, metavar="MODEL_DIR")
    predict.add_argument("texts", nargs="*", metavar="TEXT")
    predict.add_argument("--file", type=Path, metavar="F", help="a file with one text a line")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Entry point of the command; exits 0, 1 (fault), 2 (wrong input) or 128 + signal."""
    arguments = sys.argv[1:] if argv is None else argv
    errors = Console(stderr=True)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(_dispatch(arguments))
    except SweepError as error:
        errors.print(f"[bold red]sweep:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a disk that is full or gone; what was finished is on it
        errors.print(f"[bold red]sweep:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    finally:
        # The exit status is decided; a signal that comes late must not replace it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _terminated(number: int, _: FrameType | None) -> None:
    """Outside a driver's loop SIGTERM ends the command in order, as Ctrl-C does."""
    sys.exit(128 + number)


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] in (["-sc"], ["--shell-completion"]):
        from sweep.completion import complete

        return complete(arguments)
    sys.path.append(str(Path.cwd()))  # for modules of the user's own that a config names
    options, extra = _parser().parse_known_args(arguments)
    takes_overrides = options.verb in ("launch", "resume", "chaos", "confirm")
    _refuse_unknown(options.verb, [e for e in extra if e.startswith("-") or not takes_overrides])
    if options.verb == "launch":
        return _launch(options, [*options.overrides, *extra])
    if options.verb == "resume":
        from sweep.commands import resume

        return resume(options.study, [*options.overrides, *extra], options.widen, Console())
    if options.verb == "status":
        return _status(options)
    if options.verb == "stop":
        from sweep.stop import stop

        return stop(options.study, options.now, Console())
    if options.verb == "chaos":
        from sweep.chaos import chaos

        return chaos([*options.overrides, *extra], options.kills, options.seed, Console())
    if options.verb == "export":
        from sweep.export import export, export_confirmed

        if options.confirmed:
            return export_confirmed(options.study, options.to, options.adapter, Console())
        return export(options.study, options.trial, options.to, options.adapter, Console())
    if options.verb == "confirm":
        from sweep.confirm import confirm

        return confirm(options.study, options.top, options.seeds, [*options.overrides, *extra], Console())
    from sweep.predict import predict

    return predict(options.model, options.texts, options.file)


def _refuse_unknown(verb: str, unknown: list[str]) -> None:
    if not unknown:
        return
    if unknown[0] in ("-m", "--multirun"):
        raise InputError(
            "--multirun is not needed: sweep launch runs the whole search by itself. "
            "Type the same overrides without it."
        )
    flags = ["--config-dir", "--config-name", "--cfg", "--resolve", "--info", "--json", "--trial"]
    flags += ["--widen", "--checkpoints", "--now", "--kills", "--confirmed", "--adapter", "--top", "--seeds"]
    near = did_you_mean(unknown[0], flags)
    raise InputError(f"sweep {verb} does not take '{unknown[0]}'.{near} See sweep {verb} --help.")


def _launch(options: argparse.Namespace, overrides: list[str]) -> int:
    from omegaconf import OmegaConf

    from sweep.compose import compose, hydra_info

    if options.cfg in ("hydra", "all") or options.info or options.hydra_help:
        return hydra_info(options, overrides)
    cfg = compose(overrides, options.config_dir, options.config_name)
    if options.cfg == "job":
        shown = OmegaConf.select(cfg, options.package) if options.package else cfg
        print(OmegaConf.to_yaml(shown, resolve=options.resolve), end="")
        return 0
    from sweep.commands import launch

    return launch(cfg, Console())


def _status(options: argparse.Namespace) -> int:
    import json

    from sweep.commands import read_status
    from sweep.paths import StudyPaths
    from sweep.status import checkpoint_list, checkpoint_table, status_table, trial_count

    status = read_status(options.study)
    if options.checkpoints:
        with Console(stderr=True).status("Reading the checkpoints …"):
            status["checkpoints"] = checkpoint_list(status, StudyPaths(options.study))
    if options.json:
        print(json.dumps(status, indent=1))
    else:
        console = Console()
        console.print(status_table(status))
        if options.checkpoints:
            console.print(checkpoint_table(status["checkpoints"]))
        console.print(f"{status['remaining']} of {trial_count(status['n_trials'])} to go", highlight=False)
    return 0
