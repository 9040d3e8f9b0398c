"""From a slider's move to sound started, in a real browser: `python benchmarks/instrument.py [RUN]`.

Serves the run (by default the newest) by `workbench app`, moves a slider 50 times in a headless Chromium, and prints
the median and the 95th percentile beside the time that decoding alone takes in this process.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import torch
from playwright.sync_api import Error, sync_playwright

from workbench import autoencoder, runs

MOVES = 50


def main(run: str | None = None) -> None:
    try:
        source = runs.locate(run) if run else runs.newest()
    except runs.RunError as error:
        print(error)
        return
    model = autoencoder.load(source)
    z = model.draw(1)[0]
    spent = []
    with torch.inference_mode():
        for _ in range(20):
            begun = time.perf_counter()
            model.decode(z, torch.zeros(1, len(model.labels)))
            spent.append(1000 * (time.perf_counter() - begun))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "workbench.cli", "app", str(source), "--no-browser", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        with sync_playwright() as playwright:
            chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
            page = playwright.chromium.launch(executable_path=chromium).new_page()
            while True:
                try:
                    page.goto(f"http://127.0.0.1:{port}/", timeout=300_000)
                    break
                except Error:
                    time.sleep(0.5)
            page.wait_for_selector(".instrument[data-sound]", timeout=300_000)
            page.wait_for_timeout(1000)
            page.focus(".instrument .slider input[type=range]")
            for _ in range(MOVES + 1):  # the first one wakes the player
                page.keyboard.press("ArrowRight")
                page.wait_for_timeout(200)
            heard = page.evaluate("document.querySelector('.instrument').heard.map((h) => h.ms)")[1:]
            if len(sys.argv) > 2:
                page.screenshot(path=sys.argv[2], full_page=True)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(30)
    print(f"{source}: {model.length} values at {model.rate} Hz, {len(heard)} moves, {torch.get_num_threads()} threads")
    print(
        f"slider to sound started: median {np.median(heard):.0f} ms, 95th percentile {np.percentile(heard, 95):.0f} ms"
    )
    print(f"of which decoding: {np.median(spent):.0f} ms ({np.median(spent) / np.median(heard):.0%})")


if __name__ == "__main__":
    main(*sys.argv[1:2])
