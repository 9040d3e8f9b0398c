"""What all tests share: no network for models, two threads, tiny notebooks, and a browser where there is one."""

import base64
import json
import math
import os
import re
import shutil
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

PARAMETERS = """
out: str = ""  # the run folder
resume: bool = False
replace: bool = False
steps: int = 100  # how many
rate: float = 0.1  # learning rate
name: str = "a"  # what to call it
flow: bool = True
label: str | None = None  # a class
sizes: list[int] = [1, 2]
settings: dict = {}
free = 3
"""


def spoilt(path, keys=()):
    """Damage a file in each way in turn, yielding the way's name, and bring it back: empty, cut, junk, gone, a folder; of JSON
    also values of other types in the place of the whole, and those `keys` ("settings/rate") missing or of another type."""
    data = path.read_bytes()
    junk = bytes(range(256)) * 8
    ways = {"empty": b"", "cut": data[: len(data) // 2], "two bytes short": data[:-2], "junk": junk, "text": b"kick"}
    if path.suffix == ".json":
        ways |= {repr(value): json.dumps(value).encode() for value in (None, [], 3, "a", {}, [{}])}
        for key in keys:
            for wrong in (..., None, {"a": 1}, "x", [3], -1.5):  # ... for a key that is missing
                whole = json.loads(data)
                *above, last = key.split("/")
                part = whole[above[0]] if above else whole
                if type(part.pop(last)) is type(wrong):
                    continue
                part |= {} if wrong is ... else {last: wrong}
                ways[f"{key}: {wrong}"] = json.dumps(whole).encode()
    for way, spoil in ways.items():
        path.write_bytes(spoil)
        yield way
    path.unlink()
    yield "gone"
    path.unlink(missing_ok=True)  # it may have been made anew
    path.mkdir()
    yield "a folder"
    path.rmdir()
    path.write_bytes(data)


@pytest.fixture(scope="session", autouse=True)
def _threads():
    import torch

    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; without one the test is skipped, and under CI it fails."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    reason = "no Chromium is installed (apt-get install chromium)"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def elsewhere(addresses):
    """Of the addresses that pages asked for, those beyond this machine."""
    parts = map(urllib.parse.urlsplit, addresses)
    here = {"127.0.0.1", "localhost", "::1"}
    return [p.geturl() for p in parts if p.scheme not in ("file", "data", "blob", "about") and p.hostname not in here]


def mislabelled(part, path="") -> list[str]:
    """Of a figure as JSON, the axes and colour bars whose tick texts are not those of their values, or of their logarithms."""
    if not isinstance(part, dict):
        return []
    found = [fault for key, value in part.items() if key != "template" for fault in mislabelled(value, f"{path}/{key}")]
    if (texts := part.get("ticktext")) is not None:
        values = part.get("tickvals")
        if isinstance(values, dict):  # plotly's way to write an array
            values = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
        if values is None or len(values) != len(texts):
            return [*found, f"{path}: {texts} for {values}"]
        for text, value in zip(texts, values, strict=True):
            number = re.fullmatch(r"([\d,.]+)(k?)", text)
            if number:
                shown = float(number[1].replace(",", "")) * (1000 if number[2] else 1)
                if not any(math.isclose(shown, v, rel_tol=1e-6) for v in (value, 10**value)):
                    found.append(f"{path}: {text} at {value}")
    return found


@pytest.fixture(scope="module")
def browser(chromium):
    """A browser none of whose pages may ask another machine for anything; `browser.asked` holds what they asked for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        asked, opened = [], browser.new_context

        def new_context(**how):
            context = opened(**how)
            context.on("request", lambda request: asked.append(request.url))
            context.on("page", lambda page: page.on("websocket", lambda socket: asked.append(socket.url)))
            return context

        browser.asked, browser.new_context = asked, new_context
        browser.new_page = lambda **how: new_context(**how).new_page()
        yield browser
        browser.close()
        assert asked and elsewhere(asked) == []


@pytest.fixture(scope="session")
def write_notebook():
    """write_notebook(path, *cells, parameters=source) writes a small notebook of code cells."""
    import nbformat

    def write(path: Path, *cells: str, parameters: str = "") -> Path:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        if parameters:
            notebook.cells.insert(0, nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        return path

    return write


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """A small store of the built-in pack."""
    from workbench import data

    return data.build(
        "synthetic", tmp_path_factory.mktemp("stores") / "tiny", seconds=0.18, rate=22_050, progress=False
    )


@pytest.fixture(scope="session")
def model(clips, tmp_path_factory):
    """The tiny wave model after all three stages on it."""
    import torch

    from workbench import models, runs, training

    torch.manual_seed(0)
    made = models.build("wave", "tiny", length=clips.length, rate=clips.rate, labels=clips.labels)
    with runs.start(tmp_path_factory.mktemp("runs") / "run", {}) as run:
        return training.fit(made, clips, run)
