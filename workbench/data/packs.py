"""What a user's pack holds: the sound files of a folder or an archive, and what tables beside them say."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath

from workbench.data import labels
from workbench.data.audio import SUFFIXES
from workbench.files import full, unused

__all__ = ["ARCHIVES", "Found", "Sound", "recording", "scan", "unpacked"]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
INSIDE = "an archive inside the pack; unpack it, or give it as a source"
IRREGULAR = "this is no regular file"
LINK = "a link inside an archive, which is not followed"


@dataclass
class Sound:
    """One sound of a pack; `path` is relative to the source, with forward slashes. A synthetic one has a key only."""

    path: str
    file: Path | None
    label: str
    pack: str
    size: int
    modified: float
    label_by: str = "table"
    label_certainty: float = 1.0
    excluded: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    key: tuple | None = None


@dataclass
class Found:
    """All that a scan saw: sounds in order of their paths, rejects (path, reason), and counts of what is no audio."""

    sounds: list[Sound]
    rejects: list[tuple[str, str]]
    ignored: Counter


def recording(file: Path) -> Found:
    """A single file as a source."""
    sounds, rejects = [], []
    _add(file, _relative(file, file.parent), file.stem, sounds, rejects)
    return Found(sounds, rejects, Counter())


def scan(root: Path, skip: Path | None = None) -> Found:
    """Find the sound files below `root`, honouring attributes.csv and corrections.csv in any of its folders."""
    sounds, rejects, ignored, sheets = [], [], Counter(), []

    def unreadable(error: OSError) -> None:
        rejects.append((_relative(Path(error.filename), root), "the folder may not be read (no permission)"))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        here = Path(folder)
        if skip and here.resolve() == skip.resolve():
            folders.clear()
            continue
        for name in sorted(folders):
            if name.startswith(".") or name == "__MACOSX":
                ignored["hidden"] += 1
            elif (here / name).is_symlink():
                rejects.append(
                    (_relative(here / name, root), "a link to a folder, which is not followed; copy the folder")
                )
            elif Path(name).suffix.lower() in SUFFIXES:
                rejects.append((_relative(here / name, root), "this is a folder with the name of a sound file"))
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
        for name in sorted(names):
            file, suffix = here / name, Path(name).suffix.lower()
            if name.startswith("."):
                ignored["hidden"] += 1
            elif name.lower() in ("attributes.csv", "corrections.csv"):
                sheets.append(file)
            elif name.lower().endswith(ARCHIVES):
                rejects.append((_relative(file, root), INSIDE))
            elif suffix not in SUFFIXES:
                ignored[suffix or "no suffix"] += 1
            else:
                _add(file, _relative(file, root), root.name, sounds, rejects)
    sounds.sort(key=lambda sound: (sound.path, os.fsencode(sound.file)))
    _set_apart(sounds)
    for sheet in sorted(sheets):
        rejects += _apply(sheet, root, {sound.path: sound for sound in sounds})
    return Found(sounds, rejects, ignored)


# What a damaged archive or member raises, besides OSError and RuntimeError (a password)
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
)


@contextmanager
def unpacked(archive: Path, scratch: Path) -> Iterator[Found]:
    """Unpack the sounds and sheets of a zip or tar archive below `scratch`, and scan them, for the time of the context.

    Links are not followed, but for hard ones to what the archive holds, and no member leaves the folder (CWE-22).
    """
    name = archive.name.lower()
    root = scratch / archive.name[: -max(len(s) for s in ARCHIVES if name.endswith(s))]
    root.mkdir(parents=True)
    into = _Unpacking(root)
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                for member in opened.infolist():
                    # Windows writes backslashes, also behind the names of folders, and marks these by an attribute
                    if not (member.filename.endswith(("/", "\\")) or member.external_attr & 0x10):
                        mode = member.external_attr >> 16
                        odd = any(kind(mode) for kind in (stat.S_ISFIFO, stat.S_ISCHR, stat.S_ISBLK, stat.S_ISSOCK))
                        why = LINK if stat.S_ISLNK(mode) else IRREGULAR if odd else ""
                        modified = float("".join(f"{part:02d}" for part in member.date_time[1:]))
                        into.take(member.filename, why, modified, lambda m=member: opened.open(m))
        else:
            with tarfile.open(archive) as opened:
                regular: dict[str, tarfile.TarInfo] = {}  # also hard links, which come behind what they link to
                for member in opened:
                    if member.isdir():
                        continue
                    file = (
                        member if member.isreg() else regular.get(_plain(member.linkname)) if member.islnk() else None
                    )
                    why = "" if file else LINK if member.issym() else IRREGULAR
                    if file:
                        regular[_plain(member.name)] = file
                    elif member.islnk():
                        why = f"a hard link to {_readable(member.linkname)}, which the archive does not hold before it"
                    into.take(member.name, why, member.mtime, lambda f=file: opened.extractfile(f))
    except DAMAGED as error:
        if full(error) or isinstance(error, PermissionError):
            raise  # no fault of the archive
        reason = f"the archive breaks off or is damaged ({error}); what came before was taken"
        into.rejects.append((archive.name, reason))
    try:
        found = scan(root)
        found.rejects.extend(into.rejects)
        found.ignored += into.ignored + Counter(hidden=len(into.hidden))
        yield found
    finally:
        shutil.rmtree(root, ignore_errors=True)


class _Unpacking:
    """Members of an archive as they come: those that are wanted become files below `root`, others are refused or counted."""

    def __init__(self, root: Path):
        self.root = root
        self.rejects: list[tuple[str, str]] = []
        self.ignored: Counter = Counter()
        self.hidden: set[tuple[str, ...]] = set()  # files and folders, as `scan` counts them

    def take(self, name: str, why: str, modified: float, opened) -> None:
        """Take one member, unless `why` says what speaks against it."""
        path = PurePosixPath(name.replace("\\", "/"))
        wanted = path.suffix.lower() in SUFFIXES or path.name.lower() in ("attributes.csv", "corrections.csv")
        target, said = self.root.joinpath(*map(_short, path.parts)), _readable(name)
        hidden = next((i for i, part in enumerate(path.parts, 1) if part.startswith(".") or part == "__MACOSX"), 0)
        try:
            if why:
                if wanted:
                    self.rejects.append((said, why))
            elif path.is_absolute() or ".." in path.parts or not target.resolve().is_relative_to(self.root.resolve()):
                self.rejects.append((said, "the name of this member points outside the archive; it was not unpacked"))
            elif hidden:
                self.hidden.add(path.parts[:hidden])
            elif path.name.lower().endswith(ARCHIVES):
                self.rejects.append((said, INSIDE))
            elif not wanted:
                self.ignored[path.suffix.lower() or "no suffix"] += 1
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target = unused(target)  # an archive may hold two members of one name
                with open(target, "wb") as file, opened() as member:
                    shutil.copyfileobj(member, file)
                os.utime(target, (modified, modified))
        except DAMAGED as error:
            if full(error):
                raise
            if not isinstance(error, OSError):
                target.unlink(missing_ok=True)
            self.rejects.append((said, f"this member cannot be unpacked ({getattr(error, 'strerror', '') or error})"))


def _short(part: str) -> str:
    """A name that a disk takes, of at most 255 bytes: one that is longer loses what stands before its suffix."""
    if len(part.encode("utf-8", "surrogatepass")) <= 255:
        return part
    suffix = PurePosixPath(part).suffix[:20]
    return part.encode("utf-8", "surrogatepass")[:200].decode("utf-8", "ignore") + suffix


def _plain(name: str) -> str:
    return str(PurePosixPath(name))


def _set_apart(sounds: list[Sound]) -> None:
    """Give sounds whose names are equal after normalisation names of their own: café.wav, café-2.wav."""
    taken = {sound.path for sound in sounds}
    seen = set()
    for sound in sounds:
        if sound.path in seen:
            stem, dot, suffix = sound.path.rpartition(".")
            sound.path = next(p for i in count(2) if (p := f"{stem}-{i}{dot}{suffix}") not in taken)
            taken.add(sound.path)
        seen.add(sound.path)


def _add(file: Path, path: str, root: str, sounds: list[Sound], rejects: list[tuple[str, str]]) -> None:
    try:
        status = file.stat()
    except FileNotFoundError:
        rejects.append((path, f"the link points to {_readable(os.readlink(file))}, which does not exist"))
    except OSError as error:
        rejects.append((path, f"it cannot be opened ({error.strerror})"))
    else:
        if stat.S_ISREG(status.st_mode):
            name, pack, by, certainty = labels.named(path)
            size, modified = status.st_size, status.st_mtime
            sounds.append(Sound(path, file, name, pack or _readable(root), size, modified, by, certainty))
        else:
            rejects.append((path, IRREGULAR))


def _apply(sheet: Path, root: Path, sounds: dict[str, Sound]) -> list[tuple[str, str]]:
    """Honour one attributes.csv or corrections.csv; returns what could not be, as rejects."""
    import pandas as pd

    name, rejects = _relative(sheet, root), []
    try:
        table = pd.read_csv(sheet, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig")
    except (ValueError, OSError, pd.errors.ParserError) as error:
        return [(name, f"this table cannot be read ({error}); it needs a header line and commas")]
    table.columns = [str(column).strip().lower() for column in table.columns]
    corrections = sheet.name.lower() == "corrections.csv"
    missing = {"path", "action"} - set(table.columns) if corrections else {"path"} - set(table.columns)
    if missing:
        return [(name, f"this table has the columns {', '.join(table.columns)} and needs {', '.join(sorted(missing))}")]
    base = PurePosixPath(name).parent
    for line, row in enumerate(table.to_dict("records"), start=2):
        wanted = str(base / unicodedata.normalize("NFC", row["path"].strip().replace("\\", "/")))
        sound, where = sounds.get(wanted), f"{name} line {line}"
        action, new = row.get("action", "").strip().lower(), row.get("label", "").strip()
        if sound is None:
            rejects.append((where, f"it names {wanted}, which is not among the sound files"))
        elif not corrections:
            if new:
                _relabel(sound, new)
            sound.attributes |= {key: value for key, value in row.items() if key not in ("path", "label")}
        elif action == "exclude":
            sound.excluded = f"excluded by {where}"
        elif action == "relabel" and new:
            _relabel(sound, new)
        else:
            rejects.append((where, f"action is {action!r} with label {new!r}; write exclude, or relabel with a label"))
    return rejects


def _relabel(sound: Sound, label: str) -> None:
    sound.label, sound.label_by, sound.label_certainty = labels.known(label), "table", 1.0


def _relative(file: Path, root: Path) -> str:
    return unicodedata.normalize(
        "NFC", _readable(file.relative_to(root).as_posix())
    )  # macOS writes é as two characters


def _readable(name: str) -> str:
    """A name that is not UTF-8 as Latin-1, the encoding it most often has: tables hold no broken UTF-8."""
    try:
        return os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        return os.fsencode(name).decode("latin-1")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return name.encode("utf-8", "replace").decode("utf-8")
