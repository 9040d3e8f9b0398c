"""Laws of listening tests: stimuli, sessions and votes under stress, and intervals that cover what is known."""

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench import autoencoder, cli, data, listening, models, runs
from workbench.data import audio
from workbench.errors import UsageError
from workbench.listening import opinions, stimuli
from workbench.listening.page import Sheet, from_runs

RATE, LENGTH = 22_050, 4096
quiet = {"say": lambda text: None}


def sounds(n: int, seed: int) -> np.ndarray:
    """Bursts of noise and clicks, of very different level and crest."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, LENGTH)) * np.exp(-np.arange(LENGTH) / rng.uniform(20, 3000, (n, 1)))
    return (x / np.abs(x).max(1, keepdims=True) * rng.uniform(0.05, 1, (n, 1))).astype(np.float32)


def made(folder: Path, kind: str, n: int = 6, training: int = 2, seed: int = 0, **more) -> listening.Test:
    systems = {"a": sounds(n, 1), "b": sounds(n, 2)}
    return listening.Test(listening.prepare(folder, sounds(n, 0), systems, RATE, kind, training, seed, **quiet, **more))


@pytest.fixture(params=sorted(listening.KINDS))
def test(request, tmp_path) -> listening.Test:
    return made(tmp_path / "test", request.param)


def fill(test: listening.Test, votes: np.ndarray, page: str = "p") -> list[str]:
    """Let listeners vote, (listeners, systems, clips), each in the order shown; their codes."""
    names, codes = test.record["systems"], []
    for scores in votes:
        codes.append(code := test.begin(page))
        for trial, _ in test.order(code):
            of = [test.stimuli[s] for s in test.rated[trial]]
            test.vote(code, page, trial, [int(scores[names.index(s["system"]), s["clip"]]) for s in of])
    return codes


# ------------------------------------------------------------------------------------------------------------- stimuli


def test_the_scale_of_loudness_is_that_of_bs_1770():
    for rate in (16_000, 22_050, 44_100, 48_000):
        t = np.arange(rate) / rate
        sine = [np.sin(2 * np.pi * hz * t) for hz in (997, 100, 30)]
        full, bass, rumble = stimuli.loudness(np.stack(sine), rate)
        assert full == pytest.approx(-3.01, abs=0.1), rate
        assert rumble < bass < full, rate  # K-weighting hears bass less
    assert stimuli.loudness(np.zeros((1, 100)), 44_100) == -np.inf


def test_all_stimuli_are_equally_loud_and_none_clips(test):
    stored = {s["file"]: test.sound(i) for i, s in enumerate(test.stimuli)}
    level = stimuli.loudness(np.stack(list(stored.values())), RATE)
    peak = max(np.abs(x).max() for x in stored.values())
    assert np.ptp(level) < 0.1 and level.mean() == pytest.approx(test.record["loudness"], abs=0.05)
    assert peak == pytest.approx(stimuli.PEAK, abs=1e-3), "no louder and no softer than the sharpest clip allows"


@pytest.mark.parametrize("cutoff", [3500, 7000])
@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_of_an_anchor_nothing_is_left_above_its_cutoff(rate, cutoff):
    x = np.pad(sounds(4, 0), ((0, 0), (200, 200)))
    energy = {}
    for name, y in (("before", x), ("after", stimuli.low_pass(x, rate, cutoff))):
        power, hz = np.abs(np.fft.rfft(y * np.hanning(y.shape[1]))) ** 2, np.fft.rfftfreq(y.shape[1], 1 / rate)
        energy[name] = np.stack([power[:, hz > cutoff].sum(1), power[:, hz < 0.9 * cutoff].sum(1)])
    above, below = 10 * np.log10(energy["after"] / energy["before"])
    assert (above < -40).all() and (np.abs(below) < 0.2).all()
    assert y.shape == x.shape and y.dtype == np.float32


def test_hidden_clips_and_anchors_are_added_and_names_of_files_tell_nothing(test):
    anchors = [listening.anchor(hz) for hz in test.kind.anchors]
    assert test.record["systems"] == ["real", *anchors, "a", "b"]
    files = [s["file"] for s in test.stimuli]
    assert len(set(files)) == len(files) == 6 * len(test.record["systems"])
    assert sorted(p.name for p in test.folder.glob("*.wav")) == sorted(files)
    rated = [i for trial in test.rated for i in trial]
    practice = [i for trial in test.training for i in trial]
    assert len(rated) == 4 * len(test.record["systems"]) and not set(rated) & set(practice)
    assert {test.stimuli[i]["clip"] for i in practice} == {4, 5}
    if test.kind.together:  # one clip and every system, the reference among them
        assert all(len({test.stimuli[i]["clip"] for i in trial}) == 1 for trial in test.rated)
        assert all({test.stimuli[i]["system"] for i in t} == set(test.record["systems"]) for t in test.rated)
    assert test.record["versions"]["numpy"] and "no name" in test.record["consent"] and test.record["screening"]["rule"]


def test_what_cannot_be_tested_is_refused_before_anything_is_written(tmp_path):
    x, folder = sounds(4, 0), tmp_path / "t"
    silent = x.copy()
    silent[2] = 0
    for words, sentence in [
        ((x, {"a": x}, RATE, "mos"), "kind 'mos' was asked; there are acr, mushra"),
        ((x, {"a": x[:3]}, RATE), r"shape \(3, 4096\), the real ones \(4, 4096\)"),
        ((x, {"real": x}, RATE), "systems are called real"),
        ((x, {}, RATE), "systems are called nothing"),
        ((x, {"a": x}, RATE, "acr", 4), "4 clips came, of which 4 are for practice"),
        ((x, {"a": silent}, RATE), "Clip 2 of 'a' is silent"),
        ((x, {"a": x}, 6000), "6,000 Hz hold nothing above 3,000 Hz"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            listening.prepare(folder, *words, **quiet)
        assert not folder.exists()
    made(folder, "acr")
    with pytest.raises(UsageError, match="votes are never overwritten"):
        made(folder, "acr")


def test_originals_that_are_not_to_be_shared_are_told(tmp_path, capsys):
    x = sounds(4, 0)
    for shareable in (False, True):
        listening.prepare(tmp_path / str(shareable), x, {"a": x}, RATE, shareable=shareable)
        assert ("does not call them shareable" in capsys.readouterr().out) is not shareable


# ------------------------------------------------------------------------------------------------------------ sessions


def test_the_order_is_a_listeners_own_and_the_same_again(test):
    codes = [test.begin("p") for _ in range(6)]
    orders = [test.order(code) for code in codes]
    assert len({json.dumps(order) for order in orders}) == 6
    for code, order in zip(codes, orders, strict=True):
        assert sorted(trial for trial, _ in order) == list(range(len(test.rated)))
        assert listening.Test(test.folder).order(code) == order
        trial, shown = order[0]
        test.vote(code, "p", trial, [test.kind.high] * len(shown))
        assert listening.Test(test.folder).left(code) == order[1:]


def test_one_code_serves_one_page_at_a_time(test, monkeypatch):
    code = test.begin("one")
    trial, shown = test.order(code)[0]
    for do in (lambda: test.hold(code, "two"), lambda: test.vote(code, "two", trial, [3] * len(shown))):
        with pytest.raises(UsageError, match=f"{code} is in use on another page"):
            do()
    test.hold(code, "one")
    test.leave(code, "two")  # not its own
    with pytest.raises(UsageError, match="in use"):
        test.hold(code, "two")
    test.leave(code, "one")
    test.hold(code, "two")
    with pytest.raises(UsageError, match="in use"):
        test.vote(code, "one", trial, [3] * len(shown))
    later = time.time() + listening.LEASE + 1
    monkeypatch.setattr("workbench.listening.test.time.time", lambda: later)  # page two was killed
    test.hold(code, "one")
    test.vote(code, "one", trial, [3] * len(shown))
    assert len(test.votes()) == len(shown)
    with pytest.raises(UsageError, match="no session with the code 'abcd-efgh'"):
        test.hold("abcd-efgh", "one")


def test_a_vote_outside_the_scale_or_for_nothing_is_refused_and_nothing_kept(test):
    code = test.begin("p")
    trial, shown = test.order(code)[0]
    low, high = test.kind.low, test.kind.high
    for wrong in (low - 1, high + 1, 2.5, float("nan"), float("inf"), True, None, "3"):
        scores = [high] * (len(shown) - 1) + [wrong]
        with pytest.raises(UsageError, match=rf"A vote of .* came, .* from {low} to {high}"):
            test.vote(code, "p", trial, scores)
    for number in (-1, len(test.rated)):
        with pytest.raises(UsageError, match=f"trial {number}, .* 0 to {len(test.rated) - 1}"):
            test.vote(code, "p", number, [3] * len(shown))
    with pytest.raises(UsageError, match="scores came for a trial of"):
        test.vote(code, "p", trial, [3] * (len(shown) + 1))
    assert len(test.votes()) == 0
    test.vote(code, "p", trial, [high] * len(shown))
    with pytest.raises(UsageError, match="rated before"):
        test.vote(code, "p", trial, [low] * len(shown))
    assert set(test.votes().score) == {high}
    with sqlite3.connect(test.folder / "votes.sqlite") as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT INTO votes VALUES (?, 9999, ?)", (code, high + 1))  # past this module, too


def test_nothing_of_a_listener_is_kept_but_code_and_votes_and_these_can_be_withdrawn(test):
    codes = fill(test, np.full((3, len(test.record["systems"]), 4), test.kind.high))
    with sqlite3.connect(test.folder / "votes.sqlite") as db:
        tables = {name: [c[1] for c in db.execute(f"PRAGMA table_info({name})")] for name in ("sessions", "votes")}
    assert tables == {"sessions": ["number", "session", "seat", "until"], "votes": ["session", "stimulus", "score"]}
    table = test.votes()
    assert list(table.columns) == ["listener", "system", "clip", "score", "finished"] and table.finished.all()
    test.withdraw(codes[1])
    assert sorted(test.votes().listener.unique()) == [1, 3]
    with pytest.raises(UsageError, match="no session"):
        test.withdraw(codes[1])


def test_a_test_that_was_changed_or_is_none_is_refused(test):
    path = test.folder / "test.json"
    before = path.read_text()
    path.write_text(before.replace("left out", "kept"))
    with pytest.raises(UsageError, match="settled before the first vote"):
        listening.Test(test.folder)
    path.write_text(before[:-20])
    with pytest.raises(UsageError, match="damaged"):
        listening.Test(test.folder)
    path.write_text(before)
    (test.folder / "votes.sqlite").unlink()
    with pytest.raises(UsageError, match="nothing was kept"):
        listening.Test(test.folder)
    assert not (test.folder / "votes.sqlite").exists()
    with pytest.raises(UsageError, match=r"holds no test\.json"):
        listening.Test(test.folder.parent)


def _listener(folder: Path, number: int, told) -> None:
    """A process that votes on everything, telling of each vote after it is kept."""
    test = listening.Test(folder)
    code = test.begin(f"page {number}")
    for trial, shown in test.order(code):
        scores = [1 + (trial + number + i) % 5 for i in range(len(shown))]
        test.vote(code, f"page {number}", trial, scores)
        told.send((code, trial, scores))
        if number == 0 and len(test.left(code)) == len(test.rated) - 3:
            threading.Timer(0.004, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()  # within one of the next votes
    told.close()


def test_many_listeners_at_once_and_one_killed_in_the_midst_lose_and_double_no_vote(tmp_path):
    test = made(tmp_path / "test", "mushra", n=26)  # 24 votes of five scores each
    fork = multiprocessing.get_context("fork")
    crowd, said = [], {}
    for number in range(6):
        hear, tell = fork.Pipe(duplex=False)
        process = fork.Process(target=_listener, args=(test.folder, number, tell))
        process.start()
        tell.close()
        crowd.append((process, hear))
    for number, (process, hear) in enumerate(crowd):
        try:
            while True:
                code, trial, scores = hear.recv()
                said.setdefault(number, (code, {}))[1][trial] = scores
        except EOFError:
            process.join(30)
    assert crowd[0][0].exitcode == -signal.SIGKILL and all(p.exitcode == 0 for p, _ in crowd[1:])
    with sqlite3.connect(test.folder / "votes.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = db.execute("SELECT session, stimulus, score FROM votes").fetchall()
    kept = {}
    for code, stimulus, score in rows:
        kept.setdefault(code, {})[stimulus] = score
    for number, (code, votes) in said.items():
        told = {s: v for trial, scores in votes.items() for s, v in zip(test.rated[trial], scores, strict=True)}
        assert told.items() <= kept[code].items(), number
        assert len(kept[code]) % 5 == 0, "a vote is kept as a whole or not at all"
        assert len(kept[code]) == 24 * 5 or number == 0
    code, votes = said[0]
    assert len(votes) <= len(kept[code]) / 5 < 24  # the killed one goes on where it was
    left = test.left(code)
    assert len(left) == 24 - len(kept[code]) / 5
    with pytest.raises(UsageError, match="in use on another page"):
        test.hold(code, "anew")


def test_a_kill_within_a_transaction_leaves_nothing_of_it(tmp_path):
    test = made(tmp_path / "test", "mushra")
    code = test.begin("p")
    script = f"""
import os, signal, sys
from workbench import listening
test = listening.Test({str(test.folder)!r})
with test._open() as db:
    db.execute("PRAGMA cache_spill = 1"); db.execute("PRAGMA cache_size = 1")
    db.executemany("INSERT INTO votes VALUES (?, ?, 50)", [({code!r}, i) for i in range(20_000)])
    assert os.path.getsize({str(test.folder / "votes.sqlite-journal")!r}) > 0
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == -signal.SIGKILL
    assert (test.folder / "votes.sqlite-journal").exists(), "it was killed too early for this test to say anything"
    assert len(test.votes()) == 0 and len(test.left(code)) == len(test.rated)
    test.vote(code, "p", 0, [50] * 5)
    assert len(test.votes()) == 5


# ------------------------------------------------------------------------------------------------------------ the sheet


@pytest.fixture
def sheet(test, monkeypatch):
    sheet, sent = Sheet(test.folder), []
    monkeypatch.setattr(sheet, "send", lambda content, buffers=None: sent.append((content, buffers)))

    def ask(page: str = "p", **m):
        sheet.answer({"seat": page, **m}, [], {"tab": page, "n": 0})
        return sent[-1]

    return ask


def test_a_listener_goes_from_consent_through_practice_to_the_end(test, sheet):
    assert "no name" in sheet(do="hello")[0]["consent"]
    told, buffers = sheet(do="begin")
    code, given = told["code"], {}
    for _ in range(len(test.training)):
        assert told["practice"] and len(test.votes()) == 0
        again = told
        told, buffers = sheet(do="vote", number=told["number"], practice=True, scores=[3] * len(test.rated[0]))
    assert (told["practice"], told["number"], told["of"]) == (False, 0, len(test.rated))
    sheet(do="vote", number=again["number"], practice=True, scores=[1] * len(test.rated[0]))  # a late second press
    assert len(test.votes()) == 0
    rng = np.random.default_rng(0)
    known = {test.sound(i).tobytes(): (s["system"], s["clip"]) for i, s in enumerate(test.stimuli)}
    while told["what"] == "trial":
        shown = [known[b] for b in (buffers[1:] if test.kind.together else buffers)]
        if test.kind.together:
            assert known[buffers[0]] == ("real", shown[0][1])
        scores = rng.integers(test.kind.low, test.kind.high + 1, len(shown)).tolist()
        given |= dict(zip(shown, scores, strict=True))
        assert not any(name in json.dumps(told) for name in ("real", "anchor", ".wav"))
        if told["number"] == 2:  # the page is reloaded
            sheet(do="leave")
            told, buffers = sheet("other", do="resume", code=f" {code.upper()} ")
            assert told["number"] == 2 and not told["practice"], "practice is done, and it goes on where it was"
            assert [known[b] for b in (buffers[1:] if test.kind.together else buffers)] == shown
            told, buffers = sheet("other", do="vote", number=2, practice=False, scores=scores)
            continue
        told, buffers = sheet("other" if told["number"] > 2 else "p", do="vote", number=told["number"], practice=False, scores=scores)  # fmt: skip
    assert told["what"] == "end" and told["code"] == code
    table = test.votes()
    assert {(s, c): v for s, c, v in table[["system", "clip", "score"]].itertuples(index=False)} == given


def test_a_page_without_a_session_is_told_so(sheet):
    with pytest.raises(UsageError, match="no session any more"):
        sheet("stranger", do="vote", number=0, practice=False, scores=[3])


# ------------------------------------------------------------------------------------------------------------ analysis


QUALITIES = {"acr": [4.4, 1.8, 3.6, 3.1], "mushra": [97, 25, 50, 70, 60]}


def covered(means: np.ndarray, truth: np.ndarray, interval) -> np.ndarray:
    low, high = np.moveaxis(interval(means), -1, 0)
    return ((low <= truth) & (truth <= high)).mean(0)


@pytest.mark.parametrize("n", [12, 24])
@pytest.mark.parametrize("kind", sorted(QUALITIES))
def test_intervals_of_95_percent_cover_the_truth_in_92_to_98_percent_of_2000_tests(kind, n):
    simulated = opinions.simulate(kind, QUALITIES[kind], listeners=n, clips=12, repetitions=2000, seed=n)
    means, truth = simulated.votes.mean(3).swapaxes(1, 2), simulated.truth
    assert np.abs(means.mean((0, 2)) - truth.mean(0)).max() < 0.01 * np.ptp(QUALITIES[kind])
    pairs = [(0, 2), (2, 3), (1, 3)]
    differences = np.stack([means[:, a] - means[:, b] for a, b in pairs], 1)
    apart = np.stack([truth[:, a] - truth[:, b] for a, b in pairs], 1)
    for name, share in {
        "t": covered(means, truth, opinions.t_interval),
        "bootstrap": covered(means, truth, opinions.bootstrap_interval),
        "differences": covered(differences, apart, opinions.t_interval),
    }.items():
        assert (share > 0.92).all() and (share < 0.98).all(), (name, share)


def test_votes_taken_as_independent_would_not_cover():
    simulated = opinions.simulate("acr", QUALITIES["acr"], listeners=12, clips=12, repetitions=500, seed=0)
    pooled = simulated.votes.swapaxes(1, 2).reshape(500, 4, -1)
    assert (covered(pooled, simulated.truth, opinions.t_interval) < 0.85).all()  # or the simulation has no listeners


def test_the_analysis_is_that_of_the_votes(test, tmp_path):
    kind, names = test.kind.name, test.record["systems"]
    votes = opinions.simulate(kind, QUALITIES[kind], listeners=9, clips=4, seed=3).votes[0]
    fill(test, votes)
    half = test.begin("half")
    trial, shown = test.order(half)[0]
    test.vote(half, "half", trial, [test.kind.low] * len(shown))  # begins and goes: counts nowhere
    found = opinions.analyse(test.folder)
    assert (found.finished, found.unfinished) == (9, 1)
    rows = found.mos[found.mos.group == "all"].set_index("system").loc[names]
    means = votes.mean(2)  # (listeners, systems)
    np.testing.assert_allclose(rows.mos, means.mean(0))
    low, high = stats.t.interval(0.95, 8, means.mean(0), stats.sem(means))
    np.testing.assert_allclose(rows[["t_low", "t_high"]], np.stack([low, high], 1))
    pair = found.differences.query("group == 'all' and first == 'real' and second == 'a'").iloc[0]
    d = means[:, names.index("real")] - means[:, names.index("a")]
    assert pair.difference == pytest.approx(d.mean()) and pair.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert (found.differences.p_holm >= found.differences.p).all()
    assert (found.distribution.sum(1) == 9 * 4).all() and list(found.distribution.index) == names
    if kind == "acr":
        assert found.distribution.loc["a"].tolist() == [
            int((votes[:, names.index("a")] == k).sum()) for k in range(1, 6)
        ]
    found.write(tmp_path)
    table = pd.read_csv(tmp_path / "votes.csv")
    assert len(table) == votes.size + len(shown) and set(table.columns) >= {
        "listener",
        "system",
        "clip",
        "score",
        "kept",
    }
    assert len(pd.read_csv(tmp_path / "mos.csv")) == len(found.mos)
    assert "9 listeners" in found.figure().layout.title.text and len(found.spread_figure().data) == 5
    assert "settled before the first vote" in found.summary()


@pytest.mark.parametrize("kind", sorted(QUALITIES))
def test_screening_leaves_out_whom_the_rule_names_and_both_results_are_told(tmp_path, kind):
    test = made(tmp_path / "test", kind, n=10)
    names = test.record["systems"]
    votes = opinions.simulate(kind, QUALITIES[kind], listeners=6, clips=8, seed=1).votes[0]
    votes[:, 0] = test.kind.high
    if kind == "acr":
        votes[1] = 4  # constant
        votes[4, [0, 1]] = votes[4, [1, 0]]  # takes the anchor for real
        out = {2, 5}
    else:
        votes[2, 0, :2] = 89  # two sets of eight are 25 %
        votes[3, 0, :1] = 89  # one is 12.5 %
        out = {3}
    fill(test, votes)
    found = opinions.analyse(test.folder)
    assert set(found.votes[~found.votes.kept].listener) == out and found.dropped == len(out)
    kept = np.delete(votes, [n - 1 for n in out], 0).mean((0, 2))
    for group, wanted, n in (("all", votes.mean((0, 2)), 6), ("screened", kept, 6 - len(out))):
        rows = found.mos[found.mos.group == group].set_index("system").loc[names]
        np.testing.assert_allclose(rows.mos, wanted)
        assert set(rows.listeners) == {n}


def test_too_few_listeners_are_a_sentence(tmp_path):
    test = made(tmp_path / "test", "acr")
    assert opinions.progress(test.folder) == "There are no votes yet."
    with pytest.raises(UsageError, match="0 listeners have rated everything, and an interval needs 2"):
        opinions.analyse(test.folder)
    fill(test, np.full((1, 4, 4), 3))
    assert "1 listeners began and 1 rated everything" in opinions.progress(test.folder)
    with pytest.raises(UsageError, match="1 listener has rated everything"):
        opinions.analyse(test.folder)
    fill(test, np.full((1, 4, 4), 5))
    assert opinions.progress(test.folder) == ""
    found = opinions.analyse(test.folder)  # both gave the same vote throughout
    assert found.dropped == 2 and set(found.mos.group) == {"all"}


# ------------------------------------------------------------------------------------------------------------ planning


def test_as_many_listeners_as_planned_find_the_difference_in_80_percent_of_tests():
    rng = np.random.default_rng(0)
    for difference, spread in ((0.5, 0.6), (0.2, 0.5), (1.0, 0.8)):
        n = opinions.needed(difference, spread)
        low, _ = np.moveaxis(opinions.t_interval(difference + spread * rng.standard_normal((4000, n))), -1, 0)
        assert 0.78 < (low > 0).mean() < 0.9, (difference, n)  # n is whole
        assert (
            opinions.detectable(n, spread) <= difference + 0.01
            and opinions.detectable(n - 1, spread) > difference - 0.01
        )
    for wrong in ((0, 1), (-1, 1), (1, 0), (float("nan"), 1)):
        with pytest.raises(UsageError, match="points of the scale, above 0"):
            opinions.needed(*wrong)
    with pytest.raises(UsageError, match="more than 2,000 listeners"):
        opinions.needed(1e-3, 1)


@pytest.mark.parametrize("kind", sorted(listening.KINDS))
def test_the_plan_asks_for_fewer_listeners_for_larger_differences_and_more_clips(kind):
    table = opinions.plan(kind, opinions.assumed(kind, 12))
    assert (np.diff(table.listeners) < 0).all() and table.listeners.min() >= 2
    assert opinions.assumed(kind, 24) < opinions.assumed(kind, 12)
    lines = opinions.plan_figure(kind, 12).data
    assert len(lines) == 3 and all((np.diff(line.y) <= 0).all() for line in lines)


# --------------------------------------------------------------------------------------------------------- of runs


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory):
    """trained(name, of=a model) is a run that ended before it learned anything, on the tiny store."""
    home = tmp_path_factory.mktemp("trained")

    def make(name: str, of=None, store=clips) -> Path:
        of = of or models.build("wave", "tiny", length=store.length, rate=RATE, labels=store.labels)
        settings = {"store": str(store.store.resolve()), "labels": []}
        with runs.start(home / name, settings, notebook="2_train", data=store.fingerprint) as run:
            of.save(run.folder)
        return home / name

    return make


def test_a_test_is_made_of_runs(trained, clips, tmp_path):
    sources = [trained("x/train"), trained("y/train")]
    for kind in listening.KINDS:
        test = listening.Test(from_runs(tmp_path / kind, sources, kind, clips=3, training=1))
        assert test.record["systems"][-2:] == ["x/train", "y/train"] and len(test.record["source"]["runs"]) == 2
        assert test.record["source"]["runs"]["x/train"]["model"] == autoencoder.load(sources[0]).fingerprint()
        held = set(clips.split("test").index.path)
        assert len(test.record["source"]["clips"]) == 4 and set(test.record["source"]["clips"]) <= held
        real = test.sound(next(i for i, s in enumerate(test.stimuli) if s["system"] == "real"))
        row = clips.index.path.tolist().index(test.record["source"]["clips"][0])
        assert np.corrcoef(real, clips.audio([row])[0])[0, 1] > 0.999


def test_the_command_makes_a_test_once_and_serves_listeners_nothing_else(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    served, made = [], tmp_path / "runs" / "listening"
    monkeypatch.setattr(
        "workbench.runs.serving.serve", lambda notebook, values, port, browser: served.append((notebook, values))
    )

    def listen(*words) -> str:
        monkeypatch.setattr(sys, "argv", ["workbench", "listen", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return str(end.value.code)

    source = trained("asked")
    assert listen(source, "--clips", 2) == listen("runs/listening") == "0"
    assert [notebook.stem for notebook, _ in served] == ["9_listen"] * 2
    assert all(values == {"test": str(made), "listener": True} for _, values in served)
    assert "acr, 2 clips each of real, anchor 3.5 kHz, asked" in capsys.readouterr().err
    assert "votes are never overwritten" in listen(source, "--clips", 2)
    assert "holds no test.json" in listen("nowhere")
    assert len(served) == 2


def test_runs_that_do_not_fit_are_refused(trained, clips, tmp_path):
    good = trained("good")
    slow = data.build("synthetic", tmp_path / "slow", seconds=0.18, rate=16_000, progress=False)
    for i, x in enumerate(sounds(40, 0)):
        audio.write(tmp_path / "pack" / f"kick{i}.wav", x, RATE)
    other = data.build(tmp_path / "pack", tmp_path / "other", seconds=0.18, rate=RATE, progress=False)
    dull = models.build("wave", "tiny", length=slow.length, rate=16_000, labels=slow.labels)
    frame = models.build("frame", "tiny", length=clips.length, rate=RATE, labels=clips.labels)
    still = trained("frame", frame)
    for sources, more, sentence in [
        ([good, trained("dull", dull, slow)], {}, "dull makes 4,096 values at 16,000 Hz and good 4,096 at 22,050 Hz"),
        ([good, trained("other", None, other)], {}, "other was trained on .*other and good on .*tiny"),
        ([still], {}, "family 'frame', which has no prior .* 'mushra'"),
        ([good, good], {}, "given twice"),
        ([good], {"clips": 10_000}, "10000 clips and 3 for practice were asked, and there are"),
        ([good], {"kind": "dcr"}, "kind 'dcr' was asked"),
    ]:
        with pytest.raises(UsageError, match=sentence):
            from_runs(tmp_path / "t", sources, **more)
        assert not (tmp_path / "t").exists()
    test = listening.Test(from_runs(tmp_path / "t", [still], "mushra", clips=2, training=1))
    assert test.record["systems"][-1] == "frame"
