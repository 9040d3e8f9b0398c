"""Labels of sounds from the names of their folders and files, with what they were found by and how sure that is."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import NamedTuple

__all__ = ["CONVENTIONS", "OTHER", "Named", "known", "named"]

# How sample packs name things: letters only, no plural s; all else is taken off before looking up.
CONVENTIONS = {
    "kick": "kick kik kck bd kd bassdrum bdrum kickdrum drumbass drumheavykick",
    "snare": "snare snr sd sn snaredrum drumsnare",
    "hat closed": "hat hihat hh ch chh hhc hc hhcl clhat chat closedhat closedhihat closedhh hatclosed hihatclosed hhclosed "
    "hatcl cymbalclosed closedcymbal ph pedalhat hatpedal hihatpedal pedalhihat cymbalpedal",
    "hat open": "oh ohh hho ohat openhat openhihat openhh hatopen hihatopen hhopen hatop ophat cymbalopen opencymbal",
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
LABELS = {key: name for name, keys in CONVENTIONS.items() for key in [*keys.split(), name.replace(" ", "")]}
OTHER = "other"

# What a folder of many kinds leaves open is said by the file's name, or by a folder below it.
WITHIN = {
    "hat closed": ("hat closed", "hat open"),
    "crash": ("crash", "ride", "hat closed", "hat open"),
    "perc": ("shaker", "tambourine", "conga", "clave", "tabla", "cowbell"),
}
GENERAL = {"hat", "hihat", "hh", "cymbal", "cy", "cym", "perc", "prc", "percussion"}
OPEN, CLOSED = {"open", "opn", "op"}, {"closed", "close", "cls", "cl", "tight", "pedal", "ped", "foot"}
JOINING = {"and", "und", "et", "y", "n", "with", "mit"}
# Machines whose names begin like the abbreviation of a drum: the CR of CR-78 is no crash, the TB of TB-303 no tambourine.
MACHINES = re.compile(
    r"(?<![^\W\d_])(?:cr[- ]?(?:68|78|80|1000|5000|8000|8k)|mt[- ]?(?:32|400)|tb[- ]?(?:303|03|3)|sh[- ]?(?:101|09|2000|1000)|"
    r"rd[- ]?[689](?=\D)|cp[- ]?(?:70|80)|rs[- ]?(?:09|101|202|505)|ht[- ]?(?:700|3000|6000)|sn[- ]?76\d*|cb[- ]?303)",
    re.IGNORECASE,
)
CERTAIN = {
    "folder and file name": 1.0,
    "folder": 0.9,
    "file name": 0.8,
    "abbreviation in the file name": 0.6,
    "folder of the pack's own": 0.5,
    "folder against the file name": 0.4,
    "name of the pack": 0.3,
    "nothing": 0.0,
}


class Named(NamedTuple):
    """Label and pack ("" outside of any), what the label was found by, and how certain that is, from 0 to 1."""

    label: str
    pack: str
    by: str
    certainty: float


def named(path: str) -> Named:
    """Read label and pack from a relative path: the nearest folder that names one class, and the file's name.

    A folder that names two classes decides nothing. Where a folder names a general class (hats, cymbals, percussion), the
    file's name or a folder between says which of them. A folder that names no class is one of the user's own.

    >>> named("RolandTR808/bd/BD01.wav")
    Named(label='kick', pack='RolandTR808', by='folder and file name', certainty=1.0)
    >>> named("My Pack/CR78 OpenHat 3.wav")[:2], named("Hats/Open/1.wav")[:2]
    (('hat open', 'My Pack'), ('hat open', ''))
    """
    *folders, name = PurePosixPath(path).parts
    stem = PurePosixPath(name).stem
    pack = folders[0] if folders and not _names_classes(folders[0]) else ""
    inner = folders[1:] if pack else folders
    said, short = _name(stem)
    for depth in range(len(inner) - 1, -1, -1):
        found = _classes(inner[depth])
        if len(found) != 1:
            continue
        label, general = found.pop()
        between = " ".join([*inner[depth:], stem])
        if general and said in WITHIN[label]:
            label, by = said, "folder and file name"
        elif said and said != label and not (said == "hat closed" and label == "hat open"):
            by = "folder against the file name"
        else:
            by = "folder and file name" if said else "folder"
        if general and label == "hat closed":
            label = _hat(between)
        return Named(label, pack, by, CERTAIN[by])
    own = _plain(inner[-1]) if inner else ""
    from_pack = _name(pack)[0]
    by = (
        ("abbreviation in the file name" if short else "file name")
        if said
        else "name of the pack"
        if from_pack
        else "folder of the pack's own"
        if own
        else "nothing"
    )
    return Named(said or from_pack or own or OTHER, pack, by, CERTAIN[by])


def known(label: str) -> str:
    """A label as the table of conventions writes it (BD -> kick); one that it does not know, or with a number, stays."""
    return label if any(c.isdigit() for c in label) else _look_up(_key(label)) or label


def _key(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalpha())


def _look_up(key: str) -> str:
    return LABELS.get(key) or LABELS.get(key.removesuffix("s"), "")


def _split(name: str) -> list[str]:
    """Words of a name, without those of machines: "CR78 OpenHat_3" gives open, hat; "Cr8kohat" gives kohat."""
    return [_key(word) for word in re.findall(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", MACHINES.sub(" ", name))]


def _classes(folder: str) -> set[tuple[str, bool]]:
    """The classes that the words of a folder name, each with whether it is a general one."""
    words, found, i = [word for word in _split(folder) if word not in JOINING], set(), 0
    alone = len(words) == 1
    while i < len(words):
        for n in (3, 2, 1):
            run = "".join(words[i : i + n])
            singular = "".join(word.removesuffix("s") if _look_up(word) else word for word in words[i : i + n])
            if i + n <= len(words) and (len(run) > 2 or alone) and (label := _look_up(run) or _look_up(singular)):
                found.add((label, run.removesuffix("s") in GENERAL))
                i += n - 1
                break
        i += 1
    if {("hat open", False), ("hat closed", False)} <= found or {("hat open", False), ("hat closed", True)} <= found:
        found = found - {("hat open", False), ("hat closed", False)} | {("hat closed", True)}
    return found


def _names_classes(folder: str) -> bool:
    """Does a folder bear the names of classes and nothing else, so that it is no pack?"""
    words = [word for word in _split(folder) if word not in JOINING]
    return (
        not re.search(r"\d", folder)
        and bool(_classes(folder))
        and (bool(_look_up("".join(words))) or all(_look_up(word) or word in OPEN | CLOSED for word in words))
    )


def _name(stem: str) -> tuple[str, bool]:
    """Label of the longest run of words in the table; of single words the long ones first, then the last short one.

    With whether it was such a short one: machines lead, so that in "CR78 SD" the drum comes last.
    """
    words = _split(stem)
    runs = ["".join(words[i : i + n]) for n in (3, 2) for i in range(len(words) - n + 1)]
    long = [word for word in words if len(word) > 2]
    if label := next(filter(None, map(_look_up, [*runs, *long])), ""):
        return (_hat(stem) if label == "hat closed" else label), False
    # what is glued to a machine's number may keep a letter of it: the k of Cr8kohat
    glued = [_key(word)[cut:] for word in re.findall(r"\d([^\W\d_]{4,})", MACHINES.sub("0", stem)) for cut in (1, 2)]
    if label := next(filter(None, (_look_up(word) for word in glued if len(word) > 2)), ""):
        return label, False
    return next(filter(None, map(_look_up, reversed([word for word in words if len(word) == 2]))), ""), True


def _hat(text: str) -> str:
    words = set(_split(text))
    return "hat open" if words & (OPEN | {"oh"}) and not words & CLOSED else "hat closed"


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", name)).casefold()
