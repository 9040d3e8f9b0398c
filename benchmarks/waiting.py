"""What does it cost that threads of torch sleep while they wait, alone and beside two busy processes?

    python benchmarks/waiting.py [rounds]

Training steps of `wave` in the same minutes: with OMP_WAIT_POLICY as it is by default, where threads that wait spin, and
PASSIVE, as kernels are started here. Look at the ratios: alone the two should be alike, beside others PASSIVE is faster.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

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


def measured(passive: bool, others: int) -> tuple[float, float]:
    """Seconds of a step, and processor seconds of the whole process, beside so many busy ones."""
    environment = {**os.environ, **({"OMP_WAIT_POLICY": "PASSIVE"} if passive else {})}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEPS.format(here=str(HERE))],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return tuple(json.loads(done.stdout.splitlines()[-1]))
    finally:
        for process in busy:
            process.kill()


def main(rounds: int = 3) -> None:
    for others in (0, 2):
        rows = np.array([[measured(passive, others) for passive in (False, True)] for _ in range(rounds)])
        seconds, used = np.median(rows, axis=0).T
        print(
            f"{others} busy processes beside it: a step {seconds[0]:.3f} s spinning, {seconds[1]:.3f} s sleeping "
            f"(ratio {np.median(rows[:, 1, 0] / rows[:, 0, 0]):.2f}); processor time {used[0]:.0f} and {used[1]:.0f} s"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
