"""What a training tells as it goes: `log.jsonl`, TensorBoard, and printed lines."""

import contextlib
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from workbench.autoencoder import Autoencoder, Stage
from workbench.data import Clips
from workbench.errors import UsageError
from workbench.runs import Run

__all__ = ["Log", "read_log"]


class Log(contextlib.AbstractContextManager):
    """`log.jsonl`, the same for TensorBoard, and a printed line at each validation."""

    def __init__(self, run: Run, state: dict | None):
        from torch.utils.tensorboard import SummaryWriter

        path, lines = run.path("log.jsonl"), []
        if state is not None and path.exists():  # a killed training has written on after its last checkpoint
            reached = dict.fromkeys(state["done"], math.inf)
            if state["progress"]:
                reached[state["progress"]["stage"]] = state["progress"]["step"]
            lines = [json.dumps(row) + "\n" for row in whole(path) if row["step"] <= reached.get(row["stage"], -1)]
        path.write_text("".join(lines))
        self.run, self.board = run, SummaryWriter(str(run.path("tensorboard")))
        self.file = open(path, "a")  # noqa: SIM115, closed on exit

    def __exit__(self, *_) -> None:
        self.file.close()
        self.board.close()

    def write(self, stage: Stage, step: int, split: str, values: dict) -> None:
        values = {name: float(torch.as_tensor(v).detach()) for name, v in values.items()}
        print(json.dumps({"stage": stage.name, "step": step, "split": split, **values}), file=self.file, flush=True)
        for name, value in values.items():
            self.board.add_scalar(f"{stage.name}/{name}/{split}", value, step)
        if split == "valid":
            print(
                f"{stage.name} {step}/{stage.steps}  "
                + "  ".join(f"{name} {value:.4g}" for name, value in values.items()),
                flush=True,
            )

    def usage(self, stage: Stage, found) -> None:
        values = {"rise": found.rise, "active": found.active, "kl": found.nats}
        self.write(stage, stage.steps, "usage", values)
        self.run.note(usage=values | {"alarm": found.alarm, "kl_per_dimension": found.kl.round(4).tolist()})
        print(found, flush=True)

    def hear(self, stage: Stage, model: Autoencoder, held: Clips) -> None:
        x = torch.from_numpy(held.audio(np.arange(min(4, len(held)))))[:, None]
        c = model.context_of(held, slice(len(x)))
        sounds = {"original": x, "reconstruction": model.render(model.batched(model.encode, x), c)}
        if model.prior is not None and stage.name == "prior":
            sounds["draw"] = model.sample(4)
        for name, clips in sounds.items():
            for i, clip in enumerate(clips):
                self.board.add_audio(f"{stage.name}/{name}/{i}", clip, 0, sample_rate=model.rate)


def whole(path) -> list[dict]:
    """The lines of a log that are whole; a machine that went down leaves the last one torn."""
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            rows.append({**row, "stage": str(row["stage"]), "step": int(row["step"]), "split": str(row["split"])})
    return rows


def read_log(path) -> pd.DataFrame:
    """`log.jsonl` as one row per number: stage, step, split ("train", "valid" or "usage"), name, value."""
    path = Path(path)
    rows = whole(path) if path.is_file() else []
    if not rows:
        raise UsageError(
            f"{path} is missing or holds no line that can be read: bring back a whole copy, or train again."
        )
    table = pd.DataFrame(rows)
    return (
        table.melt(["stage", "step", "split"], var_name="name", value_name="value")
        .dropna(subset="value")
        .reset_index(drop=True)
    )
