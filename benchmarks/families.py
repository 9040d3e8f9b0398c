"""Every family on one store: numbers in it, how fast, how near to the held-out clips. The table of the README.

    python benchmarks/families.py STORE [FOLDER]     trains into FOLDER/FAMILY what is not there yet, with the defaults

Beside them stand what the clips themselves offer: the nearest training clip, and silence.
"""

import subprocess
import sys
from pathlib import Path

import torch
from speed import THREADS, decoding, stepping

from workbench import models, runs
from workbench.evaluation.reconstructions import evaluate_reconstructions
from workbench.trained import open_run


def main(store: str, folder: str = "runs/families") -> None:
    torch.set_num_threads(THREADS)
    rows, beside = [], {}
    for family in models.names():
        run = Path(folder) / family
        if not run.exists() or runs.status(run) != "finished":
            asked = ["-p", f"family={family}", "-p", f"store={store}", "--out", str(run), "--replace"]
            subprocess.run([sys.executable, "-m", "workbench.cli", "run", "train", *asked], check=True)
        model, clips = open_run(run)
        table = evaluate_reconstructions(model, clips)[0].set_index("what")
        beside |= {
            what: (table.distance[what], table.convergence[what]) for what in ("nearest training clip", "silence")
        }
        parameters = sum(p.numel() for part in (model.encoder, model.decoder) for p in part.parameters()) / 1e6
        seconds = model.length / model.rate
        cells = [
            f"`{family}`",
            f"{parameters:.2f} M",
            f"{table.numbers['this model']}",
            f"{seconds / decoding(model):.0f} x",
            f"{stepping(model):.2f} s",
            f"{runs.read(run)['wall_seconds'] / 60:.1f} min",
            f"{table.distance['this model']:.3f}",
            f"{table.convergence['this model']:.3f}",
        ]
        rows.append(" | ".join(cells))
    print(
        "| family | parameters | numbers per clip | decoding | first step of 16 | training | distance | convergence |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row} |")
    for what, (distance, convergence) in beside.items():
        print(f"| {what} | | | | | | {distance:.3f} | {convergence:.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
