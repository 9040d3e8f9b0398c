"""A run's draws stand on a ladder of sets whose worth is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import spoilt

from workbench import data
from workbench.errors import UsageError
from workbench.evaluation import evidence


@pytest.fixture(scope="module")
def found(model, clips, tmp_path_factory):
    return evidence.gather(model, evidence.Reference(clips, folder=tmp_path_factory.mktemp("embeddings")))


def test_the_ladder_stands_in_order(found, clips):
    rows = found.ladder.set_index("what")
    floor, noise = rows.loc["other real clips (floor)"], rows.loc["white noise"]
    half, copies = rows.loc["real clips of half of the labels"], rows.loc["training clips, copied"]
    assert floor.FAD < half.FAD < noise.FAD and floor.KID < half.KID < noise.KID
    assert floor.coverage > half.coverage > noise.coverage
    assert copies.memorisation == 0 and rows.loc["reconstructions"].FAD < noise.FAD
    (strangers,) = (row for what, row in rows.iterrows() if what.startswith("real clips against those of other labels"))
    assert half.FAD < strangers.FAD < noise.FAD and strangers.coverage < half.coverage
    assert found.n == min((clips.index.split != "train").sum(), evidence.MOST) or found.n > evidence.LEAST


def test_every_number_has_its_embedding_its_interval_and_its_floor(found):
    table = found.numbers.set_index("number")
    five = ("FAD", "KID", "coverage", "diversity within labels", "memorisation")
    assert list(table.index) == [f"{name}-descriptors" for name in five]
    assert (table.low <= table.value).all() and (table.value <= table.high).all()
    assert table.n.drop("diversity within labels-descriptors").eq(found.n).all()  # that one is of single labels
    assert (found.numbers.floor_low < found.numbers.floor_high).all() and len(found.others) == len(evidence.OTHERS)
    assert "Held-out are 99 test clips and 99 validation clips" in str(found) and "MEMORISATION" not in str(found)
    ladder = found.ladder.set_index("what")
    assert table.value["FAD-descriptors"] == ladder.FAD["draws"]
    assert table.floor_low["FAD-descriptors"] < ladder.FAD.iloc[0] < table.floor_high["FAD-descriptors"]
    assert found.summary()["memorisation-descriptors"] == ladder.memorisation["draws"]


def test_labels_have_a_ladder_of_their_own(found, clips):
    assert len(found.labels) > 1 and (found.labels.n >= evidence.FEW).all()
    assert (found.labels.floor < found.labels.other).mean() > 0.8  # another label is farther than other clips of it
    assert found.summary()["diversity within labels-descriptors"] == pytest.approx(found.labels.diversity.mean())
    held = clips.index.label[clips.index.split.isin(["valid", "test"])].value_counts()
    assert not set(found.labels.label) & set(held[held < evidence.FEW].index)  # a label of two clips is left out


def test_an_embedding_is_tried_before_it_judges(clips, tmp_path):
    at = evidence.Reference(clips)
    graded = evidence.damage(at)
    assert set(graded.table.kind) == set(evidence.DAMAGES) and len(graded.table) == 12
    assert set(graded.unheard) <= {"smeared attack"} and len(graded.figure().data) == 3
    at.points = lambda x: at.train[: len(x)]  # an embedding that hears nothing
    deaf = evidence.damage(at)
    assert set(deaf.unheard) == set(evidence.DAMAGES) and "does NOT grow with noise, low-pass" in str(deaf)


def test_draws_that_may_be_copies_are_said_loudly(found):
    table = found.numbers.copy()
    table.loc[table.number == "memorisation-descriptors", "value"] = 0.5
    assert "MEMORISATION: draws lie at 0.50 of the distance" in str(dataclasses.replace(found, numbers=table))


def test_the_ladder_is_drawn(found):
    assert found.by_label().layout.xaxis.type == "log" and len(found.by_label().data) == 3
    fig = found.figure()
    assert fig.layout.xaxis.type == "log" and len(fig.data[0].x) == len(found.ladder)


def test_the_same_seed_gives_the_same_evidence(found, model, clips):
    again = evidence.gather(model, evidence.Reference(clips))
    np.testing.assert_array_equal(again.ladder.FAD, found.ladder.FAD)


def test_the_same_reference_gives_the_same_evidence_each_time(model, clips):
    at = evidence.Reference(clips)
    first, again = evidence.gather(model, at), evidence.gather(model, at)
    for name in ("ladder", "labels", "numbers", "others"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(again, name))


def test_a_kept_embedding_that_is_damaged_is_made_anew(clips, tmp_path):
    x = clips.audio(slice(2))
    at = evidence.Reference(clips, folder=tmp_path)
    wanted = at.points(x)
    for path in tmp_path.glob("*.npy"):
        for way in spoilt(path):
            if way != "a folder":
                np.testing.assert_array_equal(at.points(x), wanted, err_msg=way)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 96_000])
def test_damage_can_be_done_at_every_rate(rate):
    x = np.random.default_rng(0).uniform(-1, 1, (2, rate // 4))
    for kind, make in evidence.DAMAGES.items():
        assert all(np.isfinite(make(x, rate, grade, np.random.default_rng(0))).all() for grade in (1, 2, 3)), kind


def test_too_few_clips_are_refused_with_numbers(model, tmp_path):
    few = data.build("synthetic", tmp_path / "few", seconds=0.18, rate=22_050, labels=["kick"], progress=False)
    held = few.index.split.isin(["valid", "test"])
    few.index = few.index[~held | (held.cumsum() <= 7)].reset_index(drop=True)
    with pytest.raises(UsageError, match=r"7 held-out and .* allow sets of 7, and metrics of sets need 20"):
        evidence.gather(model, evidence.Reference(few))
