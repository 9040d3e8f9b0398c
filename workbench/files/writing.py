"""Writing files so that a reader never sees half of one; a full disk, a folder that is gone and a damaged file are sentences."""

__all__ = ["full", "read_json", "room", "unused", "whole", "write_json"]

import contextlib
import errno
import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from workbench.errors import UsageError


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
    """What cannot be written, for want of space, of its folder or of permission, is a sentence that says what to do then.

    An error of a file elsewhere, such as one that is read meanwhile, is left as it is.
    """
    try:
        yield
    except Exception as error:
        if full(error):
            raise UsageError(f"{path} could not be written ({error}): make room on the disk and {then}.") from error
        if not isinstance(error, OSError) or not isinstance(error.filename, (str, bytes, os.PathLike)):
            raise
        place, file = Path(path), Path(os.fsdecode(error.filename))
        if not (place in (file, *file.parents) or file in place.parents or file.parent == place.parent):
            raise
        raise UsageError(
            f"{path} could not be written ({error.strerror}: {file}): see that its folder is there and may be written to, and {then}."
        ) from error


@contextlib.contextmanager
def whole(path) -> Iterator[Path]:
    """A temporary path, which takes the name `path` once all is written: a reader sees the old file or the new one, never half.

    It ends as `path` does, as some libraries read the format off a name; where writing fails it is removed.
    """
    path = Path(path)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_json(path, kind: type = dict, then: str = "bring back a whole copy"):
    """What a JSON file holds, an object by default; UsageError where it is torn, no JSON, or holds something else."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({str(error) or type(error).__name__}): {then}.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): {then}.") from None
    if not isinstance(found, kind):
        raise UsageError(f"{path} is damaged (it holds {type(found).__name__}, not {kind.__name__}): {then}.")
    return found


def write_json(path, obj) -> Path:
    """Write JSON in one step. NaN and infinity become null."""
    text = json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


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
