"""Descriptors: finite on anything, right where the answer is known, and blind to what they do not name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workbench.data import descriptors

RATE = 44_100
T = np.arange(32_768) / RATE


def tone(pitch, decay=8.0):
    return (np.exp(-T * decay) * np.sin(2 * np.pi * pitch * T)).astype(np.float32)


def noise(seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(len(T))).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, st.integers(0, 3000), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([8_000, 22_050, 44_100]),
)
def test_every_value_is_finite(x, rate):
    values = descriptors.describe(x, rate)
    assert tuple(values) == descriptors.NAMES == tuple(descriptors.UNITS)
    assert all(np.isfinite(value) for value in values.values()), values
    assert 0 <= values["pitch_confidence"] <= 1 and 0 <= values["flatness"] <= 1 + 1e-6
    assert abs(values["low"] + values["mid"] + values["high"] - 1) < 1e-3 or values["loudness"] == -100


@pytest.mark.parametrize("x", [np.zeros(5000), np.full(5000, 0.7), np.array([0.5]), np.zeros(0)])
def test_silence_has_the_values_that_are_written_down(x):
    values = descriptors.describe(x, RATE)
    assert values == dict.fromkeys(descriptors.NAMES, 0.0) | {"loudness": -100.0, "log_attack": -4.0}


@settings(max_examples=30, deadline=None)
@given(st.floats(40, 4000), st.floats(2, 20))
def test_pitch_of_a_tone(pitch, decay):
    values = descriptors.describe(tone(pitch, decay), RATE)
    assert values["pitch"] == pytest.approx(pitch, rel=0.01)
    assert values["pitch_confidence"] > 0.8


def test_noise_has_no_pitch_and_a_tone_is_not_flat():
    hiss, hum = descriptors.describe(noise(), RATE), descriptors.describe(tone(440), RATE)
    assert hiss["pitch"] == hiss["pitch_confidence"] == 0
    assert hiss["flatness"] > 0.4 > 0.01 > hum["flatness"]
    assert hiss["high"] > 0.8 and hum["mid"] > 0.95


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1))
def test_level_moves_loudness_alone(level):
    a, b = (descriptors.describe(x, RATE) for x in (tone(300) + noise(), level * (tone(300) + noise())))
    assert b.pop("loudness") - a.pop("loudness") == pytest.approx(20 * np.log10(level), abs=0.01)
    assert b == pytest.approx(a, rel=1e-2, abs=1e-3)


def test_each_descriptor_orders_what_it_names():
    rise = np.minimum(1, T / 0.1).astype(np.float32)
    ordered = {
        "centroid": (tone(200), tone(2000)),
        "rolloff": (tone(200), tone(2000)),
        "bandwidth": (tone(1000, 2), noise()),
        "decay": (tone(300, 40), tone(300, 10)),
        "duration": (tone(300, 40), tone(300, 10)),
        "temporal_centroid": (tone(300, 40), tone(300, 10)),
        "log_attack": (tone(300), tone(300, 2) * rise),
        "low": (tone(1000), tone(60)),
        "high": (tone(1000), tone(6000)),
        "crest": (tone(300, 0.1), tone(300, 40)),
        "zero_crossings": (tone(300), tone(3000)),
        "loudness": (tone(60), tone(1000)),  # the ear is deaf to the low one
    }
    for name, (less, more) in ordered.items():
        assert descriptors.describe(less, RATE)[name] < descriptors.describe(more, RATE)[name], name


def test_decay_is_the_time_to_40_db():
    for seconds in (0.1, 0.3, 0.6):
        x = tone(1000, np.log(100) / seconds)
        assert descriptors.describe(x, RATE)["decay"] == pytest.approx(seconds, abs=0.015)


def test_a_matrix_has_a_row_a_clip():
    clips = np.stack([tone(200), noise(), 0 * T]).astype(np.float32)
    table = descriptors.matrix(clips, RATE)
    assert table.shape == (3, len(descriptors.NAMES))
    assert np.array_equal(table, descriptors.matrix(clips[:, None], RATE))
    assert list(table[0]) == list(descriptors.describe(clips[0], RATE).values())
    assert descriptors.matrix(clips[:0], RATE).shape == (0, len(descriptors.NAMES))


def test_vectors_are_unit_vectors_that_ignore_level_and_hear_the_rest():
    clips = np.stack([tone(200), noise(), 0.01 * tone(200), tone(220), noise(1), 0 * T]).astype(np.float32)
    vectors = descriptors.embed(clips, RATE)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 1, 0], atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[0, 2] > 0.9999, "level"
    assert cosine[1, 4] > 0.8, "two draws of one noise"
    assert cosine[0, 1] < 0.5, "a tone is no noise"
    assert cosine[0, 3] < 0.999, "another pitch"


def test_a_log_mel_picture_shows_a_tone_where_it_is():
    rows = [descriptors.log_mel(tone(pitch, 2), RATE).mean(1).argmax() for pitch in (100, 400, 1600, 6400)]
    assert rows == sorted(set(rows))
    picture = descriptors.log_mel(tone(400), RATE, mels=64, floor=80)
    assert picture.shape[0] == 64 and picture.max() == pytest.approx(80, abs=1e-3) and picture.min() == 0
    assert not descriptors.log_mel(np.zeros(4096), RATE).any()
