"""Three numbers a sound: their law is N(0, I) whatever the label, and the decoder does as it is told."""

import numpy as np
import pytest
import torch

from workbench import autoencoder, models, runs, training
from workbench.latent.conditions import probes
from workbench.models.wae import LatentDiscriminator, discrepancy
from workbench.nn.noise import keyed_noise
from workbench.widgets.instrument import Instrument


def begun(clips, steps=0, **settings):
    """A model after its start from the data and some steps."""
    torch.manual_seed(0)
    wanted = {"mels": 48, "n_fft": 512, "hop": 256, "steps": {"autoencode": steps, "prior": 0}, **settings}
    model = models.for_clips(clips, "wae", "tiny", wanted)
    training.fit_stage(model, model.stages()[0], clips)
    return model.eval()


def test_a_discrepancy_is_zero_for_one_law_and_grows_with_the_difference():
    a, b = (keyed_noise(seed, range(500), 3) for seed in (0, 1))
    same, moved, further = (float(discrepancy(a, b + by)) for by in (0, 0.5, 1))
    assert abs(same) < 0.003 < 0.01 < moved < further


def test_a_joint_discrepancy_finds_what_is_told_of_labels_where_all_together_are_normal():
    label = torch.arange(600) % 3
    c = torch.eye(3)[label]
    free = keyed_noise(0, range(600), 3)
    telling = free.clone()
    telling[:, 0] = free[:, 0].sort().values[label.argsort().argsort()]  # the same values, dealt out by label
    other = keyed_noise(1, range(600), 3)
    assert abs(float(discrepancy(telling, other))) < 0.003 and abs(float(discrepancy(free, other, c))) < 0.006
    assert float(discrepancy(telling, other, c)) > 0.03


def test_a_discriminator_answers_each_question_where_something_is_known():
    torch.manual_seed(0)
    discriminator = LatentDiscriminator(2, [[0, 1], [2, 3, 4]], 8)
    c = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 1]])
    z = torch.randn(3, 2)
    each = discriminator.cross_entropy(z, torch.cat([c[:, :2], 0 * c[:, 2:]], 1), False)
    both = discriminator.cross_entropy(z, c, False)
    notes = discriminator.cross_entropy(z[[0, 2]], torch.cat([0 * c[:, :2], c[:, 2:]], 1)[[0, 2]], False)
    torch.testing.assert_close(both, (each + notes) / 2)
    assert discriminator.cross_entropy(z, 0 * c, False) == 0
    answers = discriminator.net(z)[:, :2].log_softmax(1)
    alike = -(answers.mean(1) * torch.tensor([0.5, 0.25, 0.25])).sum()  # the rare label counts as much as the other
    torch.testing.assert_close(discriminator.cross_entropy(z, torch.cat([c[:, :2], 0 * c[:, 2:]], 1), True), alike)


def test_the_start_tells_nothing_of_labels_in_proportion_and_the_decoder_says_it(clips):
    model, plain = begun(clips), begun(clips, conditional=False)
    some = clips.split("train")
    label = some.context()

    def between(m):  # share of the latents' variance that lies between labels
        z = m.latents(some).numpy()
        means = np.linalg.lstsq(label, z - z.mean(0), rcond=None)[0]
        return np.square(label @ means).sum() / np.square(z - z.mean(0)).sum()

    assert between(model) < 0.02 and between(plain) > 0.3
    asked = torch.cat([model.context(name, 1) for name in clips.labels])
    pictures = model.decoder.picture(torch.zeros(len(asked), 3), asked).flatten(1)
    assert torch.pdist(pictures).min() > 0


def test_what_is_known_less_is_what_the_decoder_is_told(clips):
    model = begun(clips, attributes=[])
    wide = begun(clips, attributes=clips.attributes()) if clips.attributes() else None
    z = torch.zeros(2, 3)
    assert model.decode(z).shape == model.decode(z, model.context(clips.labels[0], 2)).shape == (2, 1, clips.length)
    if wide is not None:
        c = wide.context(clips.labels[0], 2, wide.context_spec[-1:])
        assert c.sum(1).tolist() == [2, 2]
        short = c[:, : len(clips.labels)]
        assert torch.equal(wide.decode(z, short), wide.decode(z, wide.context(clips.labels[0], 2)))
        assert not torch.equal(wide.decode(z, short), wide.decode(z, c))


def test_after_training_the_latent_tells_less_than_without_pressure(clips):
    pressed = begun(clips, 150, batch_size=32)
    free = begun(clips, 150, batch_size=32, conditional=False)
    kept, plain = probes(pressed, clips), probes(free, clips)
    assert kept["forest"] < 0.5 * plain["forest"] + 0.5 * plain["guessing"]
    z = pressed.latents(clips.split("train"))
    assert z.mean(0).abs().max() < 0.4 and z.std(0).min() > 0.6 and z.std(0).max() < 1.5


def test_a_vocoder_comes_with_its_run_and_stays_with_the_model(clips, tmp_path):
    torch.manual_seed(0)
    picture = {"mels": 48, "n_fft": 512, "hop": 256}
    models.for_clips(clips, "mel", "tiny", picture).save(tmp_path / "mel")
    source = autoencoder.load(tmp_path / "mel").decoder.vocoder.state_dict()
    model = models.for_clips(clips, "wae", "tiny", {**picture, "vocoder": str(tmp_path / "mel")}).eval()
    for name, value in model.decoder.voice.state_dict().items():
        assert torch.equal(value, source[name]) and not model.decoder.voice.get_parameter(name).requires_grad
    model.save(tmp_path / "wae")
    (tmp_path / "mel").rename(tmp_path / "gone")
    again, z = autoencoder.load(tmp_path / "wae"), torch.randn(2, 3)
    assert torch.equal(model.render(z), again.render(z))
    with pytest.raises(ValueError, match=r"'n_fft': 512, .*but this model has .*'n_fft': 256"):
        models.for_clips(clips, "wae", "tiny", {"vocoder": str(tmp_path / "gone")})
    with pytest.raises(ValueError, match="family 'wae', which has no vocoder; give a run of 'mel'"):
        models.for_clips(clips, "wae", "tiny", {**picture, "vocoder": str(tmp_path / "wae")})
    with pytest.raises(ValueError, match="holds no trained model"):
        models.for_clips(clips, "wae", "tiny", {"vocoder": str(tmp_path / "nothing")})


def test_attributes_that_the_store_does_not_know_are_refused(clips):
    with pytest.raises(ValueError, match=r"Fewer than 8 training clips of .* are known to be style: soft; it has"):
        models.for_clips(clips, "wae", "tiny", {"attributes": ["style: soft"]})
    with pytest.raises(ValueError, match="`attributes` came as 'octave: 3'; give a list"):
        models.for_clips(clips, "wae", "tiny", {"attributes": "octave: 3"})
    with pytest.raises(ValueError, match=r"`vocoder` came as \{'run': 'x'\}; give the folder of a run of 'mel'"):
        models.for_clips(clips, "wae", "tiny", {"vocoder": {"run": "x"}})
    with pytest.raises(ValueError, match="start came as 'zzz'; known are data, random"):
        models.for_clips(clips, "wae", "tiny", {"start": "zzz"})
    model = models.build("wae", "tiny", length=4096, rate=8000, labels=("a",), attributes=("octave: 3",))
    with pytest.raises(ValueError, match="knows no attribute octave: 9; it knows octave: 3"):
        model.context("a", 1, ["octave: 9"])


def test_the_instrument_moves_attributes_without_a_label(clips, tmp_path):
    torch.manual_seed(0)
    words = clips.attributes(least=2)[:2]
    model = models.build(
        "wae", "tiny", length=clips.length, rate=clips.rate, labels=clips.labels, attributes=words
    ).eval()
    runs.start(tmp_path / "run", {}, notebook="2_train").finish()
    play = Instrument(model, clips, tmp_path / "run", tmp_path / "out")
    n = len(clips.labels)
    play.begin(play.clip(0))
    own = play.state.c[0, :n]
    name, axes = next(iter(play.axes.items()))
    moved = play.move(name, [0.0] * len(axes.names), [0.0] * n + [0.0, 0.7])
    assert torch.equal(moved.c[0, :n], own) and moved.c[0, n:].tolist() == pytest.approx([0, 0.7])
    assert not play.known(torch.zeros(1, 3), None).any()  # the prior is N(0, I), whatever the label
    assert play.note(moved)["labels"] == [*clips.labels, *words]
