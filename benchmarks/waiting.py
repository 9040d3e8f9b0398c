"""What is it worth that threads of torch soon sleep while they wait, alone and beside two busy processes?

    python benchmarks/waiting.py [rounds]

Training steps of `wave` in the same minutes: as by default, where threads that wait spin; as kernels are started here; and
with threads that sleep at once. Look at the ratios: alone the second should be like the first, beside others it is faster.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from workbench.runs.notebooks import CALM

HERE = Path(__file__).resolve().parent
STEPS = """
import json, resource, sys
sys.path.insert(0, {here!r})
import torch
from speed import stepping
from workbench import models
torch.set_num_threads(2)
seconds = stepping(models.build("wave", preset="small", length=45056, rate=44100, labels=("a", "b")))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds, used.ru_utime + used.ru_stime]))
"""


WAYS = {"spinning": {}, "as here": CALM, "sleeping at once": {"OMP_WAIT_POLICY": "PASSIVE"}}


def measured(way: dict[str, str], others: int) -> tuple[float, float]:
    """Seconds of a step, and processor seconds of the whole process, beside so many busy ones."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEPS.format(here=str(HERE))],
            env={**os.environ, **way}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return tuple(json.loads(done.stdout.splitlines()[-1]))
    finally:
        for process in busy:
            process.kill()


def main(rounds: int = 3) -> None:
    for others in (0, 2):
        rows = np.array([[measured(way, others) for way in WAYS.values()] for _ in range(rounds)])
        print(f"{others} busy processes beside it:")
        for i, name in enumerate(WAYS):
            seconds, used = np.median(rows[:, i], axis=0)
            ratio = np.median(rows[:, i, 0] / rows[:, 0, 0])
            print(f"  {name}: a step takes {seconds:.3f} s ({ratio:.2f} x), the process {used:.0f} s of the cores")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
