"""The instrument in a real browser: Voila and JupyterLab, driven like a user drives them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from workbench.autoencoder import HOTTEST
from workbench.plots import players

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def home(clips, tmp_path_factory):
    """A folder with one finished tiny run, of a decoder that hears the label."""
    import torch

    from workbench import models, runs, training

    folder = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    made = models.for_clips(clips, "wave", "tiny", {"conditional": True})
    settings = {"store": str(clips.store.resolve()), "labels": []}
    with runs.start(folder / "runs" / "train", settings, notebook="2_train", data=clips.fingerprint) as run:
        training.fit(made, clips, run)
    return folder


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def served(home):
    """The address that `workbench app` prints, and in which it opens a browser."""
    opened, opener = home / "opened", home / "opener"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > "{opened}"\n')
    opener.chmod(0o755)
    command = [sys.executable, "-m", "workbench.cli", "app", "runs/train"]
    with (home / "voila.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=home, env=os.environ | {"BROWSER": str(opener)}, stdout=subprocess.PIPE, stderr=log, text=True
        )
        address = printed(server.stdout)
        yield address
        server.terminate()  # the command alone, which takes its server and the kernels with it
        said, _ = server.communicate(timeout=30)
        assert "http" not in said, "one line with an address"
        assert opened.read_text() == address
        with socket.socket() as s:
            assert s.connect_ex(("127.0.0.1", int(address.rpartition(":")[2].strip("/")))) != 0


def printed(stream) -> str:
    """The address in the first line that has one."""
    return next(found[0] for line in stream if (found := re.search(r"http://127\.0\.0\.1:[1-9]\d*/", line)))


@pytest.fixture
def lab(home, chromium, browser, tmp_path):
    """JupyterLab on loopback with settings of its own, at the notebook 5_play about the tiny run."""
    import papermill

    port, token = free_port(), "a" * 32
    notebook = papermill.iorw.load_notebook_node(str(ROOT / "notebooks" / "5_play.ipynb"))
    notebook = papermill.parameterize.parameterize_notebook(notebook, {"run": "runs/train"})
    papermill.iorw.write_ipynb(notebook, str(home / "play.ipynb"))
    places = ("CONFIG", "DATA", "RUNTIME")
    private = {f"JUPYTER_{p}_DIR": str(tmp_path / p) for p in places} | {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_TOKEN": token,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={home}", "--expose-app-in-browser"]
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=home, env=os.environ | private, stdout=log, stderr=log, start_new_session=True
        )
        context = browser.new_context()
        page = context.new_page()
        answers(port, server)
        page.goto(f"http://127.0.0.1:{port}/doc/tree/play.ipynb?token={token}&reset", timeout=180_000)
        yield page
        context.close()
        os.killpg(server.pid, signal.SIGTERM)  # shuts the kernels as well
        server.wait(30)


def answers(port: int, server) -> None:
    """Wait until something listens there."""
    while server.poll() is None:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"the server ended with code {server.returncode}")


@pytest.fixture(scope="module")
def page(served, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 1400})
    page.goto(served, timeout=180_000)
    page.wait_for_selector(".instrument .slider", timeout=60_000)
    page.wait_for_selector(".instrument[data-sound]", timeout=30_000)
    return page


HEARD = "() => document.querySelector('.instrument').heard.map((h) => ({ ...h, x: Array.from(h.x) }))"


def until(page, more: int) -> list[dict]:
    """What was heard, as soon as there are so many sounds."""
    page.wait_for_function(f"document.querySelector('.instrument').heard.length >= {more}", timeout=20_000)
    return page.evaluate(HEARD)


def rest(page) -> list[dict]:
    """What was heard, as soon as all that was asked is answered."""
    page.wait_for_function("document.querySelector('.instrument').rest()", timeout=20_000)
    return page.evaluate(HEARD)


def draw(page) -> dict:
    """The sound of a new draw."""
    page.click("button.draw")
    return rest(page)[-1]


def count(page) -> int:
    return page.evaluate("document.querySelector('.instrument').heard.length")


def said(page, wish: str) -> str:
    page.wait_for_function(f"/{wish}/.test(document.querySelector('.instrument .say').textContent)", timeout=20_000)
    return page.inner_text(".instrument .say")


def slide(page, places: int, key: str = "ArrowRight") -> None:
    page.focus(".instrument .slider input[type=range]")
    for _ in range(places):
        page.keyboard.press(key)


def test_a_slider_changes_what_is_heard_and_undo_gives_it_back(page):
    n = count(page)
    page.click("button.draw")
    start = until(page, n + 1)[-1]
    slide(page, 1, "End")
    moved = until(page, n + 2)[-1]
    assert moved["name"] == start["name"] and len(moved["x"]) == len(start["x"])
    assert np.abs(np.subtract(moved["x"], start["x"])).max() > 0.01
    page.click("button.undo")
    back = until(page, n + 3)[-1]
    assert back["x"] == start["x"]
    assert float(page.input_value(".instrument .slider input[type=range]")) == 0
    page.click("button.redo")
    assert until(page, n + 4)[-1]["x"] == moved["x"]


def test_dragging_renders_the_newest_place_and_no_queue_of_stale_ones(page):
    draw(page)
    n = count(page)
    slide(page, 60)
    heard = rest(page)[n:]
    amount = float(page.input_value(".instrument .slider input[type=range]"))
    assert 1 <= len(heard) <= 60 and amount == pytest.approx(0.6)
    page.focus(".instrument .slider input[type=range]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert rest(page)[-1]["x"] == heard[-1]["x"]  # the last that was heard is where the slider stands


def test_a_pad_plays_by_key_and_by_click(page):
    sound = draw(page)
    page.focus(".instrument")
    page.keyboard.press("Shift+Digit3")
    page.wait_for_selector(".instrument .pad:nth-child(3).full")
    n = count(page)
    page.keyboard.press("Digit3")
    page.keyboard.press("w")
    page.click(".instrument .pad:nth-child(3)")
    played = until(page, n + 3)[n:]
    assert [p["pad"] for p in played] == [2, 2, 2] and [p["semitones"] for p in played] == [0, 1, 0]
    assert all(p["x"] == sound["x"] for p in played)
    page.keyboard.press("Digit5")
    assert "Pad 5 is empty" in page.inner_text(".instrument .say")


def test_two_axes_move_on_the_pad(page):
    draw(page)
    n = count(page)
    box = page.locator("canvas.XY").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"], steps=5)
    page.mouse.up()
    assert len(rest(page)) > n
    ranges = page.locator(".instrument .slider input[type=range]")
    assert [float(ranges.nth(i).input_value()) for i in (0, 1)] == pytest.approx([1.5, 1.5], abs=0.1)
    page.click("button.undo")  # the whole drag is one step
    rest(page)
    assert [float(ranges.nth(i).input_value()) for i in (0, 1)] == [0, 0]


def test_a_recorded_path_is_replayed_from_another_sound(page):
    draw(page)
    page.click("button.replay")
    assert "no path yet" in page.inner_text(".instrument .say")
    page.click("button.record")
    slide(page, 12)
    rest(page)
    page.click("button.record")
    assert re.search(r"A path of 12 moves, \d", said(page, "A path of"))
    end = page.evaluate(HEARD)[-1]
    slider = page.locator(".instrument .slider input[type=range]").first
    slider.dblclick()
    rest(page)
    assert float(slider.input_value()) == 0
    page.click("button.replay")
    assert rest(page)[-1]["x"] == end["x"]
    other = draw(page)
    page.click("button.replay")
    moved = rest(page)[-1]
    assert moved["name"] == other["name"] and float(slider.input_value()) == pytest.approx(0.12)
    assert np.abs(np.subtract(moved["x"], end["x"])).max() > 1e-3


def test_the_plane_lies_between_four_pads(page):
    for i in range(4):
        n = count(page)
        page.click("button.draw")
        until(page, n + 1)
        page.focus(".instrument")
        page.keyboard.press(f"Shift+Digit{i + 1}")
        rest(page)
    n = count(page)
    page.keyboard.press("Digit1")
    (pad,) = until(page, n + 1)[n:]
    box = page.locator("canvas.plane").bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + 2)
    corner = until(page, n + 2)[-1]
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    middle = until(page, n + 3)[-1]
    assert corner["name"] == middle["name"] == "between pads 1, 2, 3, 4"
    near, far = (np.abs(np.subtract(x["x"], pad["x"])).mean() for x in (corner, middle))
    assert near < far / 4

    # the dot is where the sound is: on its place, back there by undo, and in the middle, a ring, where that has none
    assert dot(page) == pytest.approx([90, 90], abs=4)
    page.click("button.undo")
    rest(page)
    assert dot(page) == pytest.approx([2, 2], abs=6)
    ink = dot(page, "length")
    draw(page)
    assert dot(page) == pytest.approx([90, 90], abs=2) and dot(page, "length") != ink


def dot(page, what: str = "middle"):
    """Of what is drawn in orange on the plane, the middle or the number of pixels."""
    return page.evaluate(
        """(what) => {
            const canvas = document.querySelector('canvas.plane'), { data } = canvas.getContext('2d').getImageData(0, 0, 180, 180);
            const ink = [...Array(180 * 180).keys()].filter((i) => data[4 * i] > 180 && data[4 * i + 2] < 60 && data[4 * i + 3] > 128);
            const mean = (f) => ink.reduce((sum, i) => sum + f(i), 0) / ink.length;
            return what === 'length' ? ink.length : [mean((i) => i % 180), mean((i) => Math.floor(i / 180))];
        }""",
        what,
    )


def test_a_number_beyond_its_field_is_refused_with_the_bounds(page):
    fields = page.locator(".instrument input[type=number]")
    assert fields.count() == 2
    for i in range(fields.count()):
        field = fields.nth(i)
        title, low, high = (field.get_attribute(name) for name in ("title", "min", "max"))
        good, n = field.input_value(), len(rest(page))
        for wrong in (str(float(high) + 6), str(float(low) - 1), ""):
            field.fill(wrong)
            field.press("Tab")
            if "temperature" in title:
                page.click("button.draw")
            text = said(page, f"from {low} to {high} is expected")
            assert title in text and (f"{float(wrong):g}" if wrong else "no number") in text, (title, wrong)
            page.evaluate("document.querySelector('.instrument .say').textContent = ''")
        field.fill(good)
        assert len(rest(page)) == n, f"{title}: nothing was asked of the kernel"
    assert float(page.get_attribute(".instrument input[title^=temperature]", "max")) == HOTTEST
    draw(page)


WATCH = """() => {
    const one = window.first = window.sounding, pause = one.pause;
    window.paused = null;
    one.pause = (...how) => { window.paused = one; pause.apply(one, how); };
}"""


def test_what_begins_to_sound_stops_what_did_so_before(page, clips):
    """A slider's sound, the map's, and the players of pages: pairs in both orders."""
    player = players.player(np.zeros(44_100), 22_050)
    page.evaluate("(html) => { const box = document.createElement('div'); box.id = 'two'; box.innerHTML = html; document.body.append(box); }",
                  player + player)  # fmt: skip
    begins = {
        "instrument": lambda: draw(page),
        "pad": lambda: (page.focus(".instrument"), page.keyboard.press("Digit1"), rest(page)),
        "map": lambda: lonely(page, clips),
        "player": lambda: page.evaluate("document.querySelector('#two audio').play()"),
        "another player": lambda: page.evaluate("document.querySelectorAll('#two audio')[1].play()"),
    }
    page.wait_for_selector(".latent-map[data-points]", timeout=30_000)
    draw(page)
    page.focus(".instrument")
    page.keyboard.press("Shift+Digit1")
    page.wait_for_selector(".instrument .pad:nth-child(1).full")
    for first, begin in begins.items():
        for second, then in begins.items():
            if first == second or {first, second} == {"instrument", "pad"}:  # these are one player, on purpose
                continue
            page.evaluate("window.sounding = undefined")
            begin()
            page.wait_for_function("window.sounding")  # a player says so in an event, some time after it began
            page.evaluate(WATCH)
            then()
            page.wait_for_function("window.paused && window.sounding !== window.first")
            assert page.evaluate("window.paused === window.first"), (first, second)
            playing = "[...document.querySelectorAll('audio')].filter((a) => !a.paused).length"
            page.wait_for_function(f"{playing} === {int(second.endswith('player'))}")
            page.evaluate("delete window.first.pause; document.querySelectorAll('audio').forEach((a) => a.pause())")
    page.evaluate("document.querySelector('#two').remove()")


def test_labels_morph(page):
    page.select_option(".instrument select[title^=label]", "kick")
    n = count(page)
    page.click("button.draw")
    kick = until(page, n + 1)[-1]
    morph = page.locator(".instrument .morph input")
    values = [float(morph.nth(i).input_value()) for i in range(morph.count())]
    assert sum(values) == 1 and max(values) == 1
    morph.nth(0 if values[0] == 0 else 1).focus()
    page.keyboard.press("End")
    mixed = rest(page)[-1]
    assert np.abs(np.subtract(mixed["x"], kick["x"])).max() > 1e-3
    assert sorted(float(morph.nth(i).input_value()) for i in range(morph.count()))[-2:] == [0.5, 0.5]


def test_a_clip_is_found_by_its_name(page, clips):
    page.select_option(".instrument select[title^=label]", "")
    clip = clips.index.iloc[-1]
    n = count(page)
    page.fill(".instrument .like", clip.path)
    page.keyboard.press("Enter")
    assert clip["name"] in until(page, n + 1)[-1]["name"]
    page.fill(".instrument .like", "no such name")
    page.keyboard.press("Enter")
    assert "has 'no such name' in its name or path" in said(page, "None of the 1,200 clips")


# a point of the flat map that has no other within some pixels, {row, x, y}, and an empty place, {x, y}, on the screen
LONELY = """async () => {
    const chart = document.querySelector('.latent-map .chart'), layout = chart._fullLayout, box = chart.getBoundingClientRect();
    const points = chart._fullData.filter((t) => t.name !== 'the instrument').flatMap((t) =>
        Array.from(t.customdata).map((row, i) => ({ row,
            x: box.left + layout._size.l + layout.xaxis.d2p(t.x[i]), y: box.top + layout._size.t + layout.yaxis.d2p(t.y[i]) })));
    const far = (p, at) => Math.min(...points.filter((q) => q !== p).map((q) => Math.hypot(q.x - at.x, q.y - at.y)));
    const clips = points.filter((p) => p.row < ROWS), best = clips.map((p) => far(p, p)).reduce((b, d, i, all) => (d > all[b] ? i : b), 0);
    const area = chart.querySelector('.nsewdrag').getBoundingClientRect(), grid = [];
    for (let i = 1; i < 20; i++) for (let j = 1; j < 20; j++) grid.push({ x: area.left + i / 20 * area.width, y: area.top + j / 20 * area.height });
    return { point: clips[best], empty: grid.reduce((b, at) => (far(null, at) > far(null, b) ? at : b)) };
}"""
ON_THE_MAP = "() => document.querySelector('.latent-map').heard.map((h) => ({ ...h, sounds: h.sounds.map((x) => Array.from(x)) }))"


def on_the_map(page, at: dict) -> dict:
    """What a click at a place of the screen plays."""
    n = len(page.evaluate(ON_THE_MAP))
    page.mouse.move(at["x"] - 2, at["y"] - 2)
    page.mouse.move(at["x"], at["y"])
    below = "document.querySelector('.latent-map .chart')._hoverdata?.[0]?.customdata ?? null"
    page.wait_for_function(f"({below}) === {json.dumps(at.get('row'))}")
    page.mouse.click(at["x"], at["y"])
    page.wait_for_function(f"document.querySelector('.latent-map').heard.length > {n}", timeout=20_000)
    return page.evaluate(ON_THE_MAP)[-1]


def lonely(page, clips) -> dict:
    """What a click on a clip of the map plays."""
    page.locator(".latent-map .chart").scroll_into_view_if_needed()
    return on_the_map(page, page.evaluate(LONELY.replace("ROWS", str(len(clips))))["point"])


def test_a_click_on_the_map_plays_that_clip_and_beside_all_what_lies_between(page, clips):
    page.wait_for_selector(".latent-map[data-points]", timeout=30_000)
    page.locator(".latent-map .chart").scroll_into_view_if_needed()
    places = page.evaluate(LONELY.replace("ROWS", str(len(clips))))
    row = places["point"]["row"]
    played = on_the_map(page, places["point"])
    assert len(played["sounds"]) == 2 and clips.index["name"][row] in played["name"]
    np.testing.assert_array_equal(np.float32(played["sounds"][0]), clips.audio([row])[0])
    page.wait_for_function(f"document.querySelector('.instrument').dataset.sound === {played['name']!r}")
    between = on_the_map(page, places["empty"])
    assert len(between["sounds"]) == 1 and np.abs(between["sounds"][0]).max() > 0.01
    assert "the mean of the 8 nearest latents" in page.inner_text(".latent-map .say")
    here = page.get_attribute(".latent-map", "data-here")
    page.click("button.undo")
    page.wait_for_function(f"document.querySelector('.latent-map').dataset.here !== {here!r}")
    for colour in ("centroid", "z0"):
        page.select_option(".latent-map .colour", colour)
        page.wait_for_function("document.querySelector('.latent-map .chart').data.length === 3")


def test_a_saved_wav_is_what_was_heard(page, home):
    sound = page.evaluate(HEARD)[-1]
    page.click("button.save")
    path = re.search(r"Saved as (\S+\.wav)", said(page, "Saved as")).group(1)
    x, _ = soundfile.read(home / path)
    assert np.abs(x - sound["x"]).max() < 1e-4  # 16 bits, and decoded in a batch of one size
    page.click("button.pack")
    folder = home / re.search(r"The pads lie in (\S+?)\.?$", said(page, "The pads lie in")).group(1)
    assert (folder / "pads.json").is_file() and len(list(folder.glob("*.wav"))) == page.locator(".pad.full").count()


def test_a_file_that_is_no_sound_says_why_and_a_sound_is_played(page, tmp_path):
    (tmp_path / "note.wav").write_text("no sound at all")
    page.set_input_files(".instrument input.file", tmp_path / "note.wav")
    assert "libsndfile cannot read it" in said(page, "note.wav cannot be played")
    t = np.arange(70 * 8000) / 8000
    soundfile.write(tmp_path / "long.wav", 0.5 * np.sin(2 * np.pi * 300 * t), 8000)  # more than a minute
    n = count(page)
    page.set_input_files(".instrument input.file", tmp_path / "long.wav")
    assert until(page, n + 1)[-1]["name"] == "long.wav"
    assert "from 0.00 s on are played" in said(page, "Of long.wav, 0.19 s")


def test_sliders_at_their_ends_give_no_blast(page):
    n = count(page)
    ranges = page.locator(".instrument .slider input[type=range]")
    for i in range(min(ranges.count(), 6)):
        ranges.nth(i).focus()
        page.keyboard.press("End")
    loudest = [np.abs(h["x"]).max() for h in rest(page)[n:]]
    assert loudest and all(np.isfinite(v) and v <= 1 for v in loudest)


def test_a_kernel_that_is_gone_is_told(page, served):
    kernels = [
        p for p in psutil.process_iter(["cmdline"]) if any("ipykernel_launcher" in w for w in p.info["cmdline"] or ())
    ]
    mine = [p for p in kernels if any("workbench.cli" in w for q in p.parents() for w in q.cmdline())]
    assert mine
    for kernel in mine:
        kernel.kill()
    page.click("button.draw")
    assert "Run the cells again" in said(page, "The kernel does not answer")


IDLE = """async () => {
    const panel = window.jupyterapp?.shell?.currentWidget, session = panel?.sessionContext;
    if (!session?.isReady || !session.session?.kernel) return false;
    await session.session.kernel.info;
    return session.session.kernel.connectionStatus === 'connected' && session.session.kernel.status === 'idle';
}"""


# what is alive in a kernel after 5_play: instruments, maps, models, threads that answer
LIVING = """
import gc, threading
from workbench import autoencoder
from workbench.widgets import instrument, latent_map
gc.collect()
kinds = (instrument.Instrument, latent_map.LatentMap, autoencoder.Autoencoder)
print([sum(isinstance(o, kind) for o in gc.get_objects()) for kind in kinds], threading.active_count())
"""


def asked(lab, code: str) -> str:
    """What this code prints in the notebook's kernel, once that has done all else."""
    return lab.evaluate(
        """async (code) => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const future = kernel.requestExecute({ code, store_history: false });
            let text = '';
            future.onIOPub = (m) => { text += m.content.text ?? m.content.evalue ?? ''; };
            await future.done;
            return text;
        }""",
        code,
    )


def test_the_instrument_plays_in_jupyterlab_and_its_keys_leave_the_cells_alone(lab):
    deadline = time.monotonic() + 120
    while not lab.evaluate(IDLE):  # an asynchronous wish, which wait_for_function would not wait for
        assert time.monotonic() < deadline
        time.sleep(0.2)
    lab.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    lab.wait_for_selector(".instrument[data-sound]", timeout=120_000)
    n, cells = count(lab), lab.locator(".jp-Cell").count()
    slider = lab.locator(".instrument .slider input[type=range]").first
    slider.click()  # as a hand does: Lab must not take the arrows for a step to the next cell
    for _ in range(12):
        lab.keyboard.press("ArrowRight")
    rest(lab)
    assert float(slider.input_value()) == pytest.approx(0.12, abs=0.05) and count(lab) > n
    slide(lab, 1, "End")
    moved = rest(lab)[-1]
    n = count(lab) - 1
    lab.click("button.undo")
    assert np.abs(np.subtract(until(lab, n + 2)[-1]["x"], moved["x"])).max() > 0.01
    lab.focus(".instrument")
    lab.keyboard.press("Shift+Digit1")
    lab.wait_for_selector(".instrument .pad.full")
    for key in ("d", "d", "a", "b"):  # d d deletes a cell, a and b add one, where Lab hears them
        lab.keyboard.press(key)
    assert [h.get("semitones") for h in until(lab, n + 5)[n + 2 :]] == [4, 4, 0]
    assert lab.locator(".jp-Cell").count() == cells

    # a second tab on the same kernel shows the same sound, and only the tab that asked plays
    lab.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    lab.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")
    other = lab.context.new_page()
    other.goto(lab.url, timeout=180_000)
    other.wait_for_selector(".instrument[data-sound]", timeout=120_000)
    played = count(lab)
    other.click("button.draw")
    sound = until(other, 1)[-1]
    lab.wait_for_function(f"document.querySelector('.instrument').dataset.sound === {sound['name']!r}")
    assert count(lab) == played
    lab.click("button.undo")
    other.wait_for_function(f"document.querySelector('.instrument').dataset.sound !== {sound['name']!r}")
    other.close()

    # the cells run again: what they showed before ends, with its model and its thread
    before = asked(lab, LIVING)
    lab.evaluate("document.querySelector('.instrument').id = 'old'")
    lab.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    lab.wait_for_selector(".instrument[data-sound]:not(#old)", timeout=120_000)
    assert asked(lab, LIVING) == before
    draw(lab)

    # a kernel that starts anew under an open page does not pretend
    lab.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    lab.click("button.draw")
    assert "Run the cells again" in said(lab, "The kernel does not answer")
