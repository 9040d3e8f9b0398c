"""One process at a time in a folder; the system takes a lock back when its process dies, so a kill leaves none."""

__all__ = ["NAME", "Lock", "describe", "holder", "take", "whoami"]

import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None
    import msvcrt

NAME = ".lock"
FAR = 1 << 20  # a locked range cannot be read on Windows: lock a byte far behind the text


class Lock:
    """A folder's lock, held until `release` or the end of the process; its file says by whom."""

    def __init__(self, file):
        self._file = file
        if hasattr(os, "register_at_fork"):  # a worker that outlives this process must not keep the folder locked
            os.register_at_fork(after_in_child=file.close)

    def release(self) -> None:
        """Give the folder back; a second time does nothing."""
        if not self._file.closed:
            _release(self._file)
            self._file.close()


def take(folder) -> Lock | None:
    """Lock a folder, or return None where another process (or another lock of this one) has it."""
    file = open(Path(folder) / NAME, "a+", encoding="utf-8")  # noqa: SIM115 (it stays open as long as the lock is held)
    for _ in range(10):  # who only asks for the holder has the lock for a moment
        if _take(file):
            file.seek(0)
            file.truncate()
            file.write(json.dumps(whoami()))
            file.flush()
            return Lock(file)
        time.sleep(0.03)
    file.close()
    return None


def holder(folder) -> dict | None:
    """Who has the folder's lock (pid, host, since; {} where that cannot be read), or None where nobody has."""
    path = Path(folder) / NAME
    if not path.exists():
        return None
    with open(path, "r" if fcntl else "r+", encoding="utf-8") as file:
        if _take(file):
            _release(file)
            return None
        try:
            file.seek(0)
            found = json.loads(file.read())
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}


def whoami() -> dict:
    """This process: pid, host and the time in UTC."""
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def describe(who: dict) -> str:
    """A holder in words."""
    return f"process {who.get('pid', '?')} on {who.get('host', '?')} since {who.get('since', '?')}"


def _take(file) -> bool:
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def _release(file) -> None:
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_UN)
    else:
        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
