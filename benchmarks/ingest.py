"""How fast a pack is taken in, and whether memory grows with it: ingest.py SOURCE [SECONDS]

Takes in a quarter, half and the whole of the sound files of a folder, each in a fresh process, and prints seconds,
files a second and the largest memory (MiB) of the building process, and of it with all its workers.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


def measure(source: str, store: str, seconds: float) -> dict:
    from workbench import data

    largest, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.1):
            largest = max(largest, family())

    threading.Thread(target=watch).start()
    start = time.perf_counter()
    try:
        clips = data.build(source, store, seconds=seconds, progress=False)
    finally:
        done.set()
    used = time.perf_counter() - start
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"clips": len(clips), "refused": len(clips.rejects), "seconds": used, "own": own, "all": largest}


def family() -> float:
    """Memory of this process and all below it in MiB, a shared page counted once (0 where there is no /proc)."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == os.getpgrp():
                rollup = (process / "smaps_rollup").read_text()
                total += int(rollup.split("Pss:")[1].split()[0])
        except (OSError, IndexError):
            pass  # it has ended
    return total / 1024


def main(source: Path, seconds: float) -> None:
    from workbench.data.audio import SUFFIXES

    files = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    print(f"{'files':>6} {'clips':>6} {'refused':>7} {'seconds':>8} {'files/s':>8} {'MiB':>6} {'MiB in all':>11}")
    for share in (4, 2, 1):
        with tempfile.TemporaryDirectory() as scratch:
            part = Path(scratch, "part")
            for path in files[::share]:
                link = part / path.relative_to(source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
            call = [sys.executable, __file__, "--measure", str(part), str(Path(scratch, "store")), str(seconds)]
            run = subprocess.run(call, check=True, capture_output=True, text=True, start_new_session=True)
            told = json.loads(run.stdout.splitlines()[-1])
        n = len(files[::share])
        print(
            f"{n:6} {told['clips']:6} {told['refused']:7} {told['seconds']:8.1f} {n / told['seconds']:8.0f} "
            f"{told['own']:6.0f} {told['all']:11.0f}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3], float(sys.argv[4]))))
    elif len(sys.argv) in (2, 3):
        main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) == 3 else 1.4861)
    else:
        sys.exit(__doc__)
