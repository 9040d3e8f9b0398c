"""Writing files so that a reader never sees half of one, and a full disk is a sentence."""

__all__ = ["full", "room", "unused", "write_json"]

import contextlib
import errno
import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from .errors import UsageError


def unused(path) -> Path:
    """The path itself where nothing is there yet, else the first free of kick-2.wav, kick-3.wav, ..."""
    path = Path(path)
    others = (path.with_name(f"{path.stem}-{i}{path.suffix}") for i in itertools.count(2))
    return next(p for p in itertools.chain([path], others) if not p.exists())


def full(error: BaseException) -> bool:
    """Was it want of space? safetensors and libsndfile have errors of their own for a full disk."""
    said = re.search("No space left|File too large|System error", str(error))
    return bool(said) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def room(path, then: str = "do the same again") -> Iterator[None]:
    """What cannot be written for want of space is a sentence that says where, and what to do then."""
    try:
        yield
    except Exception as error:
        if not full(error):
            raise
        raise UsageError(f"{path} could not be written ({error}): make room on the disk and {then}.") from error


def write_json(path, obj) -> Path:
    """Write JSON in one step: a reader sees the old file or the new one, never half. NaN and infinity become null."""
    path = Path(path)
    text = json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _plain(obj):
    if isinstance(obj, dict):
        return {str(k): _plain(v) for k, v in obj.items()}
    if isinstance(obj, (list, tuple, set, frozenset)):
        return [_plain(v) for v in (sorted(obj) if isinstance(obj, (set, frozenset)) else obj)]
    if obj is None or isinstance(obj, (str, bool, int)):
        return obj
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if callable(getattr(obj, "tolist", None)):  # numpy and torch, arrays and scalars
        return _plain(obj.tolist())
    return str(obj)
