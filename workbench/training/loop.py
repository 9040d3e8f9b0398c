"""Training: a loop over the stages that a model asks for."""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.autoencoder import Autoencoder, Batch, Stage, load
from workbench.data import Clips
from workbench.files import room
from workbench.runs import Run
from workbench.training import checkpoints
from workbench.training.checkpoints import TrainingError
from workbench.training.collapse import usage
from workbench.training.log import Log, read_log

__all__ = ["TrainingError", "fit", "fit_stage", "read_log"]

HELD = 512  # clips that a validation looks at, at most: its cost stays bounded as a pack grows
WARM = 20  # steps over which the learning rate rises


def fit(
    model: Autoencoder,
    clips: Clips,
    run: Run,
    *,
    stages: Sequence[str] | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    precision: str = "32-true",
    resume: bool = False,
) -> Autoencoder:
    """Train a model through its stages and save it into the run's folder.

    Writes `log.jsonl`, TensorBoard scalars and audio, and `checkpoint.pt` at every validation and on Ctrl-C. With
    `resume` training goes on from there as if it had never stopped, to the bit on one kind of machine. A stage ends
    with the weights of its best validation, unless it has nothing to monitor.

    Arguments:
        stages: names of those to run, all by default. accelerator: "auto", "cpu", "cuda" or "mps".
        precision: "32-true" or "bf16-mixed".
    Raises UsageError for clips that do not fit the model or of which too few are held out, a checkpoint that is damaged or of
    another model, a loss that is not finite, or a weight without a loss.
    """
    model.check(clips)
    clips.trainable()
    valid = clips.split("valid")
    chosen = [stage for stage in model.stages() if stages is None or stage.name in stages]
    if unknown := set(stages or ()) - {stage.name for stage in chosen}:
        raise TrainingError(
            f"The model has no stage {', '.join(sorted(unknown))}; it has {', '.join(s.name for s in model.stages())}."
        )

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products on CUDA do not repeat
    try:
        fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"Training with accelerator '{accelerator}' and precision '{precision}' is not possible here ({error}); "
            "'auto' and '32-true' work everywhere."
        ) from None
    model.to(fabric.device)
    checkpoint = run.path("checkpoint.pt")
    made = checkpoints.made_of(model, clips)
    state = checkpoints.read(checkpoint, made, fabric.device) if resume and checkpoint.exists() else None
    if resume and state is None and run.path("model.safetensors").exists():
        before = load(run.folder)
        kept = checkpoints.made_of(before, clips)
        checkpoints.agreed(run.folder, kept, {name: made[name] for name in kept})
        print("This run had finished before; its model is kept. To train anew, replace the run.")
        model.load_state_dict(before.state_dict())
        return model.to("cpu").eval()
    done = list(state["done"]) if state else []
    if state:
        try:
            model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise checkpoints.damaged(checkpoint, error) from None
    with (
        room(run.folder, "resume: the last checkpoint is kept"),
        Log(run, state) as log,
        deterministic(fabric.device),
    ):
        for stage in chosen:
            if stage.name in done:
                continue
            here = state if state and state["progress"] and state["progress"]["stage"] == stage.name else None
            fit_stage(
                model,
                stage,
                clips,
                seed,
                fabric,
                log,
                lambda now: checkpoints.write(checkpoint, {**now, "done": done, "made of": made}),
                here,
            )
            done.append(stage.name)
            checkpoints.write(
                checkpoint, {"model": model.state_dict(), "done": done, "progress": None, "made of": made}
            )
            if "encoder" in stage.trains:
                log.usage(stage, usage(model, valid))
            log.hear(stage, model, valid)
        model.to("cpu").eval().save(run.folder)
    checkpoint.unlink(missing_ok=True)
    return model


def fit_stage(
    model: Autoencoder,
    stage: Stage,
    clips: Clips,
    seed: int = 0,
    fabric: Fabric | None = None,
    log: Log | None = None,
    keep: Callable[[dict], None] | None = None,
    state: dict | None = None,
) -> None:
    """Train one stage; without `log` and `keep` nothing is printed or written, without `fabric` it runs on the CPU.

    Arguments:
        keep: takes what resuming needs, at each validation and on Ctrl-C. state: what it took, to go on from there.
    """
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    train, valid = clips.split("train"), clips.split("valid")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tables = [stage.prepare(part, part is train) if stage.prepare else None for part in (train, valid)]
        if stage.steps:
            measured = [part.measured(train) for part in (train, valid)]
            data = Data(train, model, tables[0], measured[0], seed)
            held = Data(valid, model, tables[1], measured[1], seed, HELD)
            Loop(fabric, model, stage, data, held, log).run(keep, seed, state)


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU the same training twice needs slower kernels; a CPU with as many threads repeats itself."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cuda", warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class Patience:
    """Within this block Ctrl-C waits for the step to end, so that what is saved is whole; a second one does not wait."""

    def __enter__(self) -> "Patience":
        self.asked, self.main = False, threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = signal.signal(signal.SIGINT, self.ask)
        return self

    def __exit__(self, *_) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.before)

    def ask(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class Data:
    """Clips as batches; the order of each pass is a function of (seed, pass) alone.

    descriptors: acoustic descriptors of the clips, in standard deviations of the training clips, (n, D).
    """

    def __init__(
        self,
        clips: Clips,
        model: Autoencoder,
        cached: Tensor | None,
        descriptors: np.ndarray,
        seed: int,
        most: int | None = None,
    ):
        self.rows = (
            np.arange(len(clips))
            if most is None or len(clips) <= most
            else np.linspace(0, len(clips) - 1, most).astype(int)
        )
        self.clips, self.cached, self.seed = clips, cached, seed
        self.context = model.context_of(clips)
        self.index = torch.tensor(clips.index["clip"].to_numpy(np.int64))
        self.gain = torch.tensor(clips.index["gain"].to_numpy(np.float32))
        self.descriptors = torch.from_numpy(descriptors.astype(np.float32))

    def batch(self, rows: np.ndarray) -> Batch:
        x = torch.from_numpy(self.clips.audio(rows))[:, None] if self.cached is None else self.cached[rows]
        c = None if self.context is None else self.context[rows]
        return Batch(x, c, self.index[rows], self.gain[rows], self.seed, self.descriptors[rows])

    def training(self, step: int, size: int) -> Batch:
        """Batch number `step` of an endless shuffled stream."""
        size = min(size, len(self.rows))
        epoch, part = divmod(step, len(self.rows) // size)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        return self.batch(np.sort(order[part * size : (part + 1) * size]))

    def all(self, size: int) -> Iterator[Batch]:
        for i in range(0, len(self.rows), size):
            yield self.batch(self.rows[i : i + size])


class Step(nn.Module):
    """The one module that Fabric wraps for a stage: `forward` runs its losses, so that Fabric's hooks see the step."""

    def __init__(self, model: Autoencoder, stage: Stage):
        super().__init__()
        self.model, self.stage = model, stage

    def forward(self, batch: Batch, step: int, judge: bool = False) -> dict[str, Tensor]:
        if not judge:
            return self.stage.losses(batch, step)
        with torch.no_grad():
            real, fake = self.stage.pair(batch, step)
        return {"discriminator": self.stage.discriminator.loss(real, fake)}


@dataclass
class Progress:
    """Where a stage stands: with weights and optimisers, all that resuming needs."""

    stage: str
    step: int = 0
    best: float = math.inf
    worse: int = 0  # validations since the best
    weights: dict[str, Tensor] = field(default_factory=dict)  # of what the stage trains, at the best


class Loop:
    """One stage of training."""

    def __init__(self, fabric: Fabric, model: Autoencoder, stage: Stage, data: Data, held: Data, log: Log | None):
        self.fabric, self.model, self.stage, self.data, self.held, self.log = fabric, model, stage, data, held, log
        for name, part in model.named_children():
            part.requires_grad_(name in stage.trains).train(name in stage.trains)
        parts = [[p for p in model.parameters() if p.requires_grad]]
        if stage.discriminator is not None:
            parts.append(list(stage.discriminator.parameters()))
        optimisers = [torch.optim.AdamW(p, stage.lr, stage.betas, weight_decay=stage.weight_decay) for p in parts]
        self.module, *self.optimisers = fabric.setup(Step(model, stage), *optimisers)
        self.at, self.judged = Progress(stage.name), {}  # where it stands, and the discriminator's last loss

    def run(self, keep: Callable[[dict], None] | None, seed: int, state: dict | None) -> None:
        stage, at = self.stage, self.at
        if state is not None:
            self.model.load_state_dict(state["model"])  # `prepare` may have begun anew
            try:
                for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                    optimiser.load_state_dict(saved)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise checkpoints.damaged(f"The state of the optimisers in stage '{stage.name}'", error) from None
            vars(at).update(state["progress"])
        else:
            self.validate()
        every = max(1, stage.steps // stage.validations)
        bar = tqdm(total=stage.steps, initial=at.step, desc=stage.name, mininterval=1.0, disable=self.log is None)
        try:
            while at.step < stage.steps and not (stage.patience is not None and at.worse > stage.patience):
                torch.manual_seed(seed + 1_000_003 * at.step)  # of dropout: resuming must find it again
                with Patience() as patience:
                    self.step()
                    bar.update()
                    if at.step % every == 0 or at.step == stage.steps:
                        self.validate()
                        if keep:
                            keep(self.state())
                if patience.asked:
                    if keep:
                        keep(self.state())
                    print(
                        f"Stopped in stage '{stage.name}' after {at.step} of {stage.steps} steps; resume to go on from there."
                    )
                    raise KeyboardInterrupt
        finally:
            bar.close()
        self.model.load_state_dict(at.weights, strict=False)
        self.model.requires_grad_(True).eval()

    def step(self) -> None:
        stage, step = self.stage, self.at.step
        # A short warm-up, then half a cosine down to nothing.
        rate = stage.lr * min(1.0, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        for group in (g for o in self.optimisers for g in o.param_groups):
            group["lr"] = rate
        batch = self.data.training(step, stage.batch_size).to(self.fabric.device)
        if stage.discriminator is not None and step % stage.discriminator_every == 0:
            stage.discriminator.requires_grad_(True)
            judged = self.module(batch, step, judge=True)
            self.descend(judged["discriminator"], self.optimisers[1])
            self.judged = judged
            stage.discriminator.requires_grad_(False)
        losses = self.module(batch, step)
        losses["total"] = self.total(losses, step)
        losses["gradient"] = self.descend(losses["total"], self.optimisers[0])
        self.at.step += 1
        if self.log and (self.at.step % 10 == 0 or self.at.step == stage.steps):
            self.log.write(stage, self.at.step, "train", self.judged | losses)

    def total(self, losses: dict[str, Tensor], step: int) -> Tensor:
        if extra := set(self.stage.weights) - set(losses):
            raise TrainingError(
                f"The stage '{self.stage.name}' weighs {', '.join(sorted(extra))}, but its losses are {', '.join(losses)}."
            )
        for name, value in losses.items():
            if not torch.isfinite(value):
                raise TrainingError(
                    f"The loss '{name}' is {value.item()} at step {step} of stage '{self.stage.name}'; lower the learning rate or "
                    f"`beta` and resume from the last checkpoint."
                )
        weights = {name: w(step) if callable(w) else w for name, w in self.stage.weights.items()}
        return sum(w * losses[name] for name, w in weights.items())

    def descend(self, loss: Tensor, optimiser) -> Tensor:
        optimiser.zero_grad()
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.module, optimiser, max_norm=self.stage.clip_gradient, error_if_nonfinite=False
        )
        optimiser.step()
        return norm

    @torch.no_grad()
    def validate(self) -> None:
        """Mean losses over the held-out clips, with the last step's weights and the same noise each time."""
        stage, at, sums, n = self.stage, self.at, {}, 0
        self.model.eval()
        for batch in self.held.all(stage.batch_size):
            losses = self.module(batch.to(self.fabric.device), stage.steps)
            losses["total"] = self.total(losses, stage.steps)
            n += len(batch.index)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(batch.index)
        means = {name: value / n for name, value in sums.items()}
        if self.log:
            self.log.write(stage, at.step, "valid", means)
        value = -at.step if stage.monitor is None else means[stage.monitor]  # without one, the last is the best
        at.worse = 0 if value < at.best else at.worse + 1
        if at.worse == 0:
            at.best = value
            at.weights = {
                k: v.detach().clone() for k, v in self.model.state_dict().items() if k.split(".")[0] in stage.trains
            }
        for name, part in self.model.named_children():
            part.train(name in stage.trains)

    def state(self) -> dict:
        optimisers = [o.state_dict() for o in self.optimisers]
        return {"model": self.model.state_dict(), "optimisers": optimisers, "progress": vars(self.at)}
