"""The map at size, in a real browser: `python benchmarks/latent_map.py [CLIPS]`, 20,000 by default.

Makes a pack, a store and a `small` model of a few steps in a temporary folder (what a map costs depends on numbers of
clips and values alone), lays the map out once, and measures opening what was kept and clicking in a headless Chromium.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from instrument import browser, voila  # the file beside this one
from playwright.sync_api import sync_playwright

from workbench import data, models, runs, training
from workbench.data import audio, synthesis
from workbench.latent import layout, means
from workbench.widgets import latent_map
from workbench.widgets.instrument import Instrument

SECONDS = 65_536 / 44_100
PLACES = """() => {
    const chart = document.querySelector('.latent-map .chart'), layout = chart._fullLayout, box = chart.getBoundingClientRect();
    const t = chart._fullData[0], at = (axis, v, start, size) => start + size + axis.d2p(v);
    return [...Array(30).keys()].map((i) => Math.floor(i * t.x.length / 30)).map((i) =>
        [at(layout.xaxis, t.x[i], box.left, layout._size.l), at(layout.yaxis, t.y[i], box.top, layout._size.t)]);
}"""


def prepare(n: int) -> None:
    """A pack, a store and a run of n clips in the working folder."""
    takes = -(-n // (len(synthesis.MACHINES) * len(synthesis.LABELS)))
    for key in synthesis.keys(per_class=takes)[:n]:
        audio.write(Path("pack", f"{synthesis.name(key)}.wav"), synthesis.make(key, seconds=SECONDS)[0], 44_100)
    clips = data.build("pack", "store", seconds=SECONDS, progress=False)
    model = models.for_clips(clips, "wave", "small", {"steps": {"autoencode": 2, "adversarial": 0, "prior": 2}})
    settings = {"store": str(Path("store").resolve()), "labels": []}
    with runs.start("runs/train", settings, notebook="2_train", data=clips.fingerprint) as run:
        model = training.fit(model, clips, run)
    timed("all latents, once", lambda: means.posterior_means(model, clips, run.folder))
    timed("laid out, once", lambda: layout.chart(model, clips, run.folder))
    play = timed("the instrument's directions, once", lambda: Instrument(model, clips, run.folder, Path("out")))
    timed(f"the map of {len(clips):,} clips from what was kept", lambda: latent_map.LatentMap(play))


def timed(what: str, make):
    begun = time.perf_counter()
    made = make()
    print(f"{what}: {time.perf_counter() - begun:.1f} s", flush=True)
    return made


def browse() -> None:
    with (
        sync_playwright() as playwright,
        voila(browser(playwright).new_page(), Path("runs/train").resolve(), Path.cwd()) as page,
    ):
        page.wait_for_selector(".latent-map[data-points]", timeout=120_000)
        drawn = page.evaluate("document.querySelector('.latent-map').drawn")
        print(f"in the page, until it is drawn: {drawn / 1000:.1f} s")
        page.locator(".latent-map .chart").scroll_into_view_if_needed()
        page.wait_for_timeout(2000)
        for x, y in page.evaluate(PLACES):
            page.mouse.move(x - 2, y)
            page.mouse.move(x, y)
            page.wait_for_timeout(300)
            page.mouse.click(x, y)
            page.wait_for_timeout(500)
        spent = page.evaluate("document.querySelector('.latent-map').heard.map((h) => h.ms)")
        print(
            f"{len(spent)} clicks to sound started: median {np.median(spent):.0f} ms, 95th percentile {np.percentile(spent, 95):.0f} ms"
        )


if __name__ == "__main__":
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
        browse()
