"""Mel pictures: a latent without loudness, one for the whole clip or for each part of it, and a vocoder."""

import importlib

import numpy as np
import pytest
import torch
import torchaudio

from workbench import models, training
from workbench.errors import UsageError
from workbench.models.mel import Reversed
from workbench.nn.blocks import Parts
from workbench.nn.losses import spectral_distance
from workbench.nn.representations import bank_of


def begun(clips, **settings):
    """A model that has only seen its start from the data."""
    torch.manual_seed(0)
    steps = {"autoencode": 0, "vocoder": 0, "prior": 0}
    model = models.for_clips(
        clips, "mel", "tiny", {"latent": 16, "mels": 48, "n_fft": 512, "hop": 256, "steps": steps, **settings}
    )
    training.fit_stage(model, model.stages()[0], clips)
    return model.eval()


def explained(z: np.ndarray, y: np.ndarray) -> float:
    """R² of the best linear prediction of y (n,) from z (n, L)."""
    a = np.c_[z, np.ones(len(z))]
    return 1 - np.square(y - a @ np.linalg.lstsq(a, y, rcond=None)[0]).sum() / np.square(y - y.mean()).sum()


def test_a_reversed_gradient_is_the_gradient_times_minus_its_scale():
    z = torch.randn(3, 4, requires_grad=True)
    y = Reversed.apply(z, 0.25)
    assert torch.equal(y, z)
    y.square().sum().backward()
    torch.testing.assert_close(z.grad, -0.25 * 2 * z)


@pytest.mark.parametrize("part", [18, 6, 1])
def test_parts_of_a_picture_make_the_picture(part):
    m = torch.randn(2, 3, 18)
    cut = Parts(18, part)
    assert cut(m).shape == (2 * cut.count, 3, part)
    assert torch.equal(cut.inverse(cut(m), cut.count), m)


def test_the_start_takes_out_what_goes_with_loudness_in_proportion(clips):
    fit = clips.split("train")
    for invariance, check in ((1.0, lambda r: r < 0.05), (0.0, lambda r: r > 0.5)):
        model = begun(clips, invariance=invariance)
        z = model.latents(fit).numpy()
        assert check(explained(z[:, :-1], z[:, -1])), invariance
        assert abs(z[:, -1].mean()) < 0.1 and 0.9 < z[:, -1].std() < 1.1


@pytest.mark.parametrize("series", [1, 4])
def test_pictures_come_back_and_loudness_is_obeyed(clips, series):
    model = begun(clips, series=series)
    x = torch.from_numpy(clips.audio(clips.some(12)))[:, None]
    z = model.batched(model.encode, x)
    assert z.shape == ((12, 17) if series == 1 else (12, 17, 4))
    with torch.inference_mode():
        wanted, made = model.encoder.picture(x), model.decoder.picture(z)
        assert (made - wanted).abs().mean() < 0.5 * (wanted - wanted.mean(0)).abs().mean()
        louder = z.clone()
        louder[:, -1] += 1
        power = model.decoder.picture(louder).pow(6.0).mean((1, 2)) / made.pow(6.0).mean((1, 2))
        torch.testing.assert_close(power.log(), model.encoder.loud[1].expand(12), atol=1e-3, rtol=0)
    assert (model.prior is None) == (series > 1)


def test_a_sound_at_another_level_has_the_same_timbre_and_comes_back_at_its_own(clips):
    model, x = begun(clips), torch.from_numpy(clips.audio(clips.some(12)))[:, None]
    with torch.inference_mode():
        z, quiet = model.encode(x), model.encode(0.1 * x)
        moved = (z - quiet)[:, -1] * model.encoder.loud[1] * 10 / np.log(10)
        torch.testing.assert_close(quiet[:, :-1], z[:, :-1], atol=2e-2, rtol=0)
        torch.testing.assert_close(moved, torch.full((12,), 20.0), atol=0.05, rtol=0)
        y, softer = model.decode(z), model.decode(torch.cat([z[:, :-1], quiet[:, -1:]], 1))
        lower = 10 * torch.log10(y.square().mean((1, 2)) / softer.square().mean((1, 2)))
        assert (lower > 10).all() and (lower < 25).all()
        apart = begun(clips, invariance=0.0).encode(torch.cat([x, 0.1 * x])).unflatten(0, (2, 12))
        assert (apart[0] - apart[1])[:, :-1].abs().mean() > 0.3


def test_the_vocoder_gives_pictures_their_sound_back(clips):
    model = begun(clips)
    x = torch.from_numpy(clips.audio(clips.some(12)))[:, None]
    with torch.inference_mode():
        own, silence = (
            spectral_distance(x, y).mean() for y in (model.decoder.vocoder(model.encoder.picture(x)), 0 * x)
        )
    assert own < 0.75 * silence


def test_what_does_not_fit_is_refused_before_any_data():
    with pytest.raises(
        ValueError, match="A series of 64 was asked, of clips that have 32 frames: take one of 2, 4, 8, 16, 32"
    ):
        models.build("mel", "tiny", length=4096, rate=8000, series=64)
    with pytest.raises(ValueError, match="of 200 mel bands see none of the 129 bins; take fewer bands"):
        models.build("mel", "tiny", length=4096, rate=8000, mels=200)
    with pytest.raises(ValueError, match=r"The setting mels came as 0, .* at least 1"):
        models.build("mel", "tiny", length=4096, rate=8000, mels=0)
    with pytest.raises(
        ValueError,
        match=r"4096 values does not divide into hops of 100, .*: take hops of 512 in frames of 1024 or 2048",
    ):
        models.build("mel", "tiny", length=4096, rate=8000, hop=100)


RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 37_800, 44_100, 48_000, 64_000, 88_200, 96_000)


@pytest.mark.parametrize("family", ["mel", "wae"])
def test_pictures_of_every_preset_see_each_band_at_every_rate(family, recwarn):
    module = importlib.import_module(f"workbench.models.{family}")
    for rate in RATES:
        for preset in module.PRESETS:
            asked = {**module.DEFAULTS, **module.PRESETS[preset]}
            bank = bank_of(rate, asked["n_fft"], asked["mels"])
            assert bank.shape == (asked["mels"], asked["n_fft"] // 2 + 1), (rate, preset)
            assert bank.sum(1).min() > 0 and (bank >= 0).all(), (rate, preset)
            centres = bank @ torch.arange(bank.shape[1]).float() / bank.sum(1)
            assert (centres.diff() >= 0).all() and (bank.sum(0) > 0).float().mean() > 0.97, (rate, preset)
        model = models.build(family, "tiny", length=4096, rate=rate, labels=("a", "b"))
        assert model.encoder.picture.bands == 24
    assert not recwarn.list
    with pytest.raises(UsageError, match="mel bands see none"):
        models.build(family, "tiny", length=4096, rate=96_000, labels=("a", "b"), mels=200)


def test_where_bins_are_fine_enough_bands_are_those_of_the_htk_scale():
    kept = torchaudio.functional.melscale_fbanks(513, 30.0, 11_025, 128, 22_050).T
    assert torch.equal(bank_of(22_050, 1024, 128), kept)
    high = bank_of(96_000, 1024, 128)
    assert high[-1].argmax() > 490 and 30 < high[0].argmax() * 96_000 / 1024 < 200
