"""Files that are whole or not there: durable writes, removals by rename, and a full disk told apart."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
# How libraries that hide the errno say it: Rust (safetensors), glibc, SQLite.
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "database or disk is full")


def write_text(path: Path, text: str, lasting: bool = True) -> None:
    """Write `path` so that a kill or a power cut leaves the old or the new text, never a part.

    What is not `lasting`, because it is written again before it is needed, survives kills only.
    """
    new = path.with_name(f".{path.name}.new")
    with new.open("w") as stream:
        stream.write(text)
        if lasting:
            stream.flush()
            os.fsync(stream.fileno())
    new.replace(path)
    if lasting:
        sync(path.parent)


def yaml_text(value: Any) -> str:
    """`value` as YAML that `OmegaConf.load` reads back the same."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Dumper(yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper):  # type: ignore[misc]
    """Quotes strings that OmegaConf's reader, not YAML 1.1, takes for numbers: "1e3"."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[\d_.]+[eE][-+]?\d+$"), list("-+.0123456789")
)


def sync(path: Path) -> None:
    """Force a file's contents, or the names in a folder, to the disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Remove `folder`; it is out of the way at once, so a kill never leaves half of it in place."""
    aside = folder.with_name(f".removing-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)


def file_hash(file: Path) -> str:
    """sha256 of a file's contents."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def is_out_of_space(error: BaseException) -> bool:
    """Whether a full disk (or quota) is what `error`, or what led to it, is about."""
    return any(
        (isinstance(e, OSError) and e.errno in _FULL) or any(text in str(e) for text in _FULL_TEXTS)
        for e in chain(error)
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
