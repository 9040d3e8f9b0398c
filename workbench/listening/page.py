"""The sheet of a listening test: what a listener sees; `page.js` is its face. And tests made of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workbench import listening, runs
from workbench.errors import UsageError
from workbench.widgets.base import Answering

__all__ = ["Sheet", "from_runs", "named"]


@dataclass
class Sitting:
    """A page with a session: its seat (the same over a reload), the practice that is ahead, and the trial on the page."""

    session: str
    seat: str
    practice: list[tuple[int, list[int]]]
    trial: int = 0
    shown: Sequence[int] = ()
    place: Mapping = field(default_factory=dict)


class Sheet(Answering):
    """A listener's page: consent, a code, practice, then one trial after another, until all have a vote.

    A page gets sounds and how many there are, and neither names of files nor of systems.
    """

    what = "The sheet of the listening test"
    command = "workbench listen TEST"
    page, style = "page.js", "page.css"

    def __init__(self, folder):
        self.test = listening.Test(folder)
        self.sittings: dict[str, Sitting] = {}
        super().__init__()

    def answer(self, m: dict, buffers: list[bytes], to: dict) -> None:
        page, test = str(to["tab"]), self.test
        match m["do"]:
            case "hello":
                kind = test.kind
                about = dict(kind=kind.name, low=kind.low, high=kind.high, question=kind.question, rate=test.rate)
                self.send({"what": "setup", "consent": test.record["consent"], **about, **to})
            case "begin":
                code = test.begin(m["seat"])
                self.sittings[page] = Sitting(code, m["seat"], test.practice(code))
                self.next(page, to)
            case "resume":
                code = str(m["code"]).strip().lower()
                test.hold(code, m["seat"])
                begun = len(test.left(code)) < len(test.rated)
                self.sittings[page] = Sitting(code, m["seat"], [] if begun else test.practice(code))
                self.next(page, to)
            case "hold":
                test.hold(self.sitting(page).session, self.sitting(page).seat)
                self.send({"what": "held", **to})
            case "leave":
                test.leave(self.sitting(page).session, self.sitting(page).seat)
            case "vote":
                now = self.sitting(page)
                if (m["practice"], m["number"]) == (now.place["practice"], now.place["number"]):
                    self.vote(now, m["scores"])
                self.next(page, to)  # a second press that came before the next trial is no vote on that
            case other:
                raise UsageError(f"The page asked for '{other}', which this sheet does not know; reload the page.")

    def sitting(self, page: str) -> Sitting:
        if page not in self.sittings:
            raise UsageError("This page has no session any more: reload it, and go on with your code.")
        return self.sittings[page]

    def vote(self, now: Sitting, scores: Sequence[int]) -> None:
        """Scores in the order in which the page shows the stimuli; those of practice are forgotten."""
        if len(scores) != len(now.shown):
            raise UsageError(
                f"{len(scores)} scores came for {len(now.shown)} sounds: reload the page, and go on with your code."
            )
        if now.practice:
            del now.practice[0]
        else:
            placed = dict(zip(now.shown, scores, strict=True))
            self.test.vote(now.session, now.seat, now.trial, [placed[i] for i in range(len(placed))])

    def next(self, page: str, to: dict) -> None:
        """Send the page what comes next."""
        now, test = self.sitting(page), self.test
        if not (left := test.left(now.session)):
            self.send({"what": "end", "code": now.session, **to})
            return
        part, ahead = (test.training, now.practice) if now.practice else (test.rated, left)
        now.trial, now.shown = ahead[0]
        now.place = {"practice": part is test.training, "number": len(part) - len(ahead), "of": len(part)}
        stimuli = part[now.trial]
        heard = ([stimuli[0]] if test.kind.together else []) + [
            stimuli[i] for i in now.shown
        ]  # the open reference is first
        sounds = [test.sound(i).astype("<f4").tobytes() for i in heard]
        self.send({"what": "trial", "code": now.session, **now.place, **to}, sounds)


def named(sources: Sequence[Path]) -> list[str]:
    """Names of run folders, as short as they can be told apart by."""
    for parts in range(1, 1 + max(len(source.parts) for source in sources)):
        names = ["/".join(source.parts[-parts:]) for source in sources]
        if len(set(names)) == len(names):
            return names
    raise UsageError(f"A run was given twice ({', '.join(map(str, sources))}): give each once.")


def from_runs(folder, sources: Sequence, kind: str = "acr", clips: int = 12, training: int = 3, seed: int = 0) -> Path:
    """Prepare a test of trained runs (none: the newest): for "acr" their draws, for "mushra" their reconstructions.

    Held-out clips of as many labels as there are, the same for all runs, are the hidden real ones, and draws are asked of
    their labels. UsageError where the runs do not fit together, or nothing can be drawn of one.
    """
    import torch

    from workbench.trained import open_run  # here, as a listener's page must not wait for torch

    if kind not in listening.KINDS:
        raise UsageError(f"A test of the kind '{kind}' was asked; there are {', '.join(listening.KINDS)}.")
    places = [runs.locate(source) for source in sources] or [runs.newest()]
    names = named(places)
    opened = [open_run(place) for place in places]
    first, store = opened[0]
    for name, (model, there) in zip(names, opened, strict=True):
        if (model.rate, model.length) != (first.rate, first.length):
            raise UsageError(
                f"{name} makes {model.length:,} values at {model.rate:,} Hz and {names[0]} {first.length:,} at {first.rate:,} Hz, so "
                "length or treble would tell them apart: compare runs of one length and rate."
            )
        if there.fingerprint != store.fingerprint:
            raise UsageError(
                f"{name} was trained on {there.store} and {names[0]} on {store.store}, so one may have heard what is held out from the "
                "other: compare runs of one store."
            )
        if kind == "acr" and model.prior is None:
            raise UsageError(
                f"{name} is of the family '{model.family}', which has no prior to draw from, so there is nothing to give an opinion "
                "of: its reconstructions can be rated by the kind 'mushra'."
            )
    held = store.split("test")
    rows = held.some(len(held), seed)
    if store.labels:
        rows = rows[held.context(rows).any(1)]
    if len(rows) < clips + training:
        raise UsageError(
            f"{clips} clips and {training} for practice were asked, and there are {len(rows)} held-out clips: lower the numbers, or add clips."
        )
    rows = rows[: clips + training]
    real, labels = held.audio(rows), torch.from_numpy(held.context(rows))
    systems = {}
    for name, (model, _) in zip(names, opened, strict=True):
        if kind == "acr":
            y = model.sample(len(rows), labels if model.labels else None, seed)
        else:
            z = model.batched(model.encode, torch.from_numpy(real)[:, None])
            y = model.render(z, model.context_of(held, rows))
        systems[name] = y[:, 0].numpy()
    made = {n: {"data": runs.read(p)["data"], "started": runs.read(p).get("started"), "model": m.fingerprint()}
            for n, p, (m, _) in zip(names, places, opened, strict=True)}  # fmt: skip
    source = {
        "runs": made,
        "clips": held.index.path.iloc[rows].tolist(),
        "labels": held.index.label.iloc[rows].tolist(),
    }
    return listening.prepare(
        folder,
        np.asarray(real),
        systems,
        store.rate,
        kind,
        training,
        seed,
        source=source,
        shareable=store.manifest["shareable"],
    )
