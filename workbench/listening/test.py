"""Listening tests: stimuli of one loudness, listeners without names, votes in SQLite; `opinions` says what they mean."""

import contextlib
import hashlib
import json
import math
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench import files, runs
from workbench.data import audio
from workbench.errors import UsageError
from workbench.listening.stimuli import low_pass, matched

__all__ = ["KINDS", "REAL", "Kind", "Test", "anchor", "prepare"]

REAL = "real"
LEASE = 30.0  # s after which a page that was heard of no more has given up its session
PATIENCE = 30.0  # s that a vote waits for those of others
LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"  # none is taken for another when a code is written down
TEST, VOTES = "test.json", "votes.sqlite"


@dataclass(frozen=True)
class Kind:
    """A method: its scale, cut-offs of its anchors in Hz, is a set rated together, and whom screening leaves out."""

    name: str
    low: int
    high: int
    anchors: tuple[int, ...]
    together: bool
    question: str
    how: str
    screening: Mapping


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "acr",
            1,
            5,
            (3500,),
            False,
            "How good is this sound?",
            "You will hear short sounds, one at a time. Play each to its end, as often as you like, and say how good its "
            "quality is. Some are recordings, some are made by a computer.",
            {
                "rule": "A listener is left out who rates the hidden real clips below the low anchor on average, or who gives "
                "the same vote throughout."
            },
        ),
        Kind(
            "mushra",
            0,
            100,
            (3500, 7000),
            True,
            "How close does each of these come to the reference?",
            "You will hear sets of short sounds. Play the reference and each of the others to the end, as often as you "
            "like, and say how close each comes to the reference. One of them is the reference itself: give it 100.",
            {
                "rule": "A listener is left out who rates the hidden reference below 90 in more than 15 % of the sets.",
                "least": 90,
                "share": 0.15,
            },
        ),
    )
}

CONSENT = """{how}

It takes about {minutes} minutes. Use headphones in a quiet place, set the volume during the first sounds, which are for \
practice, and leave it as it is from then on.

Taking part is voluntary, and you may stop at any time. What is kept is your votes under a random code: no name, no \
address, nothing about you or your device. With the code you can go on later, or have your votes deleted: tell it to \
whoever invited you."""


# --------------------------------------------------------------------------------------------------------- preparation


def anchor(cutoff: int) -> str:
    return f"anchor {cutoff / 1000:g} kHz"


def prepare(
    folder,
    real: np.ndarray,
    systems: Mapping[str, np.ndarray],
    rate: int,
    kind: str = "acr",
    training: int = 3,
    seed: int = 0,
    *,
    source: Mapping | None = None,
    shareable: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Write a test into a new folder: WAV stimuli under opaque names, test.json, and votes.sqlite without votes.

    To the systems come the real clips, hidden among them, and anchors made of these by a low-pass. All stimuli have one
    `loudness`, so levels are not judged. Consent and screening stand in test.json and may not change afterwards.

    Arguments:
        real: (n, T) clips that no system has heard in training. systems: {name: (n, T)}; for "mushra" clip i is what the
            system makes of real[i]. training: how many of the last clips are for practice, not counted.
        kind: "acr", opinions of single clips from 1 to 5 after ITU-T P.800 (whose text is for speech), or "mushra", sets
            with an open reference from 0 to 100 after ITU-R BS.1534. source: what the clips were made of, kept.
    """
    folder, real = Path(folder), np.asarray(real, np.float32)
    if kind not in KINDS:
        raise UsageError(f"A test of the kind '{kind}' was asked; there are {', '.join(KINDS)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} is there already, and votes are never overwritten: give a new folder for a new test."
        )
    if len(real) - training < 1 or training < 1:
        raise UsageError(
            f"{len(real)} clips came, of which {training} are for practice: take at least 1 for practice, and 1 more to be rated."
        )
    method = KINDS[kind]
    sets = {REAL: real} | {anchor(hz): low_pass(real, rate, hz) for hz in method.anchors}
    if not systems or set(systems) & set(sets):
        raise UsageError(
            f"The systems are called {', '.join(systems) or 'nothing'}: name one or more, none of them {', '.join(sets)}."
        )
    for name, clips in systems.items():
        if (shape := np.shape(clips)) != real.shape:
            raise UsageError(
                f"The clips of '{name}' have shape {shape}, the real ones {real.shape}; a test needs as many, and as long."
            )
    sets, level = matched(sets | {name: np.asarray(x, np.float32) for name, x in systems.items()}, rate)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with files.room(folder):
        part.mkdir(parents=True)
        stimuli = [
            {"system": name, "clip": i, "file": _keep(part, x, rate)}
            for name, clips in sets.items()
            for i, x in enumerate(clips)
        ]
        trials = _trials(stimuli, method, list(sets), len(real), training)
        listened = sum(len(trial) + method.together for trial in trials["training"] + trials["rated"])
        minutes = 1 + math.ceil(listened * (2 * real.shape[1] / rate + 3) / 60)
        record = {
            "kind": kind,
            "systems": list(sets),
            "clips": len(real) - training,
            "rate": rate,
            "loudness": round(level, 2),
            "seed": seed,
            "screening": dict(method.screening),
            "consent": CONSENT.format(how=method.how, minutes=minutes),
            "trials": trials,
            "stimuli": stimuli,
            "shareable": shareable,
            "source": dict(source or {}),
            "made": runs.now(),
            **runs.provenance(),
        }
        text = files.write_json(part / TEST, record).read_bytes()
        _found(part / VOTES, method, hashlib.sha256(text).hexdigest())
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    say(
        f"{folder}: {len(trials['rated'])} {'sets' if method.together else 'clips'} to be rated, {len(trials['training'])} for practice, "
        f"all at {level:.1f} LUFS; about {minutes} minutes for a listener."
    )
    if not shareable:
        say(
            "The test plays originals to its listeners, and the pack's card does not call them shareable: keep its folder to yourself."
        )
    return folder


def _keep(folder: Path, x: np.ndarray, rate: int) -> str:
    """Write a stimulus under a name made of its values, which tells nothing of where it comes from."""
    name = f"{hashlib.sha256(x.tobytes()).hexdigest()[:16]}.wav"
    audio.write(folder / name, x, rate)
    return name


def _trials(stimuli: list[dict], method: Kind, names: list[str], n: int, training: int) -> dict[str, list[list[int]]]:
    """What is rated at one time, as numbers of stimuli; the last clips are for practice."""
    at = {(s["system"], s["clip"]): i for i, s in enumerate(stimuli)}
    if method.together:
        sets = [[at[name, i] for name in names] for i in range(n)]
        return {"rated": sets[: n - training], "training": sets[n - training :]}
    practice = [
        [at[names[i % len(names)], n - training + i]] for i in range(training)
    ]  # real, anchor, the systems, ...
    return {"rated": [[at[name, i]] for name in names for i in range(n - training)], "training": practice}


def _found(path: Path, method: Kind, digest: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"""
            CREATE TABLE test (digest TEXT NOT NULL);
            CREATE TABLE sessions (number INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT UNIQUE NOT NULL, seat TEXT, until REAL);
            CREATE TABLE votes (
                session TEXT NOT NULL REFERENCES sessions (session) ON DELETE CASCADE,
                stimulus INTEGER NOT NULL,
                score INTEGER NOT NULL CHECK (typeof(score) = 'integer' AND score BETWEEN {method.low} AND {method.high}),
                PRIMARY KEY (session, stimulus)
            ) WITHOUT ROWID;
            """
        )
        db.execute("INSERT INTO test VALUES (?)", (digest,))
        db.commit()


# --------------------------------------------------------------------------------------------------------------- votes


class Test:
    """A prepared test: who listens, in which order, and what was voted.

    A session is a random code, and one seat (a page, over its reloads) has it at a time: it says every few seconds that
    it is still there, and `LEASE` seconds after the last word another one may take the session up. Each change is one transaction. The
    journal is SQLite's own rollback journal, which unlike WAL also works on a network drive; a process that is killed
    in the midst leaves one, and whoever opens the votes next rolls it back.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        try:
            text = (self.folder / TEST).read_bytes()
            self.record = json.loads(text)
        except FileNotFoundError:
            raise UsageError(
                f"{folder} holds no {TEST}, so it is no listening test; `workbench listen RUN` makes one."
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{self.folder / TEST} is damaged ({error}): take it from a copy, or make a new test."
            ) from None
        self.rate, self.stimuli = int(self.record["rate"]), self.record["stimuli"]
        self.rated, self.training = self.record["trials"]["rated"], self.record["trials"]["training"]
        self.kind = KINDS[self.record["kind"]]
        self.digest = hashlib.sha256(text).hexdigest()
        with self._open() as db:
            (digest,) = db.execute("SELECT digest FROM test").fetchone()
        if digest != self.digest:
            raise UsageError(
                f"{self.folder / TEST} was changed after the test was made, and its consent and screening are settled before the "
                "first vote: put the old file back, or make a new test."
            )

    def __str__(self) -> str:
        record = self.record
        return f"{self.folder}: {self.kind.name}, {record['clips']} clips each of {', '.join(record['systems'])}; {record['made']}"

    # ------------------------------------------------------------------------------------------------------ sessions

    def begin(self, seat: str) -> str:
        """A new session, held by this seat; its code."""
        code = "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(2))
        with self._open() as db:
            db.execute(
                "INSERT INTO sessions (session, seat, until) VALUES (?, ?, ?)", (code, seat, time.time() + LEASE)
            )
        return code

    def hold(self, session: str, seat: str) -> None:
        """Take a session up, or say that one is still there; refused while another seat has it."""
        with self._open() as db:
            self._hold(db, session, seat)

    def leave(self, session: str, seat: str) -> None:
        """Let another take the session up at once."""
        with self._open() as db:
            db.execute("UPDATE sessions SET seat = NULL WHERE session = ? AND seat = ?", (session, seat))

    def withdraw(self, session: str) -> None:
        """Delete a listener's session and votes."""
        with self._open() as db:
            if not db.execute("DELETE FROM sessions WHERE session = ?", (session,)).rowcount:
                raise UsageError(_unknown(session))

    def _hold(self, db: sqlite3.Connection, session: str, seat: str) -> None:
        found = db.execute("SELECT seat, until FROM sessions WHERE session = ?", (session,)).fetchone()
        if found is None:
            raise UsageError(_unknown(session))
        if found[0] not in (None, seat) and found[1] > (now := time.time()):
            raise UsageError(
                f"The code {session} is in use on another page. If that page is yours, close it and try again in {found[1] - now:.0f} s; "
                "a second listener begins with a code of their own."
            )
        db.execute("UPDATE sessions SET seat = ?, until = ? WHERE session = ?", (seat, time.time() + LEASE, session))

    # ---------------------------------------------------------------------------------------------------- what is next

    def order(self, session: str) -> list[tuple[int, list[int]]]:
        """Rated trials in a listener's order, and in which order each shows its stimuli: functions of (seed, session)."""
        return self._shuffled(session, self.rated)

    def practice(self, session: str) -> list[tuple[int, list[int]]]:
        return self._shuffled(session, self.training)

    def _shuffled(self, session: str, trials: list[list[int]]) -> list[tuple[int, list[int]]]:
        key = int.from_bytes(hashlib.sha256(session.encode()).digest()[:8], "big")
        rng = np.random.default_rng([self.record["seed"], key, len(trials)])
        return [(int(t), rng.permutation(len(trials[t])).tolist()) for t in rng.permutation(len(trials))]

    def left(self, session: str) -> list[tuple[int, list[int]]]:
        """Of `order`, what has no vote yet."""
        with self._open() as db:
            there = {row[0] for row in db.execute("SELECT stimulus FROM votes WHERE session = ?", (session,))}
        return [(trial, shown) for trial, shown in self.order(session) if self.rated[trial][0] not in there]

    def sound(self, stimulus: int) -> np.ndarray:
        return audio.read(self.folder / self.stimuli[stimulus]["file"])[0][:, 0]

    # ---------------------------------------------------------------------------------------------------------- votes

    def vote(self, session: str, seat: str, trial: int, scores: Sequence[int]) -> None:
        """Keep a listener's scores of a trial, one for each of its stimuli: all of them, for ever, or none."""
        if not 0 <= trial < len(self.rated):
            raise UsageError(f"A vote came for trial {trial}, and the test has the trials 0 to {len(self.rated) - 1}.")
        asked = self.rated[trial]
        if len(scores) != len(asked):
            raise UsageError(f"{len(scores)} scores came for a trial of {len(asked)}: give one each.")
        for score in scores:
            if isinstance(score, bool) or score != score or score not in range(self.kind.low, self.kind.high + 1):
                raise UsageError(
                    f"A vote of {score!r} came, and the scale has the whole numbers from {self.kind.low} to {self.kind.high}."
                )
        rows = [(session, stimulus, int(score)) for stimulus, score in zip(asked, scores, strict=True)]
        with self._open() as db:
            self._hold(db, session, seat)
            try:
                db.executemany("INSERT INTO votes VALUES (?, ?, ?)", rows)
            except sqlite3.IntegrityError:
                raise UsageError("This was rated before, and the first vote counts: go on with the next.") from None

    def votes(self) -> pd.DataFrame:
        """One row a vote: listener (a number; codes stay here), system, clip, score, finished (has rated everything)."""
        with self._open() as db:
            rows = db.execute(
                "SELECT number, stimulus, score FROM votes JOIN sessions USING (session) ORDER BY number, stimulus"
            ).fetchall()
        named = [(n, self.stimuli[i]["system"], self.stimuli[i]["clip"], score) for n, i, score in rows]
        table = pd.DataFrame(named, columns=["listener", "system", "clip", "score"])
        count = table.groupby("listener").score.transform("size")
        return table.assign(finished=count == sum(map(len, self.rated)))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all that is done within is kept, or where it fails nothing."""
        path = self.folder / VOTES
        try:
            address = f"{path.resolve().as_uri()}?mode=rw"
            with contextlib.closing(sqlite3.connect(address, timeout=PATIENCE, isolation_level=None, uri=True)) as db:
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"{path} cannot be written or read ({error}), so nothing was kept: see that it is there, that the disk has room, and "
                "try again."
            ) from error


def _unknown(session: str) -> str:
    return f"There is no session with the code '{session}': look at it again (it is like k7mq-42xd), or begin anew."
