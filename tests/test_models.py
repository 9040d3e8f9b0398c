"""The contract, over every family that lies in `workbench/models`."""

import copy
import importlib
import inspect
import json

import pytest
import safetensors.torch
import torch
from conftest import spoilt

from workbench import autoencoder, models
from workbench.autoencoder import Batch
from workbench.errors import UsageError

FAMILIES = models.names()


def tiny(family, **settings):
    torch.manual_seed(0)
    module = importlib.import_module(f"workbench.models.{family}")
    return module.build(**{**module.TINY, **settings})


def batch(model, n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(model.length) / model.rate
    x = torch.exp(-t * 20) * torch.sin(2 * torch.pi * t * (100 + 400 * torch.rand(n, 1, 1, generator=generator)))
    c = torch.eye(len(model.labels))[torch.arange(n) % len(model.labels)]
    heard = torch.randn(n, 5, generator=generator)
    return Batch(0.5 * x, c, torch.arange(n), torch.ones(n), seed, heard)


def test_all_families_are_found():
    assert {"wave", "frame"} <= set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conditional", [False, True])
def test_shapes(family, conditional):
    model = tiny(family, conditional=conditional)
    b = batch(model)
    posterior = model.posterior(b.x, b.c)
    z = posterior.sample(torch.randn_like(posterior.mean))
    assert z.shape == posterior.mean.shape and z.shape[0] == 3
    assert posterior.log_prob(z).shape == (3,)
    assert model.decode(z, b.c).shape == b.x.shape
    assert model.context_spec == (("a", "b") if conditional else ())


@pytest.mark.parametrize("family", FAMILIES)
def test_each_parameter_gets_a_gradient_in_some_stage(family):
    model = tiny(family, **({"posterior": "flow"} if family == "wave" else {}))
    reached = set()
    for stage in model.stages():
        b = batch(model)
        if stage.name == "prior":
            b = Batch(model.encoder(b.x).detach(), b.c, b.index, b.gain)
        for step in range(2):  # what starts at zero hides what lies behind it for one step
            model.zero_grad()
            total = sum(stage.losses(b, step).values())
            if stage.discriminator is not None:
                total = total + stage.discriminator.loss(*stage.pair(b, step))
            total.backward()
            reached |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0 if p.grad is None else 1e-3 * p.grad.sign()
    assert reached == {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_fall_on_one_batch(family):
    model, first = tiny(family), None
    stage = model.stages()[0]
    optimiser = torch.optim.Adam([p for part in stage.trains for p in getattr(model, part).parameters()], 3e-3)
    for _ in range(30):
        losses = stage.losses(batch(model), stage.steps)
        total = sum((w(stage.steps) if callable(w) else w) * losses[k] for k, w in stage.weights.items())
        first = total.item() if first is None else first
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert total.item() < 0.98 * first


@pytest.mark.parametrize("family", ["mel", "stft", "wave"])
def test_a_perceptual_weight_brings_latents_as_near_as_sounds_are(family):
    model = tiny(family, perceptual=1.0)
    torch.nn.init.normal_(model.encoder.head.weight, std=0.05)  # at zero, all latents would be the same
    stage, found = model.stages()[0], []
    optimiser = torch.optim.Adam(model.encoder.parameters(), 3e-3)
    for _ in range(30):
        losses = stage.losses(batch(model, 8), stage.steps)
        found.append(losses["distance matching"].item())
        optimiser.zero_grad()
        (stage.weights["distance matching"] * losses["distance matching"]).backward()
        optimiser.step()
    assert found[-1] < 0.5 * found[0]
    assert "distance matching" not in tiny(family).stages()[0].weights


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load_keep_every_bit(family, tmp_path):
    model = tiny(family).eval()
    model.save(tmp_path)
    again = autoencoder.load(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"settings.json", "model.safetensors"}
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    z = model.encode(batch(model).x)
    assert torch.equal(model.render(z), again.render(z))


@pytest.mark.parametrize("family", ["wave", "mel", "wae"])
def test_a_model_of_an_earlier_version_is_loaded_under_the_names_of_today(family, tmp_path):
    model = tiny(family)
    model.save(tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    own = settings["settings"]
    own["critic"] = own.pop("discriminator")
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "version": 2}))
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    old = {name.replace("discriminator.", "critic.", 1): value for name, value in weights.items()}
    assert set(old) != set(weights)
    safetensors.torch.save_file(old, tmp_path / "model.safetensors")
    assert autoencoder.load(tmp_path).fingerprint() == model.fingerprint()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conditional", [False, True])
def test_the_deployable_decoder_is_scripted_and_equal(family, conditional):
    model = tiny(family, conditional=conditional).eval()
    b = batch(model)
    z, c = model.encode(b.x).detach(), b.c if conditional else None
    scripted = torch.jit.script(model.deployable())
    with torch.no_grad():
        torch.testing.assert_close(scripted(z, c), model.decode(z, b.c))
        torch.testing.assert_close(scripted(z[:1], None if c is None else c[:1]), model.decode(z[:1], b.c[:1]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_is_rendered_the_same_in_any_company(family):
    model = tiny(family).eval()
    z = model.encode(batch(model, 21).x).detach()
    assert torch.equal(model.render(z)[:5], model.render(z[:5]))


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_are_keyed_by_seed_and_number(family):
    model = tiny(family).eval()
    if model.prior is None:
        with pytest.raises(ValueError, match="no prior over whole clips"):
            model.sample(2)
        return
    many = model.sample(20, seed=3)
    assert many.shape == (20, 1, model.length) and torch.isfinite(many).all()
    assert torch.equal(many[:4], model.sample(4, seed=3))
    assert not torch.equal(many[:4], model.sample(4, seed=4))
    with pytest.raises(ValueError, match="no label 'gong'; it knows a, b"):
        model.sample(1, label="gong")


@pytest.mark.parametrize("family", FAMILIES)
def test_presets_build_and_unknown_settings_are_refused(family):
    module = importlib.import_module(f"workbench.models.{family}")
    assert {"tiny", "small", "base"} <= set(module.PRESETS)
    for preset in module.PRESETS:
        model = models.build(family, preset, length=4096, rate=8000, labels=("a", "b"))
        assert model.decode(model.encode(torch.zeros(1, 1, 4096))).shape == (1, 1, 4096)
    with pytest.raises(ValueError, match=r"no setting betta; it has .*batch_size"):
        tiny(family, betta=1)
    with pytest.raises(ValueError, match=r"no stage autoencod; it has autoencode"):
        tiny(family, steps={"autoencod": 1})
    with pytest.raises(ValueError, match="does not divide"):
        tiny(family, length=4100)
    with pytest.raises(ValueError, match="labels"):
        tiny(family, labels=(), conditional=True)
    with pytest.raises(
        ValueError, match="needs at least 2 labels, but the store has other; set `conditional` to false"
    ):
        tiny(family, labels=("other",), conditional=True)
    with pytest.raises(ValueError, match=r"conditional came as 'yes', and something like (True|False) was expected\.$"):
        tiny(family, conditional="yes")
    with pytest.raises(ValueError, match="no preset 'huge'; it has tiny, small, base"):
        models.build(family, "huge", length=4096, rate=8000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent": "a"}, {"latent": 0}, {"batch_size": 0}, {"flow": {"bad": 1}}, {"flow": 3}, {"beta": -1}, {"iterations": -1},
        {"encoder": [8, 0]}, {"encoder": []}, {"conditional": 1}, {"patience": 0.5}, {"steps": {"autoencode": -5}},
        {"steps": {"autoencode": 2.5}}, {"beta": float("nan")}, {"prior": 3},
    ],
)  # fmt: skip
def test_a_setting_of_another_kind_is_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        models.build("wave", "tiny", length=4096, rate=8000, labels=("a", "b"), **wrong)


def test_a_setting_within_a_mapping_leaves_the_rest_of_the_preset():
    model = models.build("wave", "tiny", length=4096, rate=8000, steps={"prior": 7})
    assert model.settings["steps"] == {"autoencode": 30, "adversarial": 4, "prior": 7}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [{"a": 1}, {}, [], "x", None, -1], ids=repr)
def test_a_value_of_any_kind_over_any_setting_of_a_preset_is_a_model_or_a_sentence(family, value):
    module = importlib.import_module(f"workbench.models.{family}")
    for name in {**module.PRESETS["tiny"], **module.DEFAULTS}:
        try:
            models.build(family, "tiny", length=4096, rate=8000, labels=("a", "b"), **{name: value})
        except UsageError as error:
            assert len(str(error)) > 20, name


def test_an_unknown_family_lists_the_known():
    with pytest.raises(ValueError, match=r"no family 'gan'; known are .*frame.*wave"):
        models.build("gan", length=4096, rate=8000)


def test_a_folder_without_a_model_or_of_another_version_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no trained model"):
        autoencoder.load(tmp_path)
    tiny("frame").save(tmp_path)
    saved = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps({**saved, "version": 0}))
    with pytest.raises(ValueError, match=f"version 0, this workbench reads 2, {autoencoder.VERSION}"):
        autoencoder.load(tmp_path)


@pytest.mark.parametrize("name", ["settings.json", "model.safetensors"])
def test_a_damaged_model_is_a_sentence_that_names_its_folder(tmp_path, name):
    tiny("frame").save(tmp_path)
    keys = (
        "version",
        "family",
        "settings",
        "settings/length",
        "settings/rate",
        "settings/labels",
        "settings/conditional",
    )
    for way in spoilt(tmp_path / name, keys):
        with pytest.raises(UsageError) as refusal:
            autoencoder.load(tmp_path)
        said = str(refusal.value)
        assert str(tmp_path) in said and ("again" in said or "train one" in said), way
    assert autoencoder.load(tmp_path).family == "frame"


def test_a_family_that_is_gone_is_named_with_those_that_are_there(tmp_path):
    tiny("frame").save(tmp_path)
    path = tmp_path / "settings.json"
    for family in ("gan", "../frame", "", "__init__"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "family": family}))
        with pytest.raises(UsageError, match=f"is of the family '{family}', and known are frame, mel"):
            autoencoder.load(tmp_path)


def test_no_family_imports_a_family():
    for family in FAMILIES:
        module = importlib.import_module(f"workbench.models.{family}")
        source = inspect.getsource(module)
        assert not [name for name in models.names() if f"workbench.models.{name}" in source], family
        assert "from workbench.models import" not in source, family


def test_no_click_ends_a_clip_of_the_wave_family():
    """Its bands are periodic: a loud attack would come out at the end, too."""
    model = tiny("wave")
    bands = torch.zeros(1, 16, model.length // 16)
    bands[..., 0] = 1.0  # an attack at the very start
    assert model.decoder.pqmf.inverse(bands)[..., -200:].abs().max() > 0.01  # the leak is there
    with torch.no_grad():
        model.decoder.out.bias[:16] = 1.0
        y = model.decode(torch.randn(4, model.latent))
    assert y[..., -512:].abs().max() == 0 and y[..., -1024:-768].abs().max() > 0.01


def test_a_broken_model_makes_no_silence_but_a_sentence(model):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        next(broken.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(UsageError, match="3 of 3 decoded sounds hold values that are no numbers"):
        broken.sample(3)


def test_a_series_of_vectors_has_each_its_part_of_the_sound():
    series = {"series": 4, "latent": 8, "encoder": (8, 8, 16), "decoder": (16, 8), "length": 16_384}
    model = tiny("wave", **series).eval()
    x = torch.randn(1, 1, model.length, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(model.encoder.head.weight, std=0.1)
    torch.nn.init.ones_(model.decoder.envelope.bias)
    z, other = model.encode(x), x.clone()
    assert z.shape == (1, 8) and model.prior.latent == 8
    other[:, :, 10_000:] = 0
    changed = (model.encode(other) - z).view(4, 2).abs().amax(1)
    assert (
        changed[:2].max() < 0.1 * changed[2:].min()
    )  # the bands are periodic: a little leaks from the end into the start
    moved = z.clone()
    moved[:, 2:4] += 1
    with torch.no_grad():
        energy = (model.decode(moved) - model.decode(z)).square().view(4, -1).sum(1)
    assert energy[1] > 0.8 * energy.sum()


def test_a_series_that_does_not_divide_is_refused():
    with pytest.raises(
        ValueError, match=r"A series of 3 was asked, which does not divide the 8 latents and the 1 frames"
    ):
        tiny("wave", series=3)
    with pytest.raises(ValueError, match="A flow posterior is of one vector, and a series of 2"):
        tiny("wave", series=2, posterior="flow")
    with pytest.raises(ValueError, match="series"):
        tiny("wave", series=0)


def test_weights_of_another_version_are_refused_by_a_sentence(tmp_path):
    tiny("frame").save(tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    settings["settings"]["hidden"] += 1
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(
        UsageError, match=r"weights in .* not those of a 'frame' model .*: another version wrote them; train it again"
    ):
        autoencoder.load(tmp_path)
