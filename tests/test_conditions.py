"""What latents tell of labels, and whether decoders obey: measured where the answer is known."""

import numpy as np
import pytest
import torch

from workbench import models
from workbench.errors import UsageError
from workbench.latent import conditions


def made(clips, **settings):
    torch.manual_seed(0)
    return models.build("wave", "tiny", length=clips.length, rate=clips.rate, labels=clips.labels, **settings).eval()


def test_probes_tell_what_is_there_and_guess_where_nothing_is(clips, monkeypatch):
    model = made(clips)
    names = sorted(clips.labels)
    monkeypatch.setattr(
        model, "latents", lambda part: torch.tensor([[float(names.index(n))] for n in part.index.label])
    )
    found = conditions.probes(model, clips)
    assert found["forest"] == 1 and found["guessing"] == pytest.approx(1 / len(names))
    noise = np.random.default_rng(0)
    monkeypatch.setattr(model, "latents", lambda part: torch.from_numpy(noise.standard_normal((len(part), 3))))
    found = conditions.probes(model, clips)
    assert all(abs(found[probe] - found["guessing"]) < 0.1 for probe in ("linear", "forest"))


def test_a_decoder_that_plays_real_clips_of_the_label_obeys_and_one_that_does_not_guesses(clips, monkeypatch):
    model, train = made(clips, conditional=True), clips.split("train")

    def sound(z, c, listens):
        asked = clips.labels[int(c[0].argmax())] if listens else clips.labels[0]
        rows = np.flatnonzero(train.index.label == asked)[: len(z)]
        return torch.from_numpy(train.audio(np.resize(rows, len(z))))[:, None]

    monkeypatch.setattr(model, "render", lambda z, c=None: sound(z, c, True))
    table = conditions.obeyed(model, clips, n=4)
    assert list(table.label) == sorted(clips.labels) and (table.n >= 8).all() and table.real.mean() > 0.7
    assert table.changed.mean() > 0.95 and table.drawn.mean() > 0.95
    monkeypatch.setattr(model, "render", lambda z, c=None: sound(z, c, False))
    assert conditions.obeyed(model, clips, n=4).changed.mean() < 1.5 / len(clips.labels)


def test_a_decoder_that_plays_real_clips_of_the_attribute_obeys_and_a_deaf_one_does_not(clips, monkeypatch):
    octaves = [word for word in clips.attributes() if word.startswith("octave")]
    model, train = models.for_clips(clips, "wae", "tiny", {"attributes": octaves}), clips.split("train")
    first = len(clips.labels)
    known = train.context(None, model.context_spec)[:, first:]

    def sound(z, c, listens):
        asked = c[:, first:].argmax(1) if listens else torch.zeros(len(c), dtype=int)
        rows = [np.flatnonzero(known[:, i])[k % known[:, i].sum().astype(int)] for k, i in enumerate(asked)]
        return torch.from_numpy(train.audio(rows))[:, None]

    monkeypatch.setattr(model, "render", lambda z, c=None: sound(z, c, True))
    table = conditions.attributes_obeyed(model, clips, n=6)
    assert 2 <= len(table) <= len(octaves) and set(table.attribute) <= set(octaves) and (table.n >= 8).all()
    assert table.changed.mean() > 0.9 and table.own.mean() < 0.2 and (table.guessing == 1 / len(octaves)).all()
    monkeypatch.setattr(model, "render", lambda z, c=None: sound(z, c, False))
    deaf = conditions.attributes_obeyed(model, clips, n=6)
    assert (deaf.changed == deaf.own).all()
    only = models.for_clips(clips, "wae", "tiny", {"attributes": octaves[:1]})
    assert conditions.attributes_obeyed(only, clips).empty  # of one octave nothing can be told apart


def test_a_decoder_that_sees_no_label_is_refused(clips):
    with pytest.raises(UsageError, match=r"'wave' model whose decoder sees no label .* -p family wae"):
        conditions.check(made(clips))
    conditions.check(made(clips, conditional=True))


def test_a_word_takes_the_place_of_its_kind():
    model = models.build(
        "wae", "tiny", length=4096, rate=8000, labels=("a", "b"), attributes=("octave: 2", "octave: 3", "style: soft")
    )
    c = torch.tensor([[1.0, 0, 0, 1, 1], [0, 0, 0, 0, 0]])
    assert conditions.put(model, c, "b").tolist() == [[0, 1, 0, 1, 1], [0, 1, 0, 0, 0]]
    assert conditions.put(model, c, "octave: 2").tolist() == [[1, 0, 1, 0, 1], [0, 0, 1, 0, 0]]
    assert c[0, 0] == 1
    with pytest.raises(
        UsageError, match=r"no label or attribute 'octave: 9'; it knows a, b, octave: 2, octave: 3, style: soft"
    ):
        conditions.put(model, c, "octave: 9")
