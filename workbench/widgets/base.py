"""What widgets with a kernel behind them share: a page of their own, answered from a thread."""

import inspect
import threading
import weakref
from collections import deque
from pathlib import Path

import anywidget
import traitlets
from IPython import get_ipython

from workbench.errors import UsageError

__all__ = ["Answering"]

NEWEST = ("hello", "move", "plane", "place", "show")  # wishes of which a later one makes an earlier one pointless
ALONE = (
    "stands here while its kernel runs. In JupyterLab: trust the notebook (View, Activate Command Palette, Trust "
    "Notebook; or jupyter trust FILE) and run its cells. Without code: "
)


class Face(anywidget.AnyWidget):
    """What ipywidgets knows of an `Answering`, and keeps for ever: it holds the page's code and no more."""

    layout = traitlets.Any(None).tag(sync=True)  # none of ipywidgets' own models: see serving.serve

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
    page: str  # its JavaScript, beside the file of its class
    style: str = ""  # its CSS, there too; "" for the one that all share

    def __init__(self, beside: "Answering | None" = None):
        shared, own = Path(__file__), Path(inspect.getfile(type(self)))
        code = [shared.with_name("base.js"), own.with_name(self.page)]
        style = own.with_name(self.style) if self.style else shared.with_name("base.css")
        self.face = Face("\n".join(map(_text, code)), _text(style))
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


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


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
