"""A store on disk: shards that grow under temporary names, a journal to go on from, files that appear whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from workbench import files
from workbench.errors import UsageError
from workbench.files import locks

__all__ = ["SHARD", "VERSION", "DataError", "Journal", "gather", "held", "manifest"]

VERSION = 1
SHARD = 4096  # clips in a file
STEMS = {"clips": np.int16, "vectors": np.float16}


class DataError(UsageError):
    """A source or a store that cannot be used as asked; the message says what to do."""


def manifest(store: Path) -> dict | None:
    """The manifest of a store, None where there is none; raises for a damaged one or one of another version."""
    try:
        found = json.loads((store / "manifest.json").read_text("utf-8"))
        version = found["version"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{store / 'manifest.json'} is damaged ({error}); build the store again in a new folder"
        ) from error
    if version != VERSION:
        raise DataError(
            f"{store} is a store of version {version} and this workbench reads {VERSION}; build it again elsewhere"
        )
    return found


@contextmanager
def held(store: Path) -> Iterator[None]:
    """Hold the store's lock, or raise where another process is building it."""
    lock = locks.take(store)
    if lock is None:
        who = locks.describe(locks.holder(store) or {})
        raise DataError(f"{store.absolute()} is being built by {who}; wait for it, or end it")
    try:
        yield
    finally:
        lock.release()


def gather(store: Path, stem: str, rows: np.ndarray) -> np.ndarray:
    """Rows (n, width) of the shards of "clips" or "vectors", in this order, read from the memory map."""
    out = None
    for shard in np.unique(rows // SHARD):
        here = np.flatnonzero(rows // SHARD == shard)
        file = store / f"{stem}-{shard:05d}.npy"
        try:
            data = np.load(file, mmap_mode="r")
            out = np.empty((len(rows), data.shape[1]), data.dtype) if out is None else out
            out[here] = data[rows[here] % SHARD]
        except (OSError, ValueError, EOFError, IndexError, AttributeError) as error:
            raise DataError(f"{file} is damaged ({error}); build the store again in a new folder") from error
    return np.empty((0, 0), STEMS[stem]) if out is None else out


class Journal:
    """What a build has taken so far: rows of shards, and one line of JSON a task that tells of them.

    A build that was killed goes on behind the last whole line. `wanted` are the keys of the tasks of this build: what
    an interrupted one had taken under another key (the file has changed, or is not asked for any more) is left out.
    """

    def __init__(self, store: Path, head: dict, stored: int, wanted: set[str]):
        self.store, self.stored = store, stored
        self.path = store / "journal.jsonl"
        self.done: set[str] = set()
        self.rows: list[dict] = []
        self.rejects: list[dict] = []
        self.count = stored  # rows of the shards, of this build and of those before
        first = json.dumps({**head, "stored": stored})
        lines = self.path.read_text("utf-8").splitlines(keepends=True) if self.path.exists() else []
        if not lines or lines[0].strip() != first:
            lines = [first + "\n"]
            for part in store.glob("*.npy.part"):
                part.unlink()
        whole = [line for line in lines if line.endswith("\n")]  # the last may be torn
        for line in whole[1:]:
            entry = json.loads(line)
            self.count += len(entry["rows"])
            if entry["key"] in wanted:
                self.done.add(entry["key"])
                self.rows += entry["rows"]
                self.rejects += entry["rejects"]
        with files.whole(self.path) as part:
            part.write_text("".join(whole), "utf-8")

    def __enter__(self) -> Journal:
        self._lines = open(self.path, "a", encoding="utf-8")
        self._shards = [_Shards(self.store, stem, dtype, self.count) for stem, dtype in STEMS.items()]
        return self

    def __exit__(self, *_) -> None:
        for file in (self._lines, *self._shards):
            file.close()

    def add(self, key: str, rows: list[dict], arrays: list[tuple[np.ndarray, np.ndarray]], rejects: list[dict]) -> None:
        """Keep the rows of a task with their (clip, vector), and its rejects; each row gets its number as "clip"."""
        for pair in arrays:
            for shards, array in zip(self._shards, pair, strict=True):
                shards.append(array)
        for shards in self._shards:
            shards.flush()
        rows = [{"clip": self.count + i, **row} for i, row in enumerate(rows)]
        self._lines.write(json.dumps({"key": key, "rows": rows, "rejects": rejects}) + "\n")
        self._lines.flush()
        self.count += len(rows)
        self.rows += rows
        self.rejects += rejects

    def publish(self) -> None:
        """Give finished shards their names. The last shard of the store as it was begins the one that replaces it."""
        for stem in STEMS:
            for part in sorted(self.store.glob(f"{stem}-*.npy.part")):
                shard = int(part.name.removeprefix(f"{stem}-").split(".")[0])
                with open(part, "r+b") as file:
                    np.lib.format.read_magic(file)
                    (_, width), _, dtype = np.lib.format.read_array_header_1_0(file)
                    _header(file, dtype, (min(SHARD, self.count - shard * SHARD), width))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, part.with_suffix(""))

    def end(self) -> None:
        self.path.unlink()


class _Shards:
    """Rows appended to STEM-00000.npy.part, ...: plain writes, as a full disk kills who writes into a map."""

    def __init__(self, store: Path, stem: str, dtype, rows: int):
        self.store, self.stem, self.dtype, self.rows = store, stem, np.dtype(dtype), rows
        self.file = None

    def append(self, row: np.ndarray) -> None:
        if self.file is None or self.rows % SHARD == 0:
            self._open(*divmod(self.rows, SHARD), len(row))
        self.file.write(row.astype(self.dtype).tobytes())
        self.rows += 1

    def flush(self) -> None:
        if self.file:
            self.file.flush()

    def close(self) -> None:
        if self.file:
            self.file.close()

    def _open(self, shard: int, rows: int, width: int) -> None:
        """Open a shard so that `rows` of it stay: those of the store as it was, and those of an interrupted build."""
        self.close()
        part = self.store / f"{self.stem}-{shard:05d}.npy.part"
        if rows and not part.exists():
            shutil.copyfile(part.with_suffix(""), part)
        self.file = open(part, "r+b" if part.exists() else "w+b")  # noqa: SIM115
        _header(self.file, self.dtype, (SHARD, width))
        end = self.file.tell() + rows * width * self.dtype.itemsize
        self.file.truncate(end)
        self.file.seek(end)


def _header(file, dtype: np.dtype, shape: tuple[int, int]) -> None:
    """Write the header of a .npy file; NumPy pads it, so that another number of rows takes as many bytes."""
    file.seek(0)
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
