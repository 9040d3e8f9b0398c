"""A notebook as an application in the browser, served by Voila on loopback."""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.runs import pages
from workbench.runs.folder import RunError
from workbench.runs.notebooks import CALM

__all__ = ["serve"]


def serve(notebook: Path, values: Mapping[str, Any], port: int = 0, browser: bool = True) -> None:
    """Serve a notebook with these parameters by Voila on loopback, until Ctrl-C; each visitor gets an own kernel.

    Port 0 is a free one. Prints the address as soon as it answers, and opens a `browser` there.
    """
    import socket
    import subprocess
    import tempfile
    import webbrowser

    import nbformat
    import papermill

    with socket.socket() as door:
        if os.name == "posix":  # a port that was served a moment ago is free
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise RunError(
                f"Port {port} cannot be opened ({why}): give another one by --port, or leave it out for a free one."
            ) from None
        port = door.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / notebook.name
        nb = papermill.parameterize.parameterize_notebook(
            papermill.iorw.load_notebook_node(str(notebook)), dict(values)
        )
        nbformat.write(nb, copy)
        command = [
            sys.executable,
            "-m",
            "voila",
            str(copy),
            f"--port={port}",
            "--no-browser",
            f"--template={pages.served(Path(folder))}",
            "--Voila.log_level=WARN",
            "--Voila.ip=127.0.0.1",
            "--Voila.port_retries=0",
            # Voila brings a copy of JupyterLab's manager of widgets; which of the two a page loads first is chance, and
            # where they mix, one holds the widgets and the other shows "model not found"
            "--VoilaConfiguration.extension_denylist=@jupyter-widgets/jupyterlab-manager",  # once for each, no list
        ]
        # pages that were closed leave a kernel of a gigabyte each
        command += ["--MappingKernelManager.cull_idle_timeout=60", "--MappingKernelManager.cull_interval=20"]
        # threads that wait for each other by spinning take the browser's core, and then wait for it: two pages of two minutes took eight
        environment = {**CALM, **os.environ, "WORKBENCH_HOME": str(Path.cwd())}
        environment["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        server = subprocess.Popen(command, env=environment)
        try:
            while server.poll() is None and not _answers(port):
                time.sleep(0.1)
            if server.poll() is None:
                address = f"http://127.0.0.1:{port}/"
                print(f"Open {address} in a browser; Ctrl-C ends it.", flush=True)
                if browser:  # from a thread, as some wait until it is closed
                    threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
            if code := server.wait():
                raise RunError(f"Voila ended with code {code}; what it said stands above.")
        except KeyboardInterrupt:
            server.wait()  # Ctrl-C reached it as well
        finally:
            if server.poll() is None:
                server.terminate()
                server.wait()


def _answers(port: int) -> bool:
    import socket

    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0
