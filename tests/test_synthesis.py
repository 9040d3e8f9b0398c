"""The built-in pack: the same from the same seed, plausible to the ear's measures, and true to its factors."""

import numpy as np
import pytest

from workbench.data import descriptors, labels, synthesis

RATE = 44_100


@pytest.fixture(scope="module")
def pack():
    return [synthesis.make(key) for key in synthesis.keys(per_class=2)]


def test_the_pack_is_as_large_as_it_says(pack):
    assert len(pack) == len(synthesis.MACHINES) * len(synthesis.LABELS) * 2
    assert len(synthesis.MACHINES) >= 10 and len(synthesis.LABELS) >= 8
    assert {info["label"] for _, info in pack} == set(synthesis.LABELS)
    names = [synthesis.name(key) for key in synthesis.keys(14, 3)]
    assert len(set(names)) == 14 * len(synthesis.LABELS) * 3


def test_its_names_are_labelled_like_a_user_pack():
    for key in synthesis.keys(3, 1):
        label, machine = labels.named(f"{synthesis.name(key)}.wav")[:2]
        assert (label, machine) == (synthesis.LABELS[key.label], synthesis.MACHINES[key.machine])


def test_clips_are_sounds(pack):
    for x, info in pack:
        name = f"{info['pack']} {info['name']}"
        assert x.shape == (RATE,) and x.dtype == np.float32 and np.isfinite(x).all(), name
        assert 0.3 < np.abs(x).max() <= 1, name
        assert abs(x[0]) < 0.2 * np.abs(x).max() and abs(x[-1]) < 1e-3, f"{name} clicks"
        assert np.argmax(np.abs(x) > 0.01 * np.abs(x).max()) < 0.005 * RATE, f"{name} starts late"
        assert abs(x.mean()) < 0.02, f"{name} has an offset"


def test_a_clip_depends_on_its_key_and_seed_alone():
    keys = synthesis.keys(2, 2)
    first = {key: synthesis.make(key, seed=3)[0] for key in keys}
    again = {key: synthesis.make(key, seed=3)[0] for key in reversed(keys)}
    for key in keys:
        assert np.array_equal(first[key], again[key]), key
        assert not np.array_equal(first[key], synthesis.make(key, seed=4)[0]), key
    assert len({x.tobytes() for x in first.values()}) == len(keys)


@pytest.mark.parametrize(("rate", "seconds"), [(16_000, 0.5), (48_000, 1.4861)])
def test_any_rate_and_length(rate, seconds):
    for label in range(len(synthesis.LABELS)):
        x, info = synthesis.make(synthesis.Key(0, label, 0), rate=rate, seconds=seconds)
        assert x.shape == (round(rate * seconds),) and np.abs(x).max() > 0.3, info["label"]


def test_the_factors_are_true(pack):
    def pairs(kinds, factor, name):
        chosen = [(x, info) for x, info in pack if info["label"] in kinds]
        told = [info[f"factor_{factor}"] for _, info in chosen]
        return np.array(told), np.array([descriptors.describe(x, RATE)[name] for x, _ in chosen])

    told, heard = pairs(("lead",), "pitch", "pitch")
    assert np.median(np.abs(heard / told - 1)) < 0.02
    for kinds, factor, name in [
        (("kick", "tom", "snare", "hat closed"), "decay", "decay"),
        (("hat closed", "hat open"), "decay", "temporal_centroid"),
        (synthesis.LABELS, "noise", "flatness"),
        (("cowbell", "chime"), "pitch", "centroid"),
    ]:
        told, heard = pairs(kinds, factor, name)
        ranks = [np.argsort(np.argsort(values)) for values in (told, heard)]
        assert np.corrcoef(*ranks)[0, 1] > 0.6, (kinds, factor, name)


def test_labels_are_heard_on_machines_not_yet_met(pack):
    from sklearn.ensemble import RandomForestClassifier

    x = descriptors.matrix(np.stack([clip for clip, _ in pack]), RATE)
    label = np.array([info["label"] for _, info in pack])
    unmet = np.isin([info["pack"] for _, info in pack], synthesis.MACHINES[:4])
    forest = RandomForestClassifier(60, random_state=0).fit(x[~unmet], label[~unmet])
    assert forest.score(x[unmet], label[unmet]) > 0.85


def test_machines_overlap(pack):
    for factor in synthesis.FACTORS:
        kicks = [(info["pack"], info[f"factor_{factor}"]) for _, info in pack if info["label"] == "kick"]
        values = np.array([value for _, value in kicks])
        within = np.mean([np.ptp([v for m, v in kicks if m == machine]) for machine in synthesis.MACHINES])
        assert within > 0.1 * np.ptp(values), factor
