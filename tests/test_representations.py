"""Every representation that has an inverse gives the clip back."""

import pytest
import torch

from workbench.nn.representations import PQMF, STFT, Frames, Mel


def snr(x, y):
    return float(10 * torch.log10(x.square().mean() / (x - y).square().mean()))


@pytest.fixture(scope="module")
def noise():
    return torch.randn(2, 1, 16_384, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bands, taps", [(16, 377), (8, 189), (4, 95)])
def test_pqmf_reconstructs_white_noise_from_the_first_value_to_the_last(noise, bands, taps):
    pqmf = PQMF(bands)
    assert pqmf.filters.shape[-1] == taps
    y = pqmf(noise)
    assert y.shape == (2, bands, 16_384 // bands)
    back = pqmf.inverse(y)
    assert snr(noise, back) >= 59.5
    assert snr(noise[..., :64], back[..., :64]) >= 50 and snr(noise[..., -64:], back[..., -64:]) >= 50
    assert y.square().mean() == pytest.approx(1, rel=0.05)  # energy is kept


def test_pqmf_puts_a_tone_into_its_band():
    t = torch.arange(16_384)
    for band in range(16):
        tone = torch.sin(torch.pi * (band + 0.5) / 16 * t)[None, None]
        assert PQMF(16)(tone).square().mean(-1).argmax() == band


def test_pqmf_refuses_a_length_that_does_not_divide():
    with pytest.raises(ValueError, match=r"1000 values.*16"):
        PQMF(16)(torch.zeros(1, 1, 1000))


@pytest.mark.parametrize("view", [STFT(1024, 256), STFT(64, 32), Frames(1024, 512)], ids=lambda v: type(v).__name__)
def test_inverse_gives_the_clip_back(noise, view):
    assert snr(noise, view.inverse(view(noise))) > 100


def test_stft_agrees_with_torch(noise):
    s = torch.stft(noise[:, 0], 1024, 256, window=torch.hann_window(1024), pad_mode="constant", return_complex=True)
    torch.testing.assert_close(torch.view_as_complex(STFT()(noise).permute(0, 2, 3, 1).contiguous()), s)


@pytest.mark.parametrize("make", [lambda: STFT(1024, 1024), lambda: STFT(1024, 300), lambda: Frames(1024, 256)])
def test_hops_that_do_not_overlap_add_are_refused(make):
    with pytest.raises(ValueError, match="overlap-add"):
        make()


def test_steps_towards_agreement_keep_magnitudes_and_bring_phases_nearer():
    stft = STFT(256, 128)
    t = torch.arange(4096) / 8000
    s = stft((torch.exp(-20 * t) * torch.sin(2 * torch.pi * 440 * t))[None, None])
    magnitude = s.square().sum(1, keepdim=True).sqrt()
    noise = stft(torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0)))
    rough = magnitude * noise / noise.square().sum(1, keepdim=True).sqrt()

    def error(v: torch.Tensor) -> float:
        return float((stft(stft.inverse(v)).square().sum(1, keepdim=True).sqrt() - magnitude).norm() / magnitude.norm())

    better = stft.agree(rough, 16)
    torch.testing.assert_close(better.square().sum(1, keepdim=True).sqrt(), magnitude, atol=1e-4, rtol=1e-3)
    assert error(better) < 0.5 * error(rough)
    assert torch.equal(stft.agree(rough, 0), rough)


def test_mel_bands_are_means_and_their_way_back_keeps_a_flat_spectrum():
    mel = Mel(22_050, 1024, 512, 80)
    m = mel(torch.randn(2, 1, 8192, generator=torch.Generator().manual_seed(0)))
    assert m.shape == (2, 80, 17)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(8192) / 22_050)[None, None]
    bright, dark = mel(tone), mel(0.125 * tone)
    torch.testing.assert_close(
        dark, bright / 2, atol=0.02, rtol=0.01
    )  # an eighth of the magnitude is half of its cube root
    flat = mel.inverse(torch.full((1, 80, 3), 0.7))
    torch.testing.assert_close(flat[:, 3:-3], torch.full((1, 507, 3), 0.7))
    assert mel.inverse(bright)[0, :, 8].argmax() in range(44, 50)  # bin 46.4
    with pytest.raises(ValueError, match="of 200 mel bands see none of the 65 bins"):
        Mel(22_050, 128, 64, 200)
