"""What a user's pack holds: the sound files of a folder or an archive, their labels, their corrections."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .audio import SUFFIXES

__all__ = ["ARCHIVES", "CONVENTIONS", "Found", "Sound", "label", "recording", "scan", "unpacked"]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

# How sample packs name things: letters only, no plural s; all else is taken off before looking up.
CONVENTIONS = {
    "kick": "kick kik kck bd kd bassdrum bdrum kickdrum drumbass drumheavykick",
    "snare": "snare snr sd sn snaredrum drumsnare",
    "hat closed": "hat hihat hh ch chh hhc hc hhcl clhat closedhat closedhihat closedhh hatclosed hihatclosed hhclosed "
    "hatcl cymbalclosed closedcymbal ph pedalhat hatpedal hihatpedal pedalhihat cymbalpedal",
    "hat open": "oh ohh hho openhat openhihat openhh hatopen hihatopen hhopen hatop ophat cymbalopen opencymbal",
    "tom": "tom lt mt ht lowtom midtom hitom hightom lotom tomlow tommid tomhi tomhigh tomlo floortom",
    "clap": "clap cp clp handclap snap fingersnap",
    "rim": "rim rs rimshot sidestick crossstick stick",
    "cowbell": "cowbell cb",
    "crash": "crash cr cy cym cymbal splash china crashcymbal",
    "ride": "ride rd ridecymbal",
    "shaker": "shaker sh shk maraca ma cabasa",
    "tambourine": "tambourine tamb tb tmb",
    "conga": "conga cga bongo lowconga midconga hiconga",
    "clave": "clave cl woodblock",
    "tabla": "tabla",
    "perc": "perc prc percussion",
    "chime": "chime bell glockenspiel",
    "bass": "bass subbass",
    "lead": "lead synth synthlead",
    "chord": "chord stab",
    "pad": "pad ambient ambi",
    "vocal": "vocal vox voice",
    "fx": "fx sfx effect noise glitch",
}
# Folders that leave open which of their kind a file is: where its name says so, that counts.
WITHIN = {
    **dict.fromkeys(["hat", "hihat", "hh"], ("hat closed", "hat open")),
    **dict.fromkeys(["cymbal", "cy", "cym"], ("crash", "ride", "hat closed", "hat open")),
}
LABELS = {key: name for name, keys in CONVENTIONS.items() for key in [*keys.split(), name.replace(" ", "")]}
OTHER = "other"


@dataclass
class Sound:
    """One sound of a pack; `path` is relative to the source, with forward slashes. A synthetic one has a key only."""

    path: str
    file: Path | None
    label: str
    pack: str
    size: int
    modified: float
    excluded: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    key: tuple | None = None


@dataclass
class Found:
    """All that a scan saw: sounds in order of their paths, rejects (path, reason), and counts of what is no audio."""

    sounds: list[Sound]
    rejects: list[tuple[str, str]]
    ignored: Counter
    sliced: bool = False  # one long recording, to be cut at its onsets


def recording(file: Path) -> Found:
    """A single file as a source."""
    status = file.stat()
    return Found(
        [Sound(file.name, file, label(file.name)[0], file.stem, status.st_size, status.st_mtime)], [], Counter(), True
    )


def label(path: str) -> tuple[str, str]:
    """Label and pack of a relative path, by CONVENTIONS; the pack is "" for files that no pack folder holds.

    >>> label("RolandTR808/bd/BD01.wav"), label("Kicks/x.wav"), label("My Pack/CR78 OpenHat 3.wav")
    (('kick', 'RolandTR808'), ('kick', ''), ('hat open', 'My Pack'))
    """
    *folders, name = PurePosixPath(path).parts
    stem = PurePosixPath(name).stem
    pack = folders[0] if folders and not _exact(folders[0]) else ""
    inner = folders[1:] if pack else folders
    known = [_exact(folder) for folder in reversed(inner)] + [_words(folder) for folder in reversed(inner)]
    within, named = WITHIN.get(_key(inner[-1]).removesuffix("s"), ()) if inner else (), _words(stem)
    found = next(filter(None, [named if named in within else "", *known, named, _words(pack)]), "")
    # an unknown folder below the pack is a class of the user's own
    return found or (_plain(inner[-1]) if inner else "") or OTHER, pack


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
    sounds.sort(key=lambda sound: sound.path)
    for sheet in sorted(sheets):
        rejects += _apply(sheet, root, {sound.path: sound for sound in sounds})
    return Found(sounds, rejects, ignored)


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
                    if not member.is_dir():
                        link = stat.S_ISLNK(member.external_attr >> 16)
                        modified = float("".join(f"{part:02d}" for part in member.date_time[1:]))
                        _extract(root, member.filename, link, modified, lambda m=member: opened.open(m), rejects)
        else:
            with tarfile.open(archive) as opened:
                for member in opened:
                    if not member.isdir():
                        extract = lambda m=member: opened.extractfile(m)  # noqa: E731
                        _extract(root, member.name, not member.isreg(), member.mtime, extract, rejects)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # a full disk is no fault of the archive
        rejects.append((archive.name, f"the archive breaks off or is damaged ({error}); what came before was taken"))
    try:
        yield root, rejects
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _extract(root: Path, name: str, link: bool, modified: float, opened, rejects: list) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    wanted = path.suffix.lower() in SUFFIXES or path.name.lower() in ("attributes.csv", "corrections.csv")
    target = root.joinpath(*path.parts)
    if link:
        if wanted:
            rejects.append((name, "a link inside an archive, which is not followed"))
    elif path.is_absolute() or ".." in path.parts or not target.resolve().is_relative_to(root.resolve()):
        rejects.append((name, "the name of this member points outside the archive; it was not unpacked"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(target, "wb") as file:
                if wanted:  # what is no audio is only counted, by its empty file
                    with opened() as member:
                        shutil.copyfileobj(member, file)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            target.unlink(missing_ok=True)
            rejects.append((name, f"this member cannot be unpacked ({error})"))
        else:
            os.utime(target, (modified, modified))


def _add(file: Path, path: str, root: str, sounds: list[Sound], rejects: list[tuple[str, str]]) -> None:
    try:
        status = file.stat()
    except FileNotFoundError:
        rejects.append((path, f"the link points to {os.readlink(file)}, which does not exist"))
    except OSError as error:
        rejects.append((path, f"it cannot be opened ({error.strerror})"))
    else:
        if stat.S_ISREG(status.st_mode):
            name, pack = label(path)
            sounds.append(Sound(path, file, name, pack or root, status.st_size, status.st_mtime))
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
            sound.label = _known(new) or sound.label
            sound.attributes |= {key: value for key, value in row.items() if key not in ("path", "label")}
        elif action == "exclude":
            sound.excluded = f"excluded by {where}"
        elif action == "relabel" and new:
            sound.label = _known(new)
        else:
            rejects.append((where, f"action is {action!r} with label {new!r}; write exclude, or relabel with a label"))
    return rejects


def _known(label: str) -> str:
    """A label as the table of conventions writes it (BD -> kick); one that it does not know, or with a number, stays."""
    return label if any(c.isdigit() for c in label) else _exact(label) or label


def _relative(file: Path, root: Path) -> str:
    text = os.fsencode(file.relative_to(root).as_posix()).decode("utf-8", "replace")  # a table holds no broken UTF-8
    return unicodedata.normalize("NFC", text)  # macOS writes é as two characters


def _key(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalpha())


def _look_up(key: str) -> str:
    return LABELS.get(key) or LABELS.get(key.removesuffix("s"), "")


def _exact(name: str) -> str:
    """Label of a folder that is named like a class; the CR of CR78 and the MT of MT32 are no crash and no tom."""
    key = _key(name)
    alone = len(key) > 2 or key in (_key(word) for word in re.findall(r"[^\W_]+", name) if word.isalpha())
    return _look_up(key) if alone else ""


def _words(name: str) -> str:
    """Label of the longest run of words in the table; of single words the long ones first, then the last short one."""
    words = [_key(word) for word in re.findall(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]
    runs = ["".join(words[i : i + n]) for n in (3, 2) for i in range(len(words) - n + 1)]
    long = [word for word in words if len(word) > 2]
    short = [word for word in reversed(words) if len(word) == 2]  # machines lead: in "CR78 SD" the drum comes last
    return next(filter(None, map(_look_up, [*runs, *long, *short])), "")


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", name)).casefold()
