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

from . import labels
from .audio import SUFFIXES
from .files import full, unused

__all__ = ["ARCHIVES", "Found", "Sound", "recording", "scan", "unpacked"]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


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
                rejects.append((_relative(file, root), "an archive inside the pack; unpack it, or give it as a source"))
            elif suffix not in SUFFIXES:
                ignored[suffix or "no suffix"] += 1
            else:
                _add(file, _relative(file, root), root.name, sounds, rejects)
    sounds.sort(key=lambda sound: (sound.path, os.fsencode(sound.file)))
    _told_apart(sounds)
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
def unpacked(archive: Path, scratch: Path) -> Iterator[tuple[Path, list[tuple[str, str]]]]:
    """Unpack the sounds and sheets of a zip or tar archive below `scratch`, for the time of the context.

    Yields the folder and the rejects. Links are not followed, and no member leaves the folder (CWE-22).
    """
    name = archive.name.lower()
    root = scratch / archive.name[: -max(len(s) for s in ARCHIVES if name.endswith(s))]
    root.mkdir(parents=True)
    rejects: list[tuple[str, str]] = []
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                for member in opened.infolist():
                    # Windows writes backslashes, also behind the names of folders, and marks these by an attribute
                    if not (member.filename.endswith(("/", "\\")) or member.external_attr & 0x10):
                        link = stat.S_ISLNK(member.external_attr >> 16)
                        modified = float("".join(f"{part:02d}" for part in member.date_time[1:]))
                        _extract(root, member.filename, link, modified, lambda m=member: opened.open(m), rejects)
        else:
            with tarfile.open(archive) as opened:
                for member in opened:
                    if not member.isdir():
                        extract = lambda m=member: opened.extractfile(m)  # noqa: E731
                        _extract(root, member.name, not member.isreg(), member.mtime, extract, rejects)
    except DAMAGED as error:
        if full(error) or isinstance(error, PermissionError):
            raise  # no fault of the archive
        rejects.append((archive.name, f"the archive breaks off or is damaged ({error}); what came before was taken"))
    try:
        yield root, rejects
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _extract(root: Path, name: str, link: bool, modified: float, opened, rejects: list) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    wanted = path.suffix.lower() in SUFFIXES or path.name.lower() in ("attributes.csv", "corrections.csv")
    target, said = root.joinpath(*path.parts), _readable(name)
    try:
        if link:
            if wanted:
                rejects.append((said, "a link inside an archive, which is not followed"))
        elif path.is_absolute() or ".." in path.parts or not target.resolve().is_relative_to(root.resolve()):
            rejects.append((said, "the name of this member points outside the archive; it was not unpacked"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            if wanted:
                target = unused(target)  # an archive may hold two members of one name
            with open(target, "wb") as file:
                if wanted:  # what is no audio is only counted, by its empty file
                    with opened() as member:
                        shutil.copyfileobj(member, file)
            os.utime(target, (modified, modified))
    except DAMAGED as error:
        if full(error):
            raise
        if not isinstance(error, OSError):
            target.unlink(missing_ok=True)
        rejects.append((said, f"this member cannot be unpacked ({getattr(error, 'strerror', '') or error})"))


def _told_apart(sounds: list[Sound]) -> None:
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
            rejects.append((path, "this is no regular file"))


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
