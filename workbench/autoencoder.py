"""The contract that every family keeps: Autoencoder, Stage, Batch; save and load."""

import abc
import copy
import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from workbench import saved
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.files import whole, write_json
from workbench.nn.discriminators import Discriminator
from workbench.nn.noise import keyed_noise
from workbench.nn.posteriors import Posterior
from workbench.nn.priors import Prior
from workbench.saved import VERSION

__all__ = ["HOTTEST", "VERSION", "Autoencoder", "Batch", "Schedule", "Stage", "limited", "load", "ramp"]

KNEE = 0.8  # rendered values beyond it are rounded off towards 1, not cut
RENDER = 16  # clips a batch when sound is made to be kept: one size, so that a clip is the same in any company
HOTTEST = 3.0  # the highest temperature of a draw, in all places that take one

Schedule = Callable[[int], float]


def ramp(target: float, steps: int, start: float = 0.0) -> Schedule:
    """A weight that rises linearly from `start` to `target` over the first `steps` steps."""
    return lambda step: target if step >= steps else start + (target - start) * step / steps


class Batch:
    """Clips on their way through a training step; a plain class, as Fabric would round a tuple's values to bf16.

    x: (B, 1, T) clips in [-1, 1], or what the stage's `prepare` made of them · c: (B, C) context or None ·
    index: (B,) numbers of the clips in their store · gain: (B,) what normalisation removed · seed: of the run ·
    descriptors: (B, D) acoustic descriptors, `descriptors.NAMES`, in standard deviations of the training clips
    """

    def __init__(
        self, x: Tensor, c: Tensor | None, index: Tensor, gain: Tensor, seed: int = 0, descriptors: Tensor | None = None
    ):
        self.x, self.c, self.index, self.gain, self.seed, self.descriptors = x, c, index, gain, seed, descriptors

    def noise(self, step: int, *size: int) -> Tensor:
        """Standard normal (B, *size), keyed by (seed, step, clip): the same whatever the batch's company."""
        return keyed_noise([self.seed, step], self.index.tolist(), *size).to(self.x.device)

    def to(self, device: torch.device) -> "Batch":
        c, d = (None if v is None else v.to(device) for v in (self.c, self.descriptors))
        return Batch(self.x.to(device), c, self.index.to(device), self.gain.to(device), self.seed, d)


@dataclass(frozen=True)
class Stage:
    """One part of training: what it minimises, and which submodules may change.

    losses: (batch, step) -> named, unweighted scalars · weights: of each loss, numbers or schedules of the step ·
    trains: submodules with gradients; the rest is frozen and in eval mode · prepare: called as (training clips, True)
    and then (validation clips, False); what it returns (N, ...) takes the place of the audio in `Batch.x` · pair: what
    the discriminator compares, (real, fake) · monitor: the held-out loss whose best weights are kept, None to keep the last ·
    patience: validations without improvement before the stage ends, None for never · healthy: where held-out losses of
    a good run end up, for the eye
    """

    name: str
    steps: int
    losses: Callable[[Batch, int], dict[str, Tensor]]
    weights: Mapping[str, float | Schedule]
    trains: tuple[str, ...]
    lr: float = 1e-3
    betas: tuple[float, float] = (0.8, 0.99)
    weight_decay: float = 0.0
    batch_size: int = 16
    clip_gradient: float = 1.0
    monitor: str | None = "total"
    validations: int = 10
    patience: int | None = None
    prepare: Callable[[Clips, bool], Tensor | None] | None = None
    discriminator: Discriminator | None = None
    discriminator_every: int = 1
    pair: Callable[[Batch, int], tuple[Tensor, Tensor]] | None = None
    healthy: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Autoencoder(nn.Module, abc.ABC):
    """A variational autoencoder of whole clips.

    A family sets `encoder`: (B, 1, T) -> features (B, H) or (B, H, N), `decoder`: (z, c) -> (B, 1, T), and `prior`,
    which is None where there is no law of a whole clip's latent to draw from; where that is a series, also `hop`, the values
    from one latent to the next.

    Arguments:
        settings: what `build` was called with, kept so that a saved model can be built again. `length` (T, values),
            `rate` (Hz), `labels` (what the columns of the prior's context mean) and `conditional` (does the decoder
            see the label too?) are common to all families. A decoder whose family has the setting `attributes` (words of
            `Clips.attributes`) sees these too, in columns after the labels.
    """

    encoder: nn.Module
    decoder: nn.Module
    prior: Prior | None
    hop: int | None = None

    def __init__(self, settings: Mapping):
        super().__init__()
        self.prior = None
        self.settings = dict(settings)
        self.length, self.rate = int(settings["length"]), int(settings["rate"])
        self.labels = tuple(settings["labels"])
        self.context_spec = self.labels + tuple(settings.get("attributes", ())) if settings["conditional"] else ()
        if settings["conditional"] and len(self.context_spec) < 2:
            known = ", ".join(self.context_spec) or "none"
            raise UsageError(
                f"A conditional decoder needs at least 2 labels, but the store has {known}; set `conditional` to false, or label the clips."
            )

    @property
    def family(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @property
    def context_kinds(self) -> list[str]:
        """What each column of the decoder's context answers: "" for labels, "octave" for "octave: 3" """
        known = len(self.labels)
        return ["" if i < known else word.partition(": ")[0] for i, word in enumerate(self.context_spec)]

    @abc.abstractmethod
    def posterior_of(self, h: Tensor, c: Tensor | None = None) -> Posterior:
        """q(z | x) from the encoder's features."""

    @abc.abstractmethod
    def stages(self) -> tuple[Stage, ...]: ...

    def posterior(self, x: Tensor, c: Tensor | None = None) -> Posterior:
        return self.posterior_of(self.encoder(x), c)

    def encode(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, 1, T) -> posterior mean (B, L) or (B, L, N)"""
        return self.posterior(x, c).mean

    def decode(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z -> (B, 1, T); c (B, C) counts only where the decoder is conditional, and may end after the labels."""
        return self.decoder(z, self.wide(c) if self.context_spec else None)

    def wide(self, c: Tensor | None) -> Tensor | None:
        """A context (B, C) with all columns that the decoder has: zeros, not known, for those after its end."""
        more = len(self.context_spec or self.labels) - (0 if c is None else c.shape[1])
        return c if c is None or more <= 0 else nn.functional.pad(c, (0, more))

    def check(self, clips: Clips) -> None:
        """Refuse clips of another length, rate or other labels than the model was made for."""
        saved.fits(clips, self.length, self.rate, self.labels)

    # ------------------------------------------------------------------- whole corpora, in batches of one fixed size

    def batched(self, f: Callable[..., Tensor], *rows: Tensor | None) -> Tensor:
        """f over rows in padded batches of RENDER: the same numbers for a row in any company, without gradients."""
        out, n = [], len(rows[0])
        training, device = self.training, next(self.parameters()).device
        self.eval()
        with torch.inference_mode():
            for i in range(0, n, RENDER):
                part = [None if r is None else torch.as_tensor(r[i : i + RENDER]).to(device) for r in rows]
                part = [
                    None if p is None else torch.cat([p, p[:1].expand(RENDER - len(p), *p.shape[1:])]) for p in part
                ]
                out.append(f(*part)[: n - i].cpu())
        self.train(training)
        return torch.cat(out).clone()

    def features(self, clips: Clips) -> Tensor:
        """The encoder's features of every clip, (N, H)."""
        parts = [
            self.batched(self.encoder, torch.from_numpy(clips.audio(slice(i, i + RENDER)))[:, None])
            for i in range(0, len(clips), RENDER)
        ]
        return torch.cat(parts)

    def latents(self, clips: Clips) -> Tensor:
        """The posterior mean of every clip, (N, L)."""
        return self.batched(lambda h: self.posterior_of(h).mean, self.features(clips))

    def render(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Sound to be kept: z (n, L) -> (n, 1, T) on the CPU, the same to the bit for a row in any company."""
        return limited(self.batched(self.decode, z, c))

    # ------------------------------------------------------------------------------------------------- new sounds

    def context_of(self, clips: Clips, rows: slice | Sequence[int] | None = None) -> Tensor | None:
        """What the store knows of clips that this model takes in, (n, C); None for a model without labels."""
        spec = self.context_spec or self.labels
        return torch.from_numpy(clips.context(rows, spec)) if spec else None

    def context(self, label: str, n: int, attributes: Sequence[str] = ()) -> Tensor:
        """n rows of the context that means `label` and these attributes, (n, C)."""
        if label not in self.labels:
            known = ", ".join(self.labels) or "none: it was trained without labels"
            raise UsageError(f"The model knows no label '{label}'; it knows {known}.")
        spec = self.context_spec or self.labels
        if unknown := set(attributes) - set(spec):
            known = ", ".join(spec[len(self.labels) :]) or "none"
            raise UsageError(f"The decoder knows no attribute {', '.join(sorted(unknown))}; it knows {known}.")
        c = torch.zeros(n, len(spec))
        c[:, [spec.index(word) for word in (label, *attributes)]] = 1
        return c

    def draw(
        self, n: int, c: Tensor | None = None, seed: int = 0, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """Latents from the prior, (n, L), and the context they belong to; without c, labels are drawn as well."""
        if n < 1 or seed < 0:
            raise UsageError(f"{n} clips of seed {seed} were asked; ask for at least 1, of a seed from 0 on.")
        if not 0 <= temperature <= HOTTEST:
            raise UsageError(
                f"A temperature of {temperature:g} was asked; it scales the noise, from 0 (typical) to {HOTTEST:g} (wild)."
            )
        if self.prior is None:
            raise UsageError(
                f"A '{self.family}' model has no prior over whole clips, so nothing can be drawn; use a single-vector family."
            )
        c = self.wide(self.prior.labels(n, seed) if c is None else c)
        with torch.inference_mode():
            return self.prior.sample(n, c, seed, temperature).clone(), c

    def sample(
        self, n: int, c: Tensor | None = None, seed: int = 0, temperature: float = 1.0, label: str | None = None
    ) -> Tensor:
        """n new clips (n, 1, T); clip i is a function of (seed, i), whatever n.

        Arguments:
            c: context (n, C), or `label`, one word for all; without either the labels are drawn too.
            temperature: scales the noise: below 1 closer to the typical sound, above 1 stranger.
        """
        return self.render(*self.draw(n, self.context(label, n) if label else c, seed, temperature))

    # -------------------------------------------------------------------------------------------------------- files

    def fingerprint(self) -> str:
        """A hash of every weight, by which what was computed with this model can be told from what was not."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write `settings.json` and `model.safetensors` into a folder, the weights last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / saved.SETTINGS, {"version": VERSION, "family": self.family, "settings": self.settings})
        with whole(folder / saved.WEIGHTS) as part:
            safetensors.torch.save_file({k: v.contiguous() for k, v in self.state_dict().items()}, part)

    def deployable(self) -> nn.Module:
        """The decoder alone, z (B, L), c (B, C) or None -> (B, 1, T), ready for `torch.jit.script`."""
        decoder = copy.deepcopy(self.decoder).cpu().eval()
        for module in decoder.modules():
            if parametrize.is_parametrized(module):
                for name in list(module.parametrizations):
                    parametrize.remove_parametrizations(module, name)
        return decoder

    def prior_stage(self, steps: int, features: tuple[Tensor, Tensor] | None = None, draws: int = 4) -> Stage:
        """The stage in which the prior learns the aggregate posterior, with encoder and decoder frozen.

        A prior of closed form is fitted on `draws` of q for each clip; a flow goes on from there by gradient, on
        fresh draws of q (fitting the means alone would learn the training clips by heart). `features` of the training
        and validation clips save encoding them again.
        """

        def prepare(clips: Clips, training: bool) -> Tensor:
            h = self.features(clips) if features is None else features[0 if training else 1]
            if training:
                k = torch.arange(len(h)).repeat(draws)  # clip by clip, and the same again
                noise = keyed_noise([0, 7], range(len(k)), *self.latent_shape(h))
                z = self.batched(lambda f, e: self.posterior_of(f).sample(e), h[k], noise)
                c = torch.from_numpy(clips.context()) if self.prior.contexts else None
                self.prior.fit(z.to(self.prior.frequency), None if c is None else c[k].to(self.prior.frequency), draws)
            return h

        def losses(batch: Batch, step: int) -> dict[str, Tensor]:
            with torch.autocast(batch.x.device.type, enabled=False):  # a density in half precision is none
                with torch.no_grad():
                    z = self.posterior_of(batch.x).sample(batch.noise(step, *self.latent_shape(batch.x)))
                return {"nll": -self.prior.log_prob(z, batch.c if self.prior.contexts else None).mean()}

        closed = next(self.prior.parameters(), None) is None
        return Stage(
            "prior",
            0 if closed else steps,
            losses,
            {"nll": 1.0},
            ("prior",),
            lr=5e-4,
            weight_decay=1e-4,
            batch_size=256,
            validations=max(steps // 50, 2),
            patience=5,
            prepare=prepare,
            healthy={"nll": (0.4 * self.prior.latent, 1.4 * self.prior.latent)},
        )

    def latent_shape(self, h: Tensor) -> tuple[int, ...]:
        return tuple(self.posterior_of(h[:1].to(next(self.parameters()).device)).mean.shape[1:])


def limited(x: Tensor) -> Tensor:
    """Values beyond KNEE rounded off towards 1; UsageError for what is no number."""
    if not (finite := x.isfinite().flatten(1).all(1)).all():
        raise UsageError(
            f"{int((~finite).sum())} of {len(x)} decoded sounds hold values that are no numbers, so the model is broken, or its "
            "latent lies beyond all reason: train it again, or take a lower temperature."
        )
    return torch.where(x.abs() > KNEE, x.sign() * (KNEE + (1 - KNEE) * torch.tanh((x.abs() - KNEE) / (1 - KNEE))), x)


def load(folder: Path) -> Autoencoder:
    """The model that `save` wrote, in eval mode on the CPU; nothing in the folder is executed."""
    folder, what = Path(folder), saved.read(folder)
    family = importlib.import_module(f"workbench.models.{what.family}")
    try:
        model = family.build(**what.settings)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(
            f"{folder / saved.SETTINGS} makes no '{what.family}' model ({error}): it was altered, or another version wrote it; "
            "train the model again."
        ) from error
    try:
        weights = safetensors.torch.load_file(folder / saved.WEIGHTS)
        parts = {name: name.partition(".") for name in weights}
        model.load_state_dict(
            {what.renamed.get(part, part) + dot + rest: weights[name] for name, (part, dot, rest) in parts.items()}
        )
    except (RuntimeError, safetensors.SafetensorError) as error:
        said = str(error).splitlines()[:2][-1].strip()
        raise UsageError(
            f"The weights in {folder} are not those of a '{model.family}' model as this workbench builds it ({said}): "
            "another version wrote them; train it again."
        ) from None
    return model.eval()
