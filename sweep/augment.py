"""Copies of training texts, changed a little: words are left out or change places.

Source: Wei & Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
Classification Tasks", of which these are the two operations that need no dictionary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from sweep.schema import AugmentConfig


def changed_copies(texts: Sequence[str], settings: AugmentConfig, seed: int) -> list[str]:
    """`settings.copies` of all `texts`, one round after the other; the same for the same seed."""
    return [
        _changed(text, settings, random.Random(f"{seed}:{copy}:{row}"))
        for copy in range(settings.copies)
        for row, text in enumerate(texts)
    ]


def _changed(text: str, settings: AugmentConfig, chance: random.Random) -> str:
    words = text.split()
    for _ in range(round(settings.swap * len(words) / 2)):  # a swap moves two
        i, j = chance.sample(range(len(words)), 2)
        words[i], words[j] = words[j], words[i]
    kept = [word for word in words if chance.random() >= settings.delete]
    return " ".join(kept or words)
