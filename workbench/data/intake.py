"""Sounds read, cut at their onsets, trimmed and measured, in several processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workbench.data import audio, descriptors, onsets, synthesis
from workbench.data.stores import DataError

__all__ = ["SECTION", "Result", "Task", "parallel"]

SECTION = 60.0  # s of a recording that one task reads


class Task(NamedTuple):
    """One file, one section of a recording, or one synthetic clip; `key` names it in the journal."""

    key: str
    path: str
    common: dict  # columns of its rows and rejects
    file: Path | None = None
    start: float = 0.0
    seconds: float = 0.0  # 0 for the whole of a file
    made: tuple = ()  # seed and key of a synthetic clip, which has no file


class Result(NamedTuple):
    rows: list[dict]
    arrays: list[tuple[np.ndarray, np.ndarray]]  # clip (T,) int16 and vector (D,) float16
    rejects: list[dict]


def parallel(tasks: list[Task], rate: int, length: int, workers: int | None) -> Iterator[tuple[Task, Result]]:
    """Results in the order of the tasks for any number of processes; few are under way, so that memory stays flat."""
    batches = [tasks[i : i + 8] for i in range(0, len(tasks), 8)]
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers or free, len(batches) // 4)  # starting one costs a second
    if workers <= 1:
        for batch in batches:
            yield from zip(batch, _take(batch, rate, length), strict=True)
        return
    context = multiprocessing.get_context(
        "spawn" if sys.platform == "win32" else "forkserver"
    )  # fork and torch's threads: no
    if sys.platform != "win32":
        context.set_forkserver_preload([__name__, "scipy.signal"])  # imported once, not once a worker
    waiting: deque = deque()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(_take, batch, rate, length)))
            if len(waiting) > 4 * workers:
                yield from zip(waiting[0][0], waiting[0][1].result(), strict=True)
                waiting.popleft()
        while waiting:
            yield from zip(waiting[0][0], waiting[0][1].result(), strict=True)
            waiting.popleft()
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker process died near {waiting[0][0][0].path}; build again to go on from there, "
            "with workers=1 to see why. (A script must build below `if __name__ == '__main__':`)"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _take(tasks: Sequence[Task], rate: int, length: int) -> list[Result]:
    """Read, slice, trim and measure some tasks: what a worker does."""
    return [_take_or_refuse(task, rate, length) for task in tasks]


def _take_or_refuse(task: Task, rate: int, length: int) -> Result:
    try:
        return _take_one(task, rate, length)
    except MemoryError:
        raise
    except Exception as error:  # nobody foresaw it, and it must not cost the other files
        reason = f"taking it in failed, which is a fault of the workbench: {type(error).__name__}: {error}"
        return Result([], [], [{**task.common, "reason": reason}])


def _take_one(task: Task, rate: int, length: int) -> Result:
    result, offset = Result([], [], []), max(0.0, task.start - 0.05)
    clip = length / rate

    def refuse(reason: str, at: float | None = None) -> None:
        result.rejects.append({**task.common, "reason": reason if at is None else f"at {at:.3f} s: {reason}"})

    try:
        if task.made:
            x, facts = synthesis.make(task.made[1], seed=task.made[0], rate=rate, seconds=clip)
            y, from_rate, channels = x, rate, 1
            found = [onsets.Piece(0, len(x))]
        else:
            x, from_rate = audio.read(task.file, offset, task.seconds + clip + 0.2 if task.seconds else None)
            y, facts, channels = audio.mono(x), {}, x.shape[1]
            try:
                found = audio.parts(y, from_rate, length, rate)
            except audio.AudioError:
                if not task.seconds:  # a silent section of a recording is none of its sounds
                    raise
                found = []
    except audio.AudioError as error:
        refuse(str(error))
        return result
    if task.seconds:
        begin = task.start - offset
        found = [piece for piece in found if begin <= piece.start / from_rate < begin + task.seconds]
    sliced = bool(task.seconds) or len(found) > 1
    for piece in found:
        at = offset + piece.start / from_rate
        try:
            if piece.reason:
                raise audio.AudioError(piece.reason)
            shot = audio.cut(y, piece, from_rate, length, rate)
        except audio.AudioError as error:
            refuse(str(error), at if sliced else None)
            continue
        pcm = np.round(shot.x * 32767).astype(np.int16)
        x = pcm / np.float32(32767)  # measured as it is stored: rounding is audible to a flatness
        row = {
            "name": Path(task.path).stem + f" {at:.3f} s" * sliced,
            **task.common,
            "sha": hashlib.sha256(pcm.tobytes()).hexdigest(),
            "start": at,
            "source_rate": from_rate,
            "channels": channels,
            "seconds": (piece.end - piece.start) / from_rate,
            "events": piece.events,
            "gain": shot.gain,
        }
        result.rows.append(row | facts | descriptors.describe(x, rate))
        result.arrays.append((pcm, descriptors.embed(x[None], rate)[0].astype(np.float16)))
    return result
