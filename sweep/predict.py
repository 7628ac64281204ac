"""`sweep predict`: texts from arguments, a file or standard input -> label, probability, text."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from sweep.errors import InputError


def predict(folder: Path, texts: list[str], file: Path | None) -> int:
    """Print one line per text: label, probability and text, separated by tabs.

    Raises:
        InputError: no model in `folder`, no texts, or a file that cannot be read.
    """
    wanted = _texts(texts, file)
    with Console(stderr=True).status("Loading the model …"):
        from transformers.utils import logging

        from sweep.classify import Classifier

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        classifier = Classifier(folder)
    for text, found in zip(wanted, classifier.predict(wanted), strict=True):
        print(f"{found.label}\t{found.probability:.4f}\t{text}")
    return 0


def _texts(texts: list[str], file: Path | None) -> list[str]:
    if texts and file is not None:
        raise InputError("Give texts or --file, not both.")
    if texts:
        lines = texts
    elif file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--file {file} cannot be read: {error}.") from None
    elif sys.stdin.isatty():
        raise InputError(
            "No text to classify: add one in quotes, --file F, or pipe one text a line, for "
            'instance sweep predict MODEL_DIR "The battery died after two days."'
        )
    else:
        lines = sys.stdin.read().splitlines()
    kept = [line for line in lines if line.strip()]
    if len(kept) < len(lines):
        empty = next(i for i, line in enumerate(lines, 1) if not line.strip())
        print(f"sweep: {len(lines) - len(kept)} empty texts left out (first: {empty})", file=sys.stderr)
    if not kept:
        raise InputError("All texts are empty: give at least one that is not.")
    return kept
