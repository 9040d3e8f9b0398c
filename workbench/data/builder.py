"""From a folder, an archive, a recording or the built-in pack to a store of clips."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from workbench.data import audio, packs, splits, stores, synthesis
from workbench.data.clips import Clips, listed
from workbench.data.intake import SECTION, Task, parallel
from workbench.data.stores import DataError
from workbench.files import full, whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FEWEST", "NEAR", "SPLITS", "build", "compatible"]

SPLITS = ("train", "valid", "test")
NEAR = splits.LEFT_OUT  # the split of clips that sound like one in another set; no set uses them
STEP = 4096  # a length is a multiple of this, so that the strides of every family divide it
FEWEST = 20  # clips: of fewer no tenth can be held out
SAME = "the same sound as "


def build(
    source: str | os.PathLike,
    store: str | os.PathLike,
    *,
    seconds: float = 1.0,
    rate: int = 44_100,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    fold: int = 0,
    folds: int = 0,
    workers: int | None = None,
    licence: str = "",
    shareable: bool = False,
    progress: bool = True,
) -> Clips:
    """Take every sound of `source` into the folder `store`, and say what was refused and why.

    source    a folder of sounds, a .zip or .tar archive, one long recording (cut at its onsets), or "synthetic"
    seconds   of a clip; rounded up so that it holds a multiple of 4,096 values at `rate` Hz
    labels    keep only these (names as in `labels.CONVENTIONS`, or folders of your own)
    folds     for cross-validation: cut the packs into so many parts and hold out number `fold` (from 0) for the test and
              the next one for validation; with 0 a tenth of the clips goes to each
    licence, shareable   what others may do with the sounds; kept in the card

    The same sound twice (equal values after trimming and normalising, whatever the format or level) is kept once; the
    other is listed in the rejects. Building again takes what is new, keeps every split, and goes on where an
    interrupted build stopped. Sounds that are gone from the source stay. Raises DataError where nothing can be built;
    a store that exists then stays as it was.
    """
    if not os.fspath(source).strip():
        raise DataError(
            'no source was given; give a folder, an archive, a recording, or "synthetic" for the built-in pack'
        )
    synthetic = os.fspath(source) == "synthetic"
    source, store = Path(source).expanduser(), Path(store).expanduser()
    labels = None if labels is None else listed(labels)
    if not 0 < seconds <= 60:
        raise DataError(f"a clip of {seconds:g} s was asked; one lasts more than 0 and at most 60 s")
    if not 4_000 <= rate <= 192_000:
        raise DataError(f"a rate of {rate} Hz was asked; it must lie between 4,000 and 192,000 Hz")
    if folds and not (folds >= 3 and 0 <= fold < folds):
        raise DataError(f"fold {fold} of {folds} was asked; take 3 folds or more, and count them from 0 to {folds - 1}")
    if not synthetic and not source.exists():
        raise DataError(
            f"there is nothing at {source.absolute()}; give a folder, a .zip or .tar archive, or a recording"
        )
    length = max(1, math.ceil(round(seconds * rate / STEP, 2))) * STEP  # 1.4861 s are 65,536 values, not 69,632
    if progress:
        print(f"A clip holds {length:,} values ({length // STEP} x {STEP:,}): {length / rate:.4f} s at {rate:,} Hz.")
    if store.exists() and not store.is_dir():
        raise DataError(f"{store.absolute()} is a file; a store is a folder")
    name = "synthetic" if synthetic else str(source.resolve())
    asked = {"version": stores.VERSION, "rate": int(rate), "length": length, "source": name, "seed": int(seed)}
    asked["fold"] = [int(fold), int(folds)] if folds else None
    settings = {"seconds": seconds, "labels": labels}
    card = {"licence": licence or "CC0-1.0" * synthetic, "shareable": bool(shareable or synthetic)}
    try:
        store.mkdir(parents=True, exist_ok=True)
        with stores.held(store), ExitStack() as stack:
            old = compatible(store, asked)
            found = _synthetic() if synthetic else _find(source, store, stack)
            state = _State(store, old, found, labels)
            tasks = list(_tasks(state, seed, length / rate))
            journal = stores.Journal(store, asked, state.stored, {task.key for task in tasks})
            with journal:
                _run(tasks, journal, state, rate, length, workers, progress)
            return _finish(store, asked, settings, card, state, journal, progress)
    except OSError as error:
        if full(error):
            raise DataError(
                f"the disk of {store.absolute()} is full; clips that were there before are untouched. "
                "Make room and build again: it goes on where it stopped"
            ) from error
        if isinstance(error, PermissionError):
            raise DataError(f"{error.filename} may not be read or written (no permission)") from error
        raise DataError(f"{error.filename or store.absolute()}: {error.strerror or error}") from error


class _State:
    """What the store and the source hold before anything is read."""

    def __init__(self, store: Path, old: dict | None, found: packs.Found, labels: list[str] | None):
        import pandas as pd

        self.old, self.found = old, found
        self.stored = old["clips_stored"] if old else 0
        self.index = pd.read_parquet(store / "index.parquet") if old else pd.DataFrame({"path": []})
        self.rejects: list[dict] = []
        self.sounds: dict[str, packs.Sound] = {}
        for sound in found.sounds:
            reason = sound.excluded
            if labels and sound.label not in labels:
                reason = reason or f"its label is {sound.label!r}, and only {', '.join(labels)} were asked for"
            if reason:
                self.rejects.append({"path": sound.path, "reason": reason})
            else:
                self.sounds[sound.path] = sound
        self.rejects += [{"path": path, "reason": reason} for path, reason in found.rejects]
        unwanted = {sound.path for sound in found.sounds} - set(self.sounds)
        self.index = self.index[~self.index.path.isin(unwanted)].reset_index(drop=True)
        self.taken = {row["path"]: row for row in self.index.to_dict("records")}
        rejects = pd.read_parquet(store / "rejects.parquet") if old else pd.DataFrame({"size": []})
        self.refused: dict[str, list[dict]] = {}
        for row in rejects.dropna(subset=["size"]).to_dict("records"):
            self.refused.setdefault(row["path"], []).append(row)

    def unchanged(self, path: str, size: int, modified: float) -> bool:
        """True where a build before has taken or refused this very file; its rejects are then listed again."""
        rejects = self.refused.get(path, [])
        before = ([self.taken[path]] if path in self.taken else []) + rejects
        if not before or any((row["size"], row["modified"]) != (size, modified) for row in before):
            return False
        if path not in self.taken and any(SAME in row["reason"] for row in rejects):
            return False  # its twin may be gone
        self.rejects += rejects
        return True


def compatible(store: Path, asked: dict) -> dict | None:
    """The manifest of the store as it is, None for a new one; raises where it cannot hold what is asked."""
    old = stores.manifest(store)
    if old is None:
        ours = ("clips-", "vectors-", "unpacked-", "journal", "index.", "rejects.", "manifest.", ".")
        strangers = sorted(path.name for path in store.iterdir() if not path.name.startswith(ours))
        if strangers:
            raise DataError(f"{store.absolute()} holds {strangers[0]!r} and is no store; give an empty or a new folder")
        return None
    if (old["rate"], old["length"]) != (asked["rate"], asked["length"]):
        raise DataError(
            f"{store} holds clips of {old['length']:,} values at {old['rate']:,} Hz, and {asked['length']:,} at "
            f"{asked['rate']:,} Hz were asked; ask for seconds={old['length'] / old['rate']:.6g} and "
            f"rate={old['rate']}, or build into another folder"
        )
    for key in ("source", "seed", "fold"):
        if old.get(key) != asked[key]:  # stores of before there were folds have none
            raise DataError(
                f"{store} was built with {key} {old.get(key)!r}, and {asked[key]!r} was asked; build into another folder"
            )
    return old


def _find(source: Path, store: Path, stack: ExitStack) -> packs.Found:
    """The sounds of a source; an archive stays unpacked as long as `stack` is open."""
    for left in store.glob("unpacked-*"):  # of a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    if source.is_dir():
        found = packs.scan(source, skip=store)
    elif source.name.lower().endswith(packs.ARCHIVES):
        scratch = stack.enter_context(TemporaryDirectory(prefix="unpacked-", dir=store))
        found = stack.enter_context(packs.unpacked(source, Path(scratch)))
    elif source.suffix.lower() in audio.SUFFIXES:
        found = packs.recording(source)
    else:
        raise DataError(
            f"{source.name} is no folder, no zip or tar archive and no sound file; unpack it and give the folder"
        )
    if not found.sounds:
        seen = ", ".join(f"{count} {suffix}" for suffix, count in found.ignored.most_common(5))
        refused = f" {len(found.rejects)} were refused, first {': '.join(found.rejects[0])}." if found.rejects else ""
        raise DataError(f"there is no sound file in {source.absolute()}, which holds {seen or 'nothing'}.{refused}")
    return found


def _tasks(state: _State, seed: int, clip: float) -> Iterator[Task]:
    """What is to be read of the wanted sounds; a file that has not changed since it was taken or refused is not."""
    for path, sound in state.sounds.items():
        if state.unchanged(path, sound.size, sound.modified):
            continue
        common = {"path": path, "size": sound.size, "modified": sound.modified}
        key = f"{path} {sound.size} {sound.modified}"
        if sound.key is not None:
            yield Task(key, path, common, made=(seed, sound.key))
            continue
        try:
            seconds = audio.seconds(sound.file)
        except audio.AudioError:
            seconds = 0.0  # reading it will say why
        if seconds > max(SECTION, 3 * clip):
            for i in range(max(1, math.ceil(seconds / SECTION))):
                yield Task(f"{key} {i}", path, common, sound.file, i * SECTION, SECTION)
        else:
            yield Task(key, path, common, sound.file)


def _synthetic() -> packs.Found:
    pack = synthesis.keys()
    facts = [(key, synthesis.name(key), synthesis.LABELS[key.label]) for key in pack]
    sounds = [
        packs.Sound(f"{name}.wav", None, label, name.split("/")[0], 0, 0.0, "synthesis", key=key)
        for key, name, label in facts
    ]
    return packs.Found(sounds, [], packs.Counter())


def _run(
    tasks: list[Task], journal: stores.Journal, state: _State, rate: int, length: int, workers, progress: bool
) -> None:
    """Take in what the journal does not tell of yet; of equal sounds the first in the order of the tasks stays."""
    from tqdm import tqdm

    shas = {row["sha"]: row for row in [*state.index.to_dict("records"), *journal.rows]}
    todo = [task for task in tasks if task.key not in journal.done]
    with tqdm(total=len(todo), desc="taking in", unit="file", mininterval=0.5, disable=not (progress and todo)) as bar:
        for task, result in parallel(todo, rate, length, workers):
            rows, arrays, rejects = [], [], list(result.rejects)
            for row, pair in zip(result.rows, result.arrays, strict=True):
                where = f"at {row['start']:.3f} s: " if task.seconds or len(result.rows) > 1 else ""
                same = shas.get(row["sha"])
                if same is None and task.path in state.taken:
                    reason = (
                        "the file has changed since it was taken, and the first clip stays; build into a new folder"
                    )
                    rejects.append({**task.common, "reason": where + reason})
                elif same is None:
                    shas[row["sha"]] = row
                    rows.append(row)
                    arrays.append(pair)
                elif (same["path"], same["start"]) != (row["path"], row["start"]):  # else only its date is new
                    there = f" at {same['start']:.3f} s" if same["path"] == row["path"] else ""
                    rejects.append({**task.common, "reason": where + SAME + same["path"] + there})
            journal.add(task.key, rows, arrays, rejects)
            bar.update()


def _finish(
    store: Path, asked: dict, settings: dict, card: dict, state: _State, journal: stores.Journal, progress: bool
) -> Clips:
    """Make the index, find what sounds alike, split, and put everything in its place."""
    import pandas as pd

    tables = [table for table in (state.index, pd.DataFrame(journal.rows)) if len(table)]
    index = pd.concat(tables, ignore_index=True) if tables else state.index
    rejects = [*state.rejects, *journal.rejects]
    told = {row["path"] for row in rejects} | set(index.path)
    rejects += [
        {"path": path, "reason": "a recording in which no sound begins that could be a clip; give its parts as files"}
        for path in state.sounds
        if path not in told
    ]
    if len(index) < FEWEST:
        first = f" {len(rejects)} were refused, first {rejects[0]['path']}: {rejects[0]['reason']}." if rejects else ""
        raise DataError(
            f"{len(index)} clips are fewer than the {FEWEST} that can be split into training and held-out sets; "
            f"add sounds and build again.{first}"
        )
    index = _named(index, state.sounds)
    journal.publish()
    pairs = splits.alike(lambda rows: stores.gather(store, "vectors", rows), index["clip"].to_numpy())
    before = np.asarray(index.split, dtype=object) if "split" in index else np.full(len(index), None)
    by = state.old["settings"]["split_by"] if state.old else None
    label, pack = (np.asarray(index[column], dtype=object) for column in ("label", "pack"))
    found = splits.assign(label, pack, pairs, before, by, asked["seed"], asked["fold"])
    index["group"], index["near"], index["split"], by = found
    table = pd.DataFrame(rejects, columns=["path", "reason", "size", "modified"])
    table = table.astype({"path": str, "reason": str, "size": float, "modified": float})
    table = table.drop_duplicates(["path", "reason"]).sort_values("path", kind="stable").reset_index(drop=True)
    old = state.old or {"licence": "", "shareable": False}
    manifest = {
        **asked,
        "clips": len(index),
        "clips_stored": journal.count,
        "fingerprint": hashlib.sha256(json.dumps([asked["rate"], asked["length"], *index.sha]).encode()).hexdigest(),
        "licence": card["licence"] or old["licence"],
        "shareable": card["shareable"],
        "settings": {**settings, "split_by": by, "near_cosine": splits.COSINE},
        "splits": {name: int(n) for name, n in index.split.value_counts().sort_index().items()},
        "ignored": dict(state.found.ignored),
    }
    with whole(store / "index.parquet") as part:
        index.to_parquet(part, index=False)
    with whole(store / "rejects.parquet") as part:
        table.to_parquet(part, index=False)
    with whole(store / "manifest.json") as part:
        part.write_text(json.dumps(manifest, indent=1), "utf-8")
    journal.end()
    clips = Clips(store)
    if progress:
        parts = ", ".join(f"{count:,} {name}" for name, count in manifest["splits"].items())
        print(f"{len(index):,} clips ({parts}); {len(table):,} refused, each with its reason in .rejects.")
        try:
            clips.trainable()
        except DataError as error:
            print(f"Nothing can be trained of this store yet: {error}")
    return clips


def _named(index: pd.DataFrame, sounds: dict[str, packs.Sound]) -> pd.DataFrame:
    """Labels, packs and attributes as the source has them now; rows of sounds that are gone keep theirs."""
    columns = {name: name for name in ("label", "pack", "label_by", "label_certainty")} | {
        f"attribute_{name}": name for name in sorted({name for sound in sounds.values() for name in sound.attributes})
    }
    for column, name in columns.items():
        now = {path: getattr(s, name) if column == name else s.attributes.get(name, "") for path, s in sounds.items()}
        was = index[column] if column in index else [1.0 if column == "label_certainty" else ""] * len(index)
        index[column] = [now.get(path, old) for path, old in zip(index.path, was, strict=True)]
    return index
