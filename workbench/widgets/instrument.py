"""The latent instrument: one sound at a time, moved by sliders and heard at once; `instrument.js` is its face."""

import itertools
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from IPython.display import HTML
from torch import Tensor

from workbench import files, plots, runs
from workbench.autoencoder import HOTTEST, Autoencoder, limited
from workbench.data import Clips, audio
from workbench.errors import UsageError
from workbench.latent import directions, means
from workbench.latent.directions import Axes
from workbench.widgets.base import Answering

__all__ = ["STARS", "Instrument", "State", "playable", "render", "starred", "stars"]

PADS, HISTORY = 8, 500
UPLOAD = 30.0  # s read of a file, in which its first clip is looked for
STARS = "stars.json"


@dataclass(frozen=True)
class State:
    """What is heard, and where the sliders stand.

    z: (1, L) · c: (1, C) label weights, or None where there are no labels · anchor: (1, L), where all sliders of `axes`
    are at zero · amounts: of each slider · start: the state that it was moved from, None where it is one · kept: how
    many principal directions are left, and the latent with all of them · at: (x, y) on the plane between four pads
    """

    z: Tensor
    c: Tensor | None
    name: str
    anchor: Tensor
    axes: str = ""
    amounts: tuple[float, ...] = ()
    start: "State | None" = None
    kept: tuple[int, Tensor] | None = None
    at: tuple[float, float] | None = None


class Instrument(Answering):
    """Play a trained model: sliders over a choice of axes, undo, a plane between sounds, eight pads.

    A sound is sent as raw samples and played by WebAudio. Nothing is kept in the notebook's widget state.

    Arguments:
        model, clips: a single-vector model and the store that it was trained on. source: its run folder, which keeps
            what was measured and what got a star. out: the folder of WAV files and packs. fidelity: share of the
            variance that the principal directions on offer hold together.
    """

    what = "The instrument"
    page = "instrument.js"

    def __init__(
        self, model: Autoencoder, clips: Clips, source: Path, out: Path, fidelity: float = 0.95, seed: int = 0
    ):
        playable(model)
        if not 0 < fidelity <= 1:
            raise UsageError(
                f"A fidelity of {fidelity} was asked; it is a share of the variance between 0 and 1, as 0.95."
            )
        self.model, self.clips, self.source, self.out = model.eval(), clips, Path(source), Path(out)
        self.z = means.posterior_means(model, clips, self.source)
        z = self.z[np.flatnonzero(clips.index.split == "train")]
        principal = directions.by_principal(z)
        self.centre, self.share = z.mean(0, keepdim=True), principal.vectors.square().sum(1).cumsum(0)
        self.share = self.share / self.share[-1]
        k = int((self.share < fidelity - 1e-6).sum()) + 1
        self.principal = principal
        offered = {
            "what the ear measures": directions.by_ear(model, clips, self.source, seed),
            "latents": directions.by_latent(model, clips, self.source, seed),
            "principal directions": Axes(principal.names[:k], principal.effects[:k], principal.vectors[:k]),
            "base space of the flow": directions.by_base(model, clips, self.source, seed),
        }
        self.axes: Mapping[str, Axes] = {
            name: axes for name, axes in offered.items() if axes is not None and axes.names
        }
        self.pads: list[State | None] = [None] * PADS
        self.history, self.place, self.gesture = [], -1, None
        self.random = np.random.default_rng(seed)
        self.seeds = itertools.count(seed)
        self.followers = weakref.WeakSet()  # widgets that `follow` each state: what shows them keeps them, not this
        self.begin(self.drawn())
        super().__init__()

    # ------------------------------------------------------------------------------------------------- the work

    @property
    def state(self) -> State:
        return self.history[self.place]

    def sound(self, state: State) -> Tensor:
        """The state decoded singly and at once, (T,); what is kept is rendered by `render`."""
        with torch.inference_mode():
            return limited(self.model.decode(state.z, state.c))[0, 0]

    def begin(self, state: State, gesture: object = None) -> State:
        """Make a state the current one; states of one gesture take each other's place in the history."""
        del self.history[self.place + 1 :]
        if gesture is not None and gesture == self.gesture:
            self.history[-1] = state
        else:
            self.history.append(state)
            del self.history[:-HISTORY]
        self.place, self.gesture = len(self.history) - 1, gesture
        return state

    def answer(self, m: dict, buffers: list[bytes], to: dict) -> None:
        match m["do"]:
            case "hello":
                self.send({"what": "setup", **self.setup(), **to})
                for i, pad in enumerate(self.pads):
                    if pad is not None:
                        self.tell(pad, to, what="pad", pad=i)
                self.tell(self.state, to, quiet=True)
            case "move":
                self.tell(self.move(m["axes"], m["amounts"], m.get("labels"), m.get("gesture")), to)
            case "draw":
                self.tell(self.begin(self.drawn(m.get("label") or None, float(m["temperature"]))), to)
            case "clip":
                clip = self.clip(None, m.get("label") or None, m.get("like") or "")
                self.tell(self.begin(clip), to)
            case "upload":
                state, said = self.upload(m["name"], buffers[0])
                self.tell(self.begin(state), to, said=said)
            case "undo" | "redo":
                self.place = min(max(self.place + (-1 if m["do"] == "undo" else 1), 0), len(self.history) - 1)
                self.gesture = None
                self.tell(self.state, to)
            case "random":
                amounts = np.array(self.amounts(m["axes"]))
                free = np.array(m["free"], int)
                if not len(free):
                    raise UsageError("All axes are locked, so nothing can move; unlock one.")
                amounts[free] += float(m["size"]) * self.random.standard_normal(len(free))
                self.tell(self.move(m["axes"], amounts.clip(-3, 3).tolist()), to)
            case "keep":
                self.tell(self.begin(self.keep(int(m["k"])), m.get("gesture")), to)
            case "plane":
                self.tell(self.begin(self.plane(m["corners"], *m["at"]), m.get("gesture")), to)
            case "start":
                self.send({"what": "start", **to}, [self.raw(self.state.start or self.state)])
            case "pad":
                self.pads[m["pad"]] = self.state
                self.tell(self.state, to, what="pad", pad=m["pad"])
            case "save":
                (x,) = render(self.model, [self.note(self.state)])
                path = audio.write(files.unused(self.out / f"{slug(self.state.name)}.wav"), x, self.model.rate)
                self.send({"what": "saved", "text": f"Saved as {path}.", "file": path.name, **to}, [path.read_bytes()])
            case "pack":
                self.send({"what": "said", "text": f"The pads lie in {self.pack()}.", **to})
            case "star":
                count = self.star(self.state)
                self.send(
                    {"what": "said", "text": f"{self.state.name} has a star; {count} in {self.source / STARS}.", **to}
                )
            case other:
                raise UsageError(f"The page asked for '{other}', which this instrument does not know; reload the page.")

    def raw(self, state: State) -> bytes:
        return self.sound(state).numpy().astype("<f4").tobytes()

    def tell(self, state: State, to: dict, what: str = "sound", **more) -> None:
        labels = state.c[0].tolist() if state.c is not None and self.model.context_spec else []
        self.send(
            {
                "what": what,
                "name": state.name,
                "axes": state.axes,
                "amounts": list(state.amounts),
                "labels": labels,
                "undo": self.place,
                "redo": len(self.history) - 1 - self.place,
                "kept": state.kept[0] if state.kept else len(self.share),
                "at": state.at,
                **more,
                **to,
            },
            [self.raw(state)],
        )
        for follower in tuple(self.followers):
            follower.follow(state)

    def setup(self) -> dict:
        return {
            "rate": self.model.rate,
            "labels": list(self.model.labels),
            "morph": list(self.model.context_spec),
            "pads": PADS,
            "axes": {name: {"names": a.names, "effects": a.effects, "note": a.note} for name, a in self.axes.items()},
            "share": [round(s, 4) for s in self.share.tolist()],
            "hottest": HOTTEST,
        }

    # ------------------------------------------------------------------------------------------------- starts

    def drawn(self, label: str | None = None, temperature: float = 1.0) -> State:
        seed = next(self.seeds)
        c = self.model.context(label, 1) if label else None
        z, c = self.model.draw(1, c, seed, temperature)
        word = label or (self.model.labels[int(c.argmax())] if c is not None else "draw")
        return State(z, c, f"{word} {seed}" + (f" at {temperature:g}" if temperature != 1 else ""), z)

    def clip(self, row: int | None = None, label: str | None = None, like: str = "") -> State:
        """A clip of the store by its row, or a random one of those with a label, and with `like` in path or name."""
        if row is None:
            row = int(self.random.choice(self.clips.named(like, label)))
        z = self.z[row : row + 1]
        c = self.model.context_of(self.clips, [row])
        return State(z, self.known(z, c), self.called(row), z)

    def called(self, row: int) -> str:
        """A clip's label and name."""
        clip = self.clips.index.iloc[row]
        return clip["name"] if clip["name"].startswith(clip.label) else f"{clip.label} {clip['name']}"

    def upload(self, name: str, data: bytes) -> tuple[State, str]:
        """A sound file: its first clip, as the store would take it in, and what of the file that leaves out."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"upload{Path(name).suffix[:8]}"
            path.write_bytes(data)
            looked = ""
            try:
                x, rate = audio.read(path, 0, UPLOAD)
                looked = f" in the first {UPLOAD:g} s, and no more is looked at" if len(x) >= UPLOAD * rate else ""
                shot = audio.shot(x, rate, self.model.length, self.model.rate)
            except audio.AudioError as error:
                raise UsageError(f"{name} cannot be played: {error}{looked}.") from None
        z = self.model.batched(self.model.encode, torch.from_numpy(shot.x)[None, None])
        lasts = self.model.length / self.model.rate
        said = f"Of {name}, {lasts:.2f} s from {shot.start:.2f} s on are played: the clip at its first sound."
        return State(z, self.known(z, None), name, z), said if len(x) / rate > shot.start + lasts + 0.1 else ""

    def known(self, z: Tensor, c: Tensor | None) -> Tensor | None:
        """The label weights c, or where they are unknown the label that the prior finds most likely; none where it has no opinion."""
        k = len(self.model.labels)
        if not k or (c is not None and c[:, :k].any()):
            return c
        rows = torch.eye(k)
        with torch.inference_mode():
            nats = [float(self.model.prior.log_prob(z, r[None])) for r in rows]
        if np.ptp(nats) < 1e-6:
            return self.model.wide(rows[:1] * 0) if c is None else c
        best = int(np.argmax(np.array(nats) + self.model.prior.frequency.clamp_min(1e-12).log().numpy()))
        return self.model.wide(rows[best : best + 1])

    # ------------------------------------------------------------------------------------------------- moves

    def amounts(self, axes: str) -> tuple[float, ...]:
        """Where the sliders of these axes stand now: at zero, unless the last move was along them."""
        return self.state.amounts if self.state.axes == axes else (0.0,) * len(self.axes[axes].names)

    def move(self, axes: str, amounts: list[float], labels: list[float] | None = None, gesture: object = None) -> State:
        now, along = self.state, self.axes[axes]
        amounts = tuple(min(max(float(a), -3.0), 3.0) if np.isfinite(a) else 0.0 for a in amounts)
        c = now.c
        if labels and self.model.context_spec:
            weights = torch.tensor([labels]).clamp_min(0)
            k = len(self.model.labels)  # a mix of labels sums to one; attributes go their own ways
            words, others = weights[:, :k], weights[:, k:]
            if words.sum() > 0:
                words = words / words.sum()
            elif c is not None:
                words = c[:, :k]
            c = torch.cat([words, others], 1)
        anchor = now.anchor if now.axes == axes or not now.axes else now.z
        return self.begin(
            replace(
                now,
                z=along.move(anchor, amounts, c),
                c=c,
                anchor=anchor,
                axes=axes,
                amounts=amounts,
                start=now.start or now,
                kept=None,
                at=None,
            ),
            gesture,
        )

    def keep(self, k: int) -> State:
        """The current sound with its first k principal directions alone, the others at the training clips' mean."""
        now = self.state
        k, whole = min(max(k, 0), len(self.share)), now.kept[1] if now.kept else now.z
        vectors = torch.nn.functional.normalize(self.principal.vectors[:k], dim=1)
        z = whole if k == len(self.share) else self.centre + (whole - self.centre) @ vectors.T @ vectors
        return replace(now, z=z, anchor=z, axes="", amounts=(), start=now.start or now, kept=(k, whole), at=None)

    def plane(self, corners: list[int], x: float, y: float) -> State:
        """Between the sounds of four pads: upper left, upper right, lower left, lower right, x and y from 0 to 1."""
        chosen = [self.pads[i] for i in corners]
        if missing := [i + 1 for i, pad in zip(corners, chosen, strict=True) if pad is None]:
            raise UsageError(f"Pad {missing[0]} is empty: put a sound on it first, or choose another corner.")
        x, y = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
        weights = torch.tensor([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y])
        z = (weights[:, None] * torch.cat([p.z for p in chosen])).sum(0, keepdim=True)
        c = None if chosen[0].c is None else (weights[:, None] * torch.cat([p.c for p in chosen])).sum(0, keepdim=True)
        return State(z, c, "between pads " + ", ".join(str(i + 1) for i in corners), z, at=(x, y))

    # ------------------------------------------------------------------------------------------------- keeping

    def note(self, state: State) -> dict:
        """What makes a sound again: `model.render` of its z and c."""
        c = None if state.c is None else state.c[0].tolist()
        return {
            "name": state.name,
            "z": state.z[0].tolist(),
            "c": c,
            "labels": list(self.model.context_spec or self.model.labels),
        }

    def pack(self) -> Path:
        """Write the pads as a sample pack: WAV files, and a JSON from which each sound can be made again."""
        filled = [(i + 1, pad) for i, pad in enumerate(self.pads) if pad is not None]
        if not filled:
            raise UsageError("All pads are empty: put a sound on one first.")
        folder = files.unused(self.out / time.strftime("pads-%Y%m%d-%H%M%S", time.gmtime()))
        notes = [{"pad": i, "file": f"{i}-{slug(pad.name)}.wav", **self.note(pad)} for i, pad in filled]
        for note, x in zip(notes, render(self.model, notes), strict=True):
            audio.write(folder / note["file"], x, self.model.rate)
        record = {
            "run": str(self.source),
            "seed": runs.read(self.source).get("seed"),
            "made": runs.now(),
            **runs.provenance(),
        }
        files.write_json(folder / "pads.json", {**record, "rate": self.model.rate, "pads": notes})
        return folder

    def star(self, state: State) -> int:
        """Remember a sound in the run's stars; returns how many there are."""
        kept = [*stars(self.source), {**self.note(state), "made": runs.now()}]
        files.write_json(self.source / STARS, kept)
        return len(kept)


def playable(model: Autoencoder) -> None:
    """Refuse a family whose clips are no single vectors."""
    if model.prior is None:
        raise UsageError(
            f"A '{model.family}' model has no single vector for a clip; play a family that has one, as 'wave'."
        )


def stars(source: Path) -> list[dict]:
    """The sounds of a run that got a star: name, z, c, labels, made."""
    path, then = Path(source) / STARS, "mend it, or delete it to begin with no stars"
    kept = files.read_json(path, list, then) if path.is_file() else []
    if not all(isinstance(star, dict) and {"name", "z", "c"} <= set(star) for star in kept):
        raise UsageError(f"{path} is damaged (a star has no name, z or c): {then}.")
    return kept


def render(model: Autoencoder, notes: list[dict]) -> np.ndarray:
    """Sounds of `stars` or of a pack's `pads.json`, made again by their model: (n, T)."""
    c = None if notes[0]["c"] is None else torch.tensor([n["c"] for n in notes])
    return model.render(torch.tensor([n["z"] for n in notes]), c)[:, 0].numpy()


def starred(source: Path, model: Autoencoder) -> HTML:
    """Players of the sounds of a run that got a star, or a sentence that none has yet."""
    if not (kept := stars(source)):
        return HTML("No sound of this run has a star yet; the notebook 5_play gives them.")
    return plots.audio_row(render(model, kept), model.rate, [star["name"] for star in kept])


def slug(name: str) -> str:
    """A name that every file system takes."""
    return "".join(ch if ch.isalnum() or ch in "-_" else "-" for ch in name if ch.isascii()).strip("-")[:60] or "sound"
