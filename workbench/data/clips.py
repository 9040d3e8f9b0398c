"""The clips of a store as arrays, with what is known of each."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.data import descriptors, stores
from workbench.data.stores import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Clips", "listed"]

ENOUGH = 8  # training clips of which an attribute must be known, so that something can be learned of it
LEAST = {"train": 2, "valid": 2, "test": 1}  # clips in each split without which nothing is trained or measured
SURE = 0.8  # confidence from which a clip's pitch counts as known
CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


class Clips:
    """The clips of a store, or a selection of them.

    split, labels   keep only this split ("train", "valid", "test"), these labels
    index           one row a clip: clip (row of the store), path, label, pack, split, gain, descriptors, ...
    labels          labels of the training clips, sorted: the columns of `context`
    rejects         what was refused: path, reason

    Raises DataError for a folder that is no store, an unknown label, or a split that holds nothing.
    """

    def __init__(self, store: str | os.PathLike, split: str | None = None, labels: Sequence[str] | None = None):
        import pandas as pd

        self.store = Path(store).expanduser()
        manifest = stores.manifest(self.store)
        if manifest is None:
            raise DataError(
                f"{self.store.absolute()} is no store of clips (no manifest.json in it); `workbench run data` makes one (data.build in Python)"
            )
        kinds = {"rate": int, "length": int, "fingerprint": str, "settings": dict, "splits": dict}
        if missing := [name for name, kind in kinds.items() if not isinstance(manifest.get(name), kind)]:
            raise DataError(
                f"{self.store / 'manifest.json'} is damaged (it has no {missing[0]}); build the store again in a new folder"
            )
        self.manifest: dict = manifest
        self.rate: int = manifest["rate"]
        self.length: int = manifest["length"]
        self.fingerprint: str = manifest["fingerprint"]
        try:
            self.rejects: pd.DataFrame = pd.read_parquet(self.store / "rejects.parquet")
            index = pd.read_parquet(self.store / "index.parquet")
            index[["clip", "path", "label", "split", "gain"]]  # without these it is none
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"the index of {self.store} cannot be read ({error}); build it again in a new folder"
            ) from error
        if labels is not None:
            labels = listed(labels)
            unknown = set(labels) - set(index.label)
            if unknown:
                there = ", ".join(sorted(set(index.label)))
                raise DataError(
                    f"no clip is labelled {', '.join(sorted(unknown))}; the labels of this store are {there}"
                )
            index = index[index.label.isin(labels)]
        self.labels: tuple[str, ...] = tuple(sorted(set(index.label[index.split == "train"])))
        if split is not None:
            there = index.split.value_counts().to_dict()
            if not there.get(split):
                counts = ", ".join(f"{name} {count}" for name, count in sorted(there.items()))
                raise DataError(f"no clip is in the split {split!r}; the splits hold {counts}")
            index = index[index.split == split]
        self.index: pd.DataFrame = index.reset_index(drop=True)
        self._rows, self._labels = self.index["clip"].to_numpy(), labels

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"Clips({str(self.store)!r}: {len(self):,} of {self.length:,} values at {self.rate:,} Hz)"

    def split(self, name: str) -> Clips:
        return Clips(self.store, name, self._labels)

    def trainable(self) -> None:
        """Refuse a store of which too few clips train or are held out, with what to do."""
        count = {name: int((self.index.split == name).sum()) for name in LEAST}
        if any(count[name] < least for name, least in LEAST.items()):
            has, needs = (", ".join(f"{n} {name}" for name, n in of.items()) for of in (count, LEAST))
            more = f" Or take more labels than {', '.join(self._labels)}." if self._labels else ""
            raise DataError(
                f"{self.store} has clips in the splits {has}, and training takes at least {needs}. Near-duplicates, such as takes of one sound, "
                f"stay together, so that they cannot be held out from each other: add sounds that differ, of other packs or machines, "
                f"and run `workbench run data` again with the same store.{more}"
            )

    def audio(self, rows: slice | Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Clips (n, T) float32 in [-1, 1], at these positions of the selection (all of them for None)."""
        numbers = self._rows[slice(None) if rows is None else rows]
        return stores.gather(self.store, "clips", numbers).reshape(len(numbers), self.length) / np.float32(32767)

    def vectors(self, rows: slice | Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """What `descriptors.embed` gave for them: (n, D) float32, to half precision."""
        numbers = self._rows[slice(None) if rows is None else rows]
        return stores.gather(self.store, "vectors", numbers).astype(np.float32)

    def context(
        self, rows: slice | Sequence[int] | np.ndarray | None = None, spec: Sequence[str] | None = None
    ) -> np.ndarray:
        """What holds of clips, (n, C) float32 of 0 and 1: a column for each word of `spec`, labels or `attributes`.

        By default the labels. A row of zeros is a label that training does not know; an attribute is 0 where nothing is known, too.
        """
        chosen = self.index.iloc[slice(None) if rows is None else rows]
        spec = self.labels if spec is None else spec
        holds = np.asarray(chosen.label, dtype=object)[:, None] == np.array(spec, dtype=object)
        if not set(spec) <= set(self.labels):
            holds |= np.array([[word in words for word in spec] for words in attributes(chosen)], dtype=bool)
        return holds.astype(np.float32)

    def attributes(self, least: int = ENOUGH) -> tuple[str, ...]:
        """What is known of at least so many training clips beside their label: "octave: 3", "pitch class: C", "style: soft", ..."""
        count = Counter(word for words in attributes(self.split("train").index) for word in words)
        return tuple(sorted(word for word, n in count.items() if n >= least))

    def measured(self, scale: Clips) -> np.ndarray:
        """What the ear measures, `descriptors.NAMES`, in standard deviations of the clips `scale` from their mean: (n, D)"""
        names = list(descriptors.NAMES)
        known = scale.index[names]
        return ((self.index[names] - known.mean()) / known.std().clip(lower=1e-9)).to_numpy()

    def named(self, like: str, label: str | None = None) -> np.ndarray:
        """Positions of clips with `like` in path or name, of a label if one is given; refuses where there is none."""
        index = self.index
        rows = index.path.str.contains(like, case=False, regex=False)
        rows |= index.name.str.contains(like, case=False, regex=False)
        found = np.flatnonzero(rows & (index.label == label) if label else rows)
        if not len(found):
            with_label = f" labelled '{label}'" if label else ""
            raise DataError(f"None of the {len(index):,} clips{with_label} has '{like}' in its name or path.")
        return found

    def some(self, n: int, seed: int = 0) -> np.ndarray:
        """Positions of up to n clips, as many labels among them as there can be."""
        order = self.index.sample(frac=1, random_state=seed)
        first = ~order.label.duplicated().to_numpy()
        return np.concatenate([order.index[first], order.index[~first]])[:n]

    def card(self) -> pd.DataFrame:
        """What to know of the pack at a glance: one row per fact."""
        import pandas as pd

        m, index = self.manifest, self.index
        facts = {
            "source": m["source"],
            "clips": f"{len(self):,} of {self.length:,} values ({self.length / self.rate:.3f} s) at {self.rate:,} Hz",
            "refused": f"{len(self.rejects):,}, each with its reason",
            "labels, packs": f"{index.label.nunique()}, {index.pack.nunique()}",
            **self._found(),
            "split": ", ".join(f"{name} {count:,}" for name, count in m["splits"].items())
            + f", by {m['settings']['split_by']}"
            + (", fold {} of 0 to {}".format(m["fold"][0], m["fold"][1] - 1) if m.get("fold") else ""),
            "left aside": ", ".join(f"{n:,} {suffix}" for suffix, n in m["ignored"].items()) or "nothing",
            "rates before": ", ".join(
                f"{rate:,} Hz ({n:,})" for rate, n in index.source_rate.value_counts().head(6).items()
            ),
            "licence": m["licence"] or "not stated",
            "shareable": "yes" if m["shareable"] else "no: pages made for others leave the originals out",
            "fingerprint": self.fingerprint,
        }
        return pd.DataFrame({"fact": facts.values()}, index=facts.keys())

    def _found(self) -> dict[str, str]:
        """How labels were found, and which files held more than one sound; nothing for stores of before."""
        index = self.index
        if "label_by" not in index or "events" not in index:
            return {}
        cut = index.path[index.path.duplicated(keep=False)]
        several = index[index.events > 1]
        return {
            "labels found by": ", ".join(f"{by} {n:,}" for by, n in index.label_by.value_counts().items()),
            "files cut at their sounds": f"{cut.nunique():,}, into {len(cut):,} clips",
            "clips with several onsets": f"{len(several):,}"
            + (": " if len(several) else "")
            + ", ".join(several.path[:5])
            + (", ..." if len(several) > 5 else ""),
        }

    def uncertain(self, n: int = 10) -> pd.DataFrame:
        """The clips whose labels are the least certain: path, label, what it was found by, certainty from 0 to 1."""
        columns = [name for name in ("path", "label", "label_by", "label_certainty") if name in self.index]
        found = self.index[columns].drop_duplicates("path")
        if "label_certainty" in found:
            found = found.sort_values("label_certainty", kind="stable")
        return found.head(n).reset_index(drop=True)


def listed(labels: Sequence[str]) -> list[str]:
    return sorted({labels} if isinstance(labels, str) else set(labels))


def attributes(index: pd.DataFrame) -> list[set[str]]:
    """What is known of each clip beside its label, as words: pitch class and octave, and what `attributes.csv` says."""
    words: list[set[str]] = [set() for _ in range(len(index))]
    known = (index.pitch_confidence >= SURE) & (index.pitch > 0)
    for i in np.flatnonzero(known):
        note = round(69 + 12 * np.log2(index.pitch.iloc[i] / 440))
        words[i] |= {f"pitch class: {CLASSES[note % 12]}", f"octave: {note // 12 - 1}"}
    for column in index.columns[index.columns.str.startswith("attribute_")]:
        kind = column.removeprefix("attribute_")
        for i, cell in enumerate(index[column].fillna("")):
            words[i] |= {f"{kind}: {value.strip().lower()}" for value in re.split("[;,|]", cell) if value.strip()}
    return words
