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
    "crash": "crash cr cy cym cymb cymbal splash china crashcymbal",
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
    "hat closed": ("hat closed", "hat open", "ride"),
    "crash": ("crash", "ride", "hat closed", "hat open"),
    "perc": ("shaker", "tambourine", "conga", "clave", "tabla", "cowbell"),
}
# A more specific word wins over these, and a lower rank over a higher one: "Synth Bass" is a bass, "Bass Kick" a kick.
RANKS = (
    "",
    "hat hihat hh cymbal cymb cy cym",
    "bass subbass chord stab vocal vox voice",
    "perc prc percussion lead synthlead pad ambient ambi fx sfx effect noise glitch chime bell snap fingersnap stick",
    "synth",
)
GENERAL = {word: rank for rank, words in enumerate(RANKS) for word in words.split()}
OPEN = {"open", "opened", "opn", "op", "o"}  # a single letter counts only where a hat is named
CLOSED = {"closed", "close", "cls", "cl", "c", "tight", "pedal", "ped", "foot"}
JOINING = {"and", "und", "et", "y", "n", "with", "mit"}
# Words that say nothing of a class, and do not make a pack of the folder of one.
ORDINARY = (
    "drum drums sample samples sound sounds one shot shots oneshot oneshots hit hits wav wavs audio loop loops misc various all "
    "acoustic acou electronic electric elec analog analogue digital real live vintage processed raw clean dirty layered tuned "
    "distorted lofi long short hard soft big small fat deep heavy light dark bright loud quiet dry wet low mid high lo hi"
)
FILLERS = OPEN | CLOSED | set(ORDINARY.split())
# Makers and machines whose names run on into that of the drum: Linnohat, Sdsvtom.
MAKERS = (
    "linn|lm|jomox|oberheim|dmx|simmons|sdsv|sds|roland|tr|cr|korg|kr|mfb|vermona|boss|dr|casio|rz|yamaha|rx|ry|akai|xr|"
    "alesis|sr|hr|emu|sequential|drumtraks|tama"
)
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
    said, rank, short = _name(stem)
    if said == "hat closed" and rank:
        said = _hat(stem, *filter(_only_opens, reversed(inner)))
    own = _plain(inner[-1]) if inner else ""
    for depth in range(len(inner) - 1, -1, -1):
        found = _classes(inner[depth])
        if len(found) > 1:
            own = ""
            if said in found or (said == "hat open" and "hat closed" in found):
                break
        if len(found) != 1:
            continue
        [(label, general)] = found.items()
        within = WITHIN.get(label, ()) if general else ()
        if said in within:
            label, by = said, "folder and file name"
        elif within and said and rank < min(general, 2) and not short:  # Hats/Kick 1
            label, by = said, "file name"
        elif said and said != label and not (said == "hat closed" and label == "hat open"):
            by = "folder against the file name"
        else:
            by = "folder and file name" if said else "folder"
        if within and label == "hat closed" and (rank or said != label):
            label = _hat(stem, *reversed(inner[depth:]), *filter(_only_opens, reversed(inner[:depth])))
        return Named(label, pack, by, CERTAIN[by])
    from_pack = next(iter(found)) if len(found := _classes(pack)) == 1 else ""
    if said:
        by = "abbreviation in the file name" if short else "file name"
    else:
        by = "name of the pack" if from_pack else "folder of the pack's own" if own else "nothing"
    return Named(said or from_pack or own or OTHER, pack, by, CERTAIN[by])


def known(label: str) -> str:
    """A label as the table of conventions writes it (BD -> kick); one that it does not know, or with a number, stays."""
    return label if any(c.isdigit() for c in label) else _look_up(_key(label)) or label


def _key(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalpha())


def _singular(key: str) -> str:
    return key.removesuffix("s") if len(key) > 3 and key not in LABELS else key


def _look_up(key: str) -> str:
    return LABELS.get(_singular(key), "")


def _split(name: str) -> list[str]:
    """Words of a name, without those of machines: "CR78 OpenHat_3" gives open, hat; "Cr8kohat" gives kohat."""
    name = re.sub(r"(?<=[A-Z]{2})s(?![^\W\d_])", "", MACHINES.sub(" ", name))  # BDs
    return [_key(word) for word in re.findall(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]


def _classes(folder: str) -> dict[str, int]:
    """The classes that the words of a folder name, each with how general the word is (0: it is not).

    A general word in the singular goes with a more specific one (Noise Snares), unless the two are joined (Bass & Kicks).
    """
    spoken = _split(folder)
    words = [word for word in spoken if word not in JOINING]
    joined = len(words) < len(spoken) or bool(re.search("[&+,]", folder))
    alone = all(_look_up(word) or word in FILLERS for word in words)
    found, classes, i = [], {}, 0
    while i < len(words):
        for n in (3, 2, 1):
            run = "".join(words[i : i + n])
            parts = "".join(_singular(word) if _look_up(word) else word for word in words[i : i + n])
            if i + n <= len(words) and (len(run) > 2 or alone) and (label := _look_up(run) or _look_up(parts)):
                found.append((label, GENERAL.get(_singular(run), 0), run in LABELS))
                i += n - 1
                break
        i += 1
    for at, (label, rank, singular) in enumerate(found):
        better = any(other < rank and (k > at or single) for k, (_, other, single) in enumerate(found))
        if joined or not singular or not better:
            classes[label] = min(rank, classes.get(label, rank))
    hats = {"hat open", "hat closed"} & set(classes)
    if len(hats) == 2 or (hats and _opens(words) == "both"):
        classes.pop("hat open", None)
        classes["hat closed"] = 1
    return classes


def _names_classes(folder: str) -> bool:
    """Does a folder bear the names of classes and nothing else but ordinary words and an index, so that it is no pack?"""
    folder = re.sub(r"^\W*0?\d{1,2}(?!\d)", "", folder)
    words = [word for word in _split(folder) if word not in JOINING]
    if re.search(r"\d", folder) or not (_classes(folder) or _only_opens(folder)):
        return False
    return bool(_look_up("".join(words))) or all(_look_up(word) or word in FILLERS for word in words)


def _name(stem: str) -> tuple[str, int, bool]:
    """Label of the most specific word in the table, then of the longest run; of short words, where no long one is, the last.

    With how general it is and whether it was such a short one: machines lead, so that in "CR78 SD" the drum comes last.
    """
    words = _split(stem)
    runs = ["".join(words[i : i + n]) for n in (3, 2) for i in range(len(words) - n + 1)]
    behind = [word[cut:] for word in words for cut in range(2, len(word) - 2) if re.fullmatch(MAKERS, word[:cut])]
    # what is glued to a machine's number may keep letters of it: the k of Cr8kohat, the ko of Kr33kosn
    after = [_key(word) for word in re.findall(r"\d([^\W\d_]{4,})", MACHINES.sub("0", stem))]
    glued = [word[cut:] for word in after for cut in (1, 2)]
    ends = re.findall(rf"(?<![^\W_])(?:{MAKERS})\d+k?[a-z]?([a-z]{{2}})(?![^\W\d_])", stem.casefold())
    short = next(filter(_look_up, [*(word for word in reversed(words) if len(word) == 2), *ends]), "")
    for keys in ([*runs, *words], behind, glued):
        if keys := [key for key in keys if len(key) > 2 and _look_up(key)]:
            key = min(keys, key=lambda key: GENERAL.get(_singular(key), 0))
            if (rank := GENERAL.get(_singular(key), 0)) < 3 or not short:  # Synth BD 1
                return _look_up(key), rank, False
    return _look_up(short), GENERAL.get(short, 0), True


def _opens(words: list[str]) -> str:
    """Do words say that a hat is open, closed, both or (empty) nothing of it? A tight open one is open."""
    is_open = any(word in OPEN or _look_up(word) == "hat open" for word in words)
    closed = {
        word for word in words if word in CLOSED or (_look_up(word) == "hat closed" and _singular(word) not in GENERAL)
    }
    if is_open:
        return "both" if closed - {"tight"} else "open"
    return "closed" if closed else ""


def _only_opens(folder: str) -> bool:
    """Is it a folder of nothing but open, or closed, ones, which says so of the hats below it?"""
    words = _split(folder)
    return bool({"open", "opened", "closed"} & set(words)) and set(words) <= FILLERS


def _hat(*texts: str) -> str:
    """Open or closed, as the first of the texts says that does not say both."""
    said = (_opens(_split(text)) for text in texts)
    return f"hat {next((one for one in said if one in ('open', 'closed')), 'closed')}"


def _plain(name: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", name)).casefold()
