"""What one touches in a notebook: what widgets with a kernel behind them share, and the blind game "real or made?"."""

import html
import json
import threading
import weakref
from collections import deque
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from IPython import get_ipython
from IPython.display import HTML

from workbench import plots
from workbench.errors import UsageError

__all__ = ["Answering", "face", "real_or_made"]

NEWEST = ("hello", "move", "plane", "place", "show")  # wishes of which a later one makes an earlier one pointless
ALONE = (
    "stands here while its kernel runs. In JupyterLab: trust the notebook (View, Activate Command Palette, Trust "
    "Notebook; or jupyter trust FILE) and run its cells. Without code: "
)


def face(name: str) -> str:
    """The JavaScript of a widget: what all share, and its own."""
    return "".join(Path(__file__).with_name(n).read_text(encoding="utf-8") + "\n" for n in ("widgets.js", name))


class Face(anywidget.AnyWidget):
    """What ipywidgets knows of an `Answering`, and keeps for ever: it holds the page's code and no more."""

    layout = traitlets.Any(None).tag(sync=True)  # none of ipywidgets' own models: see notebooks.serve

    def __init__(self, code: str, style: str):
        self._esm, self._css = code, style
        super().__init__()


class Answering:
    """A widget that answers its pages from a thread, one wish after another, so that the kernel stays free.

    A wish is a message {do, tab, n, ...} with buffers, given to `answer`. Of wishes of one page that wait and of which
    only the newest counts, as places of a slider on its way, the others are dropped. A widget made `beside` another
    shares its thread, and so its state. Nothing goes into the notebook's widget state.

    It lives while a name holds it or a cell shows it: what a cell showed is let go when the cell runs again. Its thread
    ends with it.
    """

    what: str  # how its place is called where no kernel runs
    command: str = "workbench app RUN"  # what shows it without code
    page: str  # its JavaScript
    style: str  # its CSS

    def __init__(self, beside: "Answering | None" = None):
        self.face = Face(face(self.page), Path(__file__).with_name(self.style).read_text(encoding="utf-8"))
        weakref.finalize(self, self.face.close).atexit = False
        here, self.beside = weakref.ref(self), beside

        def asked(_, message, buffers):
            if (widget := here()) is not None:
                widget.ask(message, buffers)

        self.face.on_msg(asked)
        self._wishes, self._more = (
            (deque(), threading.Condition()) if beside is None else (beside._wishes, beside._more)
        )
        if beside is None:
            threading.Thread(target=_work, args=[self._wishes, self._more], daemon=True).start()
            weakref.finalize(self, _end, self._wishes, self._more).atexit = False

    def send(self, content: dict, buffers: list[bytes] | None = None) -> None:
        self.face.send(content, buffers)

    def answer(self, m: dict, buffers: list[bytes], to: dict) -> None:
        """Do what a page asked for, and `send` it what came of it, with `to` among the content."""
        raise NotImplementedError

    def ask(self, message: dict, buffers: list) -> None:
        wish = (self, message, [bytes(b) for b in buffers])
        with self._more:
            if self._wishes and message.get("do") in NEWEST:
                widget, last, _ = self._wishes[-1]
                if widget is self and all(last.get(key) == message.get(key) for key in ("do", "tab")):
                    self._wishes.pop()
            self._wishes.append(wish)
            self._more.notify()

    def respond(self, message: dict, buffers: list[bytes]) -> None:
        to = {"tab": message.get("tab"), "n": message.get("n")}
        try:
            self.answer(message, buffers, to)
        except UsageError as error:
            self.send({"what": "error", "text": str(error), **to})
        except Exception as error:  # a thread that dies in silence leaves a page that does nothing
            self.send({"what": "error", "text": f"{type(error).__name__}: {error}", **to})

    def _repr_mimebundle_(self, **kwargs):
        _show(self)
        bundle = self.face._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = f"{self.what} {ALONE}{self.command}."
        data["text/html"] = f"<p><i>{data['text/plain']}</i></p>"
        return bundle


def _work(wishes: deque, more: threading.Condition) -> None:
    while True:
        with more:
            while not wishes:
                more.wait()
            wish = wishes.popleft()
        if wish is None:
            return
        widget, message, buffers = wish
        widget.respond(message, buffers)
        del wish, widget, message, buffers  # while it waits, a thread keeps no widget alive


def _end(wishes: deque, more: threading.Condition) -> None:
    with more:
        wishes.append(None)
        more.notify()


SHOWN: dict[str, tuple[str, list[Answering]]] = {}  # of each cell: its last execution, and the widgets that this showed


def _show(widget: Answering) -> None:
    parent = getattr(get_ipython(), "get_parent", dict)()  # what asked to run the cell; nothing, outside a kernel
    if "header" not in parent:
        return
    cell = parent.get("metadata", {}).get("cellId") or parent["content"].get("code", "")
    run = parent["header"]["msg_id"]
    if SHOWN.get(cell, ("", []))[0] != run:
        SHOWN[cell] = (run, [])
    SHOWN[cell][1].append(widget)


def real_or_made(real, made, rate: float, seed: int = 0, trials: int = 20) -> HTML:
    """A blind game: clips of equal peak, half of them real, in random order; the guess rate comes with its 95 % interval.

    A guess is taken once its clip was played to its end. It runs in the page itself, without a kernel: in JupyterLab, in
    Voila and in the HTML export.

    Arguments:
        real, made: (n, T) clips with n >= trials / 2 each. seed: of choice and order.
    """
    half = trials // 2
    if min(len(real), len(made)) < half:
        raise ValueError(
            f"A game of {trials} trials needs {half} clips of each kind, but there are {len(real)} real and {len(made)} made."
        )
    rng = np.random.default_rng(seed)
    clips = [(x, True) for x in np.asarray(real)[rng.permutation(len(real))[:half]]]
    clips += [(x, False) for x in np.asarray(made)[rng.permutation(len(made))[:half]]]
    clips = [(0.9 * x / max(np.abs(x).max(), 1e-6), true) for x, true in clips]  # the level must not give it away
    order = rng.permutation(len(clips))
    buttons = "<button disabled>real</button> <button disabled>made</button> <output></output>"
    rows = "".join(
        f'<div class="trial">{plots.player(clips[i][0], rate, f"{n + 1}")}{buttons}</div>' for n, i in enumerate(order)
    )
    key = html.escape(json.dumps([bool(clips[i][1]) for i in order]))
    script = Path(__file__).with_name("game.js").read_text(encoding="utf-8")
    style = "display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:10px"
    tally = '<p><b class="tally">Play each clip to its end, then guess.</b></p>'
    return HTML(
        f'<div class="real-or-made" data-key="{key}"><div style="{style}">{rows}</div>{tally}</div>'
        f"<script>{script}</script>"
    )
