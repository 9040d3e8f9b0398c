"""Codes: what they must not know (gain), how they stay in use, and sounds that follow a curve."""

import numpy as np
import pytest
import torch

from workbench import models, training
from workbench.latent import codes
from workbench.nn.posteriors import Codes


@pytest.fixture(scope="module")
def begun(clips):
    """A model that has only seen its start from the data: principal components and clusters."""
    torch.manual_seed(0)
    settings = {"codes": 64, "n_fft": 512, "latent": 16, "iterations": 2, "steps": {"autoencode": 0}}
    model = models.for_clips(clips, "vq", "tiny", settings)
    training.fit_stage(model, model.stages()[0], clips)
    return model.eval()


@pytest.mark.parametrize("decibels", [-20, 20])
def test_codes_do_not_know_the_gain(begun, clips, decibels):
    x = torch.from_numpy(clips.audio(clips.some(8)))[:, None]
    z, other = (begun.batched(begun.encode, v) for v in (x, x * 10 ** (decibels / 20)))
    heard = z[:, -1] > z[:, -1].amax(1, keepdim=True) - np.log(1000)  # what 16 bits round is another sound
    same = (z[:, :-1] == other[:, :-1]).all(1)
    assert same[heard].float().mean() > 0.999
    torch.testing.assert_close(
        other[:, -1][heard] - z[:, -1][heard],
        torch.full((int(heard.sum()),), decibels / 20 * np.log(10)),
        atol=1e-3,
        rtol=0,
    )


def test_a_louder_gain_gives_the_same_sound_louder(begun, clips):
    z = begun.batched(begun.encode, torch.from_numpy(clips.audio([3]))[:, None])
    louder = z.clone()
    louder[:, -1] += np.log(2)
    with torch.inference_mode():
        torch.testing.assert_close(begun.decode(louder), 2 * begun.decode(z), atol=1e-4, rtol=1e-3)


def test_running_means_find_clusters_and_codes_nobody_uses_start_again():
    book = models.build("vq", "tiny", length=4096, rate=8000, codes=4, latent=2).codebook
    book.codes.copy_(torch.tensor([[0.1, 0.0], [50.0, 50.0], [60.0, 60.0], [70.0, 70.0]]))
    book.sums.copy_(book.codes)
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
    torch.manual_seed(0)
    for _ in range(1200):
        points = centres[torch.randint(4, (200,))] + 0.1 * torch.randn(200, 2)
        book.learn(points, book.nearest(points.T[None])[0])
    nearest = torch.cdist(centres, book.codes).amin(1)
    assert (nearest < 0.1).all(), book.codes
    assert sorted(book.nearest(centres.T[None])[0].tolist()) == [0, 1, 2, 3]


def test_a_series_of_codes_is_a_choice_not_a_density():
    z = torch.zeros(2, 3, 5)
    law = Codes(z, torch.zeros(2, 5, dtype=torch.long), 8)
    assert torch.equal(law.sample(torch.ones(2, 3, 5)), z)
    assert law.log_prob(z).tolist() == [0, 0] and law.log_prob(z + 1).tolist() == [-np.inf, -np.inf]
    torch.testing.assert_close(law.kl_standard(), torch.full((2, 1), 5 * np.log(8)))


def test_every_code_is_measured_and_sorted_by_how_bright_it_is(begun, clips):
    table = codes.analyse(begun, clips)
    assert sorted(table.code) == list(range(64)) and table.centroid.is_monotonic_increasing
    assert table.frames.sum() > 0.3 * len(clips) * begun.decoder.noise.shape[3]
    assert (table.frames > 0).mean() > 0.8
    x = codes.in_order(begun, table)
    halves = [codes.curve(part, begun.rate, "centroid", 256).mean() for part in np.array_split(x, 2)]
    assert halves[1] > 1.5 * halves[0]


def test_a_curve_of_brightness_is_heard(begun, clips):
    table = codes.analyse(begun, clips)
    made = codes.synthesise(begun, table, codes.drawn(begun, table, [], "centroid"))
    assert made.correlation > 0.85
    assert made.measured.max() > 2 * made.measured.min()
    upwards = codes.synthesise(begun, table, codes.drawn(begun, table, [1000, 5000], "centroid"))
    assert np.corrcoef(upwards.measured, np.arange(len(upwards.measured)))[0, 1] > 0.8


def test_codes_follow_the_curve_and_level_of_a_sound(begun, clips):
    table = codes.analyse(begun, clips)
    x = clips.audio([int(np.flatnonzero(clips.index.label == "snare")[0])])[0]
    made = codes.follow(begun, table, x)
    assert abs(len(made.x) - len(x)) <= 256
    size = 1024
    level, reached = (
        np.sqrt(np.square(v[: len(v) // size * size].reshape(-1, size)).mean(1)) for v in (x[: len(made.x)], made.x)
    )
    assert np.corrcoef(level, reached)[0, 1] > 0.9


def test_what_cannot_be_asked_is_refused(begun, clips):
    table = codes.analyse(begun, clips)
    with pytest.raises(ValueError, match=r"no curve of 'warmth'; known are centroid, bandwidth, pitch"):
        codes.curve(np.zeros(4096), 22_050, "warmth", 256)
    with pytest.raises(ValueError, match=r"shape \(2,\) came; it takes at least 4 values above 0 Hz"):
        codes.synthesise(begun, table, [100, 200])
    with pytest.raises(ValueError, match="None of the 64 codes has a pitch"):
        codes.synthesise(begun, table.assign(pitch=0.0), [100] * 9, "pitch")
    with pytest.raises(ValueError, match="'frame' model has no codes"):
        codes.check(models.for_clips(clips, "frame", "tiny"))
    with pytest.raises(ValueError, match="not measured by 'loudness'; they are by centroid, bandwidth, pitch"):
        codes.check(begun, "loudness")
    for curve in ([1000], [1000, 1000], [-5, 5], [1e9, 2e9], ["a", "b"], [[1, 2], [3, 4]]):
        with pytest.raises(ValueError, match=r"The curve came as .* 2 values in Hz that differ, above 0 and up to"):
            codes.check(begun, "centroid", curve)
    codes.check(begun, "pitch", [100, 200])
    with pytest.raises(ValueError, match=r"frames of training clips cannot fill 1,000,000 codes"):
        models.for_clips(clips, "vq", "tiny", {"codes": 1_000_000, "latent": 1})
