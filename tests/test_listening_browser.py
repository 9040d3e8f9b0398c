"""Listening tests in a real browser: `workbench listen`, used like a listener uses it."""

import os
import re
import subprocess
import sys

import numpy as np
import psutil
import pytest

from workbench import listening, models, runs
from workbench.listening import opinions


@pytest.fixture(scope="module")
def home(clips, tmp_path_factory):
    """A folder with a run that ended before it learned anything."""
    folder = tmp_path_factory.mktemp("home")
    model = models.build("wave", "tiny", length=clips.length, rate=clips.rate, labels=clips.labels)
    settings = {"store": str(clips.store.resolve()), "labels": []}
    with runs.start(folder / "runs" / "train", settings, notebook="2_train", data=clips.fingerprint) as run:
        model.save(run.folder)
    return folder


class Server:
    """`workbench listen` on a port of its own choice, which can be killed and started anew on the same."""

    def __init__(self, home):
        self.home, self.log, self.process, self.address = home, home / "listen.log", None, ""

    def start(self, *words) -> None:
        port = ["--port", self.address.rpartition(":")[2].strip("/")] if self.address else []
        command = [sys.executable, "-m", "workbench.cli", "listen", *words, "--no-browser", *port]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.home,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"HF_HUB_OFFLINE": "1"},
            )
        said = (re.search(r"http://127\.0\.0\.1:[1-9]\d*/", line) for line in self.process.stdout)
        self.address = next(found[0] for found in said if found)

    def open(self, page) -> None:
        page.goto(self.address, timeout=60_000)
        page.wait_for_selector(".listening .begin", timeout=60_000)

    def kill(self) -> None:
        """All at once, as when the machine goes down."""
        own = psutil.Process(self.process.pid)
        for process in [*own.children(recursive=True), own]:
            process.kill()
        self.process.wait(30)


@pytest.fixture
def server(home):
    server = Server(home)
    yield server
    if server.process.poll() is None:
        server.process.terminate()
        server.process.wait(30)


def phase(page, wanted: str, number: int | None = None) -> None:
    where = "" if number is None else f"[data-number='{number}']"
    page.wait_for_selector(f".listening[data-phase={wanted}]{where}", timeout=20_000)


def said(page, words: str) -> None:
    page.wait_for_function(f"document.querySelector('.say').textContent.includes({words!r})", timeout=20_000)


def heard(page, test: listening.Test) -> tuple[str, int]:
    """What was played last, found by its sound."""
    x = np.float32(page.evaluate("Array.from(document.querySelector('.listening').heard.at(-1).x)"))
    known = {test.sound(i).tobytes(): (s["system"], s["clip"]) for i, s in enumerate(test.stimuli)}
    return known[x.tobytes()]


def opine(page, test: listening.Test, score: int, by_key: bool) -> tuple[tuple[str, int], int]:
    """Hear a clip to its end and vote."""
    assert page.locator(".votes button:enabled").count() == 0
    page.keyboard.press("Space")  # the play button has the focus
    page.wait_for_selector(".votes button:enabled", timeout=10_000)
    what = heard(page, test)
    page.keyboard.press(str(score)) if by_key else page.click(f".votes button[data-score='{score}']")
    return what, score


def test_opinions_survive_a_killed_server_and_equal_the_clicks(home, server, browser):
    server.start("runs/train", "--clips", "2", "--training", "2", "--out", "runs/opinions")
    page = browser.new_page(viewport={"width": 390, "height": 800})
    server.open(page)
    test = listening.Test(home / "runs" / "opinions")
    assert "no name" in page.inner_text(".listening") and len(test.votes()) == 0
    page.fill(".code", " ")
    for enter in (lambda: page.click(".resume"), lambda: page.press(".code", "Enter")):
        enter()
        said(page, "No code came")
        page.evaluate("document.querySelector('.say').textContent = ''")
    page.click(".begin")
    for i in range(2):
        phase(page, "practice", i)
        assert f"Practice {i + 1} of 2" in page.inner_text(".listening")
        if i == 0:
            page.keyboard.press("3")
            said(page, "Listen to the end first")
        opine(page, test, 5, by_key=True)
    phase(page, "rated", 0)
    assert len(test.votes()) == 0, "practice is not counted"
    code, given = page.inner_text(".head b"), {}
    for i, score in enumerate((1, 4, 2)):
        phase(page, "rated", i)
        what, vote = opine(page, test, score, by_key=i % 2 == 0)
        given[what] = vote
    phase(page, "rated", 3)
    shown = page.evaluate("document.querySelector('.listening').outerHTML") + page.inner_text("body")
    assert not any(word in shown for word in ("train", "anchor", "real", ".wav", "MOS", "opinion score"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone is wide enough"

    # somebody else comes with the same code
    other = browser.new_page()
    server.open(other)
    other.fill(".code", code)
    other.click(".resume")
    said(other, f"{code} is in use on another page")
    other.fill(".code", "abcd-efgh")
    other.keyboard.press("Enter")
    said(other, "no session with the code 'abcd-efgh'")
    other.close()

    server.kill()
    said(page, "The connection is lost")
    server.start("runs/opinions")
    server.open(page)
    assert page.input_value(".code") == code, "a page knows its code after it was reloaded"
    page.click(".resume")
    for i, score in enumerate((5, 3, 3), 3):
        phase(page, "rated", i)
        what, vote = opine(page, test, score, by_key=True)
        assert what not in given
        given[what] = vote
    phase(page, "end")
    assert "Thank you" in page.inner_text(".listening") and code in page.inner_text(".listening")
    table = test.votes()
    assert {(s, c): v for s, c, v in table[["system", "clip", "score"]].itertuples(index=False)} == given
    assert (
        len(given) == 2 * 3 and table.finished.all() and opinions.progress(test.folder).startswith("1 listeners began")
    )
    page.close()


def test_sets_are_rated_as_the_sliders_stand_and_go_on_after_a_reload(home, server, browser):
    real, made = np.random.default_rng(0).standard_normal((2, 3, 2205)).astype(np.float32)
    test = listening.Test(listening.prepare(home / "sets", real, {"made": made}, 22_050, "mushra", training=1))
    server.start("sets")
    page = browser.new_page(viewport={"width": 390, "height": 900})
    server.open(page)
    page.click(".begin")
    given, size = {}, len(test.record["systems"])
    for step in range(3):
        phase(page, *(("rated", step - 1) if step else ("practice", 0)))
        if step == 2:
            page.reload()
            page.wait_for_selector(".listening .begin", timeout=60_000)
            page.click(".resume")
            phase(page, "rated", 1)
        assert page.locator(".stimulus").count() == size
        page.click(".listening .play")
        page.wait_for_selector(".listening .play.heard")
        reference = heard(page, test)
        assert reference[0] == "real"
        for i in range(size):
            assert page.is_disabled(".next")
            button, slider = page.locator(".stimulus button").nth(i), page.locator(".stimulus input").nth(i)
            button.click()
            page.wait_for_selector(f".stimulus:nth-of-type({i + 3}) button.heard")
            what = heard(page, test)
            assert what[1] == reference[1]
            slider.focus()
            page.keyboard.press(("End", "Home", "ArrowRight", "ArrowLeft", "PageUp")[i % 5])
            if step:
                given[what] = int(slider.input_value())
        page.wait_for_selector(".next:enabled")
        page.click(".next")
    phase(page, "end")
    table = test.votes()
    assert {(s, c): v for s, c, v in table[["system", "clip", "score"]].itertuples(index=False)} == given
    assert len(given) == 2 * size and {0, 49, 51, 100} == set(given.values())
    page.close()
