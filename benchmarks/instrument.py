"""From a slider's move to sound started, in a real browser: `python benchmarks/instrument.py [RUN]`.

Opens the notebook 5_play about the run (by default the newest) in JupyterLab and by `workbench app`, moves a slider 50
times in a headless Chromium, and prints the median and the 95th percentile beside the time that decoding alone takes.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import papermill
import torch
from playwright.sync_api import Browser, Error, Page, Playwright, sync_playwright

from workbench import autoencoder, runs
from workbench.runs import notebooks

MOVES = 50
IDLE = """async () => {
    const session = window.jupyterapp?.shell?.currentWidget?.sessionContext, kernel = session?.session?.kernel;
    if (!session?.isReady || !kernel) return false;
    await kernel.info;
    return kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""


def main(run: str | None = None) -> None:
    try:
        source = runs.locate(run) if run else runs.newest()
    except runs.RunError as error:
        print(error)
        return
    model = autoencoder.load(source)
    decoding = np.median([decode(model) for _ in range(20)])
    print(f"{source}: {model.length} values at {model.rate} Hz, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = browser(playwright)
        for name, door in (("JupyterLab", lab), ("workbench app", voila)):
            with door(chromium.new_page(), Path(source).resolve(), Path(folder)) as page:
                page.wait_for_selector(".instrument[data-sound]", timeout=300_000)
                page.wait_for_timeout(10_000)  # the cells below are done
                page.focus(".instrument .slider input[type=range]")
                for _ in range(MOVES + 1):  # the first one wakes the player
                    page.keyboard.press("ArrowRight")
                    page.wait_for_timeout(200)
                spent = page.evaluate("document.querySelector('.instrument').heard.map((h) => h.ms)")[1:]
            print(
                f"{name}: {len(spent)} moves to sound started, median {np.median(spent):.0f} ms, 95th percentile "
                f"{np.percentile(spent, 95):.0f} ms; of the median {decoding:.0f} ms are decoding"
            )


def browser(playwright: Playwright) -> Browser:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return playwright.chromium.launch(executable_path=chromium)


def decode(model: autoencoder.Autoencoder) -> float:
    z = model.draw(1)[0]
    begun = time.perf_counter()
    with torch.inference_mode():
        model.decode(z, torch.zeros(1, len(model.labels)))
    return 1000 * (time.perf_counter() - begun)


@contextlib.contextmanager
def served(page: Page, port: int, address: str, words: list[str], cwd: Path, **more: str):
    """A page of a server that is stopped afterwards."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    server = subprocess.Popen([sys.executable, "-m", *words], cwd=cwd, env=os.environ | more, **quiet)
    try:
        while True:
            try:
                page.goto(f"http://127.0.0.1:{port}/{address}", timeout=300_000)
                break
            except Error:
                time.sleep(0.5)
        yield page
    finally:
        page.close()
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def voila(page: Page, source: Path, folder: Path):
    port = free_port()
    return served(page, port, "", ["workbench.cli", "app", str(source), "--no-browser", "--port", str(port)], folder)


@contextlib.contextmanager
def lab(page: Page, source: Path, folder: Path):
    notebook = papermill.iorw.load_notebook_node(str(notebooks.resolve("play")))
    notebook = papermill.parameterize.parameterize_notebook(notebook, {"run": str(source)})
    papermill.iorw.write_ipynb(notebook, str(folder / "play.ipynb"))
    private = {f"JUPYTER_{p}_DIR": str(folder / p) for p in ("CONFIG", "DATA", "RUNTIME")}
    private |= {f"JUPYTERLAB_{p}_DIR": str(folder / p) for p in ("SETTINGS", "WORKSPACES")}
    port, token = free_port(), "a" * 32
    words = ["jupyterlab", "--no-browser", f"--port={port}", "--allow-root", "--expose-app-in-browser"]
    address = f"doc/tree/play.ipynb?token={token}&reset"
    with served(page, port, address, words, folder, JUPYTER_TOKEN=token, **private):
        while not page.evaluate(IDLE):
            time.sleep(0.2)
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        yield page


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


if __name__ == "__main__":
    main(*sys.argv[1:2])
