"""Sound files opened for what they hold: headers that announce less are mended in memory, files that break off refused."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from workbench.errors import UsageError

__all__ = ["AudioError", "open_sound"]

LARGEST = 2**28  # values, 1 GiB of float32: what one call may put into memory
RATES = (1_000, 1_000_000)  # Hz; a header with another rate is damaged
CHANNELS = 64
OPEN = 2**31 - 2**16  # programs that write into a pipe cannot know the length, and announce the largest number
NAME = re.compile(rb"[\x20-\x7e]{4}")  # of a chunk
TAIL = 2**17  # bytes at the end in which the last frame of a FLAC begins


class AudioError(UsageError):
    """A file or an array that is no sound; the message is a reason to be shown to the user."""


def open_sound(path: str | os.PathLike) -> soundfile.SoundFile:
    """Open a sound file so that `frames` is the number of frames it holds, whatever its header announces.

    A recording that was never closed, a stream of unknown length and an MP3 of variable bit rate without a table are
    read from a copy with a true header. Raises AudioError, with the reason, for a file that libsndfile takes for headerless data, that
    breaks off, or whose header is damaged.
    """
    path = Path(path)
    with open(path, "rb") as file:
        head = file.read(64)
    mended = None
    if head.startswith(b"ID3") and (tagged := _after_id3(path)):
        return tagged
    for magic, mend in MENDERS.items():
        if head.startswith(magic):
            mended = mend(path)
    name = (
        os.fsencode(path) if os.name == "posix" else path
    )  # soundfile encodes a str strictly, and a name may be no UTF-8
    opened = soundfile.SoundFile(name) if mended is None else _mended(mended, path.suffix)
    try:
        if opened.format == "MP3":
            opened = _mpeg(path, opened)
        _check(path, head, opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _mended(data: bytes, suffix: str) -> soundfile.SoundFile:
    with tempfile.NamedTemporaryFile(
        suffix=suffix, delete=False
    ) as file:  # libsndfile knows some MP3 by their suffix alone
        file.write(data)
    try:
        return soundfile.SoundFile(file.name)
    finally:
        with contextlib.suppress(OSError):  # Windows keeps what is open
            os.unlink(file.name)


def _after_id3(path: Path) -> soundfile.SoundFile | None:
    """A FLAC behind an ID3 tag, which does not belong there, as one without."""
    whole = _whole(path)
    place = 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(whole[6:10]))
    if whole[place : place + 4] != b"fLaC":
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "x.flac"
        copy.write_bytes(whole[place:])
        return open_sound(copy)


def _check(path: Path, head: bytes, file: soundfile.SoundFile) -> None:
    if file.format == "RAW":  # libsndfile goes by the suffix where it knows no header
        raise AudioError("the file has no header of a sound file; convert it to WAV or FLAC")
    if not RATES[0] <= file.samplerate <= RATES[1] or file.channels > CHANNELS:
        raise AudioError(
            f"its header is damaged: it announces {file.samplerate:,} Hz and {file.channels:,} channels, and a sound has "
            f"{RATES[0]:,} to {RATES[1]:,} Hz and at most {CHANNELS}"
        )
    if file.frames == 0:
        size = path.stat().st_size
        if size < 1024:
            raise AudioError("the file holds no frames, only a header")
        raise AudioError(
            f"its header announces no sound, and the file has {size:,} bytes: it breaks off or was never closed; "
            "fetch it again, or open it in an editor and save it"
        )
    field = "data" if head[:4] in (b"RIFF", b"RIFX") else r"data|SSND|BODY|riff|Riff size|Data size|Data length"
    if found := re.search(rf"^\s*(?:{field})\s*:?\s*(\d+) \(?should be (\d+)", file.extra_info, re.M | re.I):
        announced, there = map(int, found.groups())
        if there < announced < OPEN or announced > 2**32:
            raise _broken(announced, there, "bytes")
    frames = r"^\s*Frames\s*: (\d+)" if head[:4] in (b"FORM", b"2BIT") or head[:2] == b"\1\4" else "(?!)"
    if (found := re.search(frames, file.extra_info, re.M)) and int(found[1]) > file.frames:
        raise _broken(int(found[1]), file.frames, "frames")
    if head.startswith(b"NIST_1A"):
        with open(path, "rb") as opened:
            found = re.search(rb"sample_count -i (\d+)", opened.read(1024))
        if found and int(found[1]) > file.frames:
            raise _broken(int(found[1]), file.frames, "frames")


def _broken(announced: int, there: int, what: str) -> AudioError:
    return AudioError(
        f"the file breaks off: its header announces {announced:,} {what} of sound and {there:,} are there; "
        "fetch or export it again"
    )


def _whole(path: Path) -> bytearray:
    if (size := path.stat().st_size) > 4 * LARGEST:
        raise AudioError(f"its header must be mended, and {size:,} bytes are more than the {4 * LARGEST:,} that fit")
    return bytearray(path.read_bytes())


def _chunks(path: Path) -> bytearray | None:
    """RIFF and AIFF whose sizes were never written, or are those of a pipe: set to where the sound ends.

    Chunks that follow the sound (LIST, ID3) are found from the end, since the size that would lead to them is not known.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        order, name = ("<", b"data") if head[:4] == b"RIFF" else (">", b"data" if head[:4] == b"RIFX" else b"SSND")
        place, count = 12, None
        while place + 8 <= size:
            file.seek(place)
            kind, length = struct.unpack(order + "4sI", file.read(8))
            if kind == name:
                count = length
                break
            place += 8 + length + length % 2
        if count is None:
            return None
        if 0 < count < OPEN or 0 < count <= size - place - 8:
            return _continues(file, place + 8, count, size)
    whole = _whole(path)
    end = _before_chunks(whole, place + 8, order)
    if end <= place + 8 + 8 * (name == b"SSND"):
        return None
    del whole[end:]
    struct.pack_into(order + "I", whole, place + 4, end - place - 8)
    struct.pack_into(order + "I", whole, 4, end - 8)
    return whole


def _continues(file, place: int, count: int, size: int) -> None:
    """Refuse a header that was written when a recording had begun, and never again: what follows is neither chunk nor padding."""
    after = size - place - count
    if after <= max(4096, count // 50):
        return None
    file.seek(place + count + count % 2)
    head = file.read(4096)
    if any(head) and not NAME.match(head):
        raise AudioError(
            f"its header announces {count:,} bytes of sound, and {after:,} follow that belong to nothing: the recording was "
            "never closed; open it in an editor and save it"
        )
    return None


def _before_chunks(whole: bytearray, begin: int, order: str) -> int:
    """Where the sound ends: before the chunks, of any name, that lead one after the other to the end of the file."""
    end = len(whole)
    while True:
        low = max(begin, end - 2**22)
        part = np.frombuffer(bytes(whole[low:end]), np.uint8).astype(np.int64)
        if len(part) < 8:
            return end
        weights = [1 << 8 * k for k in (range(4) if order == "<" else range(3, -1, -1))]
        lengths = sum(part[4 + k : len(part) - 3 + k] * w for k, w in enumerate(weights))
        left = len(part) - 8 - np.arange(len(lengths)) - lengths  # 1 for a byte of padding
        named = [place for place in np.flatnonzero((left == 0) | (left == 1)) if NAME.match(whole, low + place)]
        if not named:
            return end
        end = low + int(named[0])  # the outermost of those that end here


def _au(path: Path) -> bytearray | None:
    """AU that was never closed: its size becomes "unknown", and all that follows is sound."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(24)
        if len(head) < 24:
            return None
        place, count = struct.unpack(">II" if head[:4] == b".snd" else "<II", head[4:12])
        if count or size <= place:
            return _continues(file, place, count, size) if count < OPEN else None
    whole = _whole(path)
    whole[8:12] = b"\xff" * 4
    return whole


def _voc(path: Path) -> None:
    """Creative Voice: the first block of sound says how long it is."""
    with open(path, "rb") as file:
        head = file.read(30)
    if len(head) == 30 and head[26] in (1, 9):
        announced, there = int.from_bytes(head[27:30], "little"), path.stat().st_size - 30
        if announced > there:
            raise _broken(announced, there, "bytes")


def _ogg(path: Path) -> None:
    """Walk from page to page: the last one must end the stream, and no other stream may follow."""
    flags, place, starts, size = 0, 0, 0, path.stat().st_size
    with open(path, "rb") as file:
        while place < size:
            file.seek(place)
            head = file.read(27)
            if head[:4] != b"OggS" or len(head) < 27:
                break
            lengths = file.read(head[26])
            flags, end = head[5], place + 27 + len(lengths) + sum(lengths)
            starts += bool(flags & 2 and place)
            if len(lengths) < head[26] or end > size:
                raise AudioError(f"the file breaks off in an Ogg page at byte {place:,} of {size:,}; fetch it again")
            place = end
    if not flags & 4:
        raise AudioError(
            f"the file breaks off: of {size:,} bytes the last page does not end the stream; fetch it again"
        )
    if starts:
        raise AudioError(
            f"{starts + 1} Ogg streams are joined in it, and only the first can be decoded; give them as files"
        )


def _flac(path: Path) -> bytearray | None:
    """FLAC whose STREAMINFO announces another number of frames than the last frame header tells (RFC 9639, 9.1)."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        info = file.read(42)
        if len(info) < 42 or info[4] & 127:
            return None
        file.seek(max(42, size - TAIL))
        tail = file.read()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            if whole.find(b"fLaC\0\0\0\x22", 4) > 0:
                raise AudioError(
                    "several FLAC files are joined in it, and only the first can be decoded; give them as files"
                )
    announced = int.from_bytes(info[21:26], "big") & (2**36 - 1)
    there = _last_flac_frame(tail, int.from_bytes(info[10:12], "big"))
    if there is None or there == announced:
        return None
    if there < announced:
        raise _broken(announced, there, "frames")
    whole = _whole(path)
    whole[21:26] = (int.from_bytes(info[21:26], "big") - announced + there).to_bytes(5, "big")
    if announced:
        whole[26:42] = bytes(16)  # the checksum is that of another length
    return whole


def _last_flac_frame(tail: bytes, block: int) -> int | None:
    """Frames up to the end of the last frame whose header begins in `tail`; `block` is the frames in one that is full."""
    place = len(tail)
    while (place := max(tail.rfind(b"\xff\xf8", 0, place), tail.rfind(b"\xff\xf9", 0, place))) >= 0:
        head = tail[place : place + 16]
        if len(head) < 8 or head[3] & 1 or head[2] >> 4 == 0 or head[2] & 15 == 15:
            continue
        more = next((n for n, (mask, bits) in enumerate(UTF8) if head[4] & mask == bits), None)
        if more is None:
            continue
        number = head[4] & ~UTF8[more][0] & 255
        for byte in head[5 : 5 + more]:
            number = number << 6 | byte & 63
        at, code = 5 + more, head[2] >> 4
        wide = {6: 1, 7: 2}.get(code, 0)
        length = int.from_bytes(head[at : at + wide], "big") + 1 if wide else 0
        length = length or (192 if code == 1 else 144 << code if code < 6 else 1 << code)
        at += wide + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
        if at < len(head) and _crc8(head[:at]) == head[at]:
            return length + (number if head[1] & 1 else number * block)
    return None


UTF8 = ((0x80, 0), (0xE0, 0xC0), (0xF0, 0xE0), (0xF8, 0xF0), (0xFC, 0xF8), (0xFE, 0xFC), (0xFF, 0xFE))


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 255 if crc & 128 else crc << 1
    return crc


def _mpeg(path: Path, opened: soundfile.SoundFile) -> soundfile.SoundFile:
    """The same MP3 behind a Xing header with its number of frames, where libsndfile guessed it from the first frame."""
    whole = _whole(path)
    first, count, samples, table = _mpeg_frames(whole)
    if not count or abs(count * samples - opened.frames) <= max(3 * samples, 0.01 * opened.frames):
        return opened
    if table and opened.frames > count * samples:
        raise _broken(opened.frames, count * samples, "frames")
    head = bytearray(whole[first : first + 4])
    head[2] = head[2] & 0x0C | 0x90  # without padding, and a bit rate that leaves room for the table
    side = (17 if head[3] >> 6 == 3 else 32) if head[1] & 8 else (9 if head[3] >> 6 == 3 else 17)
    head[1] |= 1  # no checksum
    xing = bytes(head) + bytes(side) + b"Xing" + struct.pack(">II", 1, count)
    opened.close()
    return _mended(xing.ljust(_mpeg_length(xing)[0], b"\0") + whole[first:], ".mp3")


def _mpeg_length(head: bytes) -> tuple[int, int]:
    """Bytes and samples of the MPEG frame (layer II or III) with this header; (0, 0) for what is none."""
    if len(head) < 4 or head[0] != 255 or head[1] & 0xE0 != 0xE0:
        return 0, 0
    version, layer, code, rate = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer not in (2, 3) or code in (0, 15) or rate == 3:
        return 0, 0
    row = RATES_MPEG[(0 if version == 3 else 1, layer)]
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * row[code - 1] * 1000 // hertz + (head[2] >> 1 & 1), samples


RATES_MPEG = {
    (0, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (1, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mpeg_frames(whole: bytearray) -> tuple[int, int, int, bool]:
    """Where the first frame of sound begins, how many there are, the samples of each, and whether a table leads them."""
    place = 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(whole[6:10])) if whole[:3] == b"ID3" else 0
    first, count, samples, table = None, 0, 0, False
    while place + 4 <= len(whole):
        length, of = _mpeg_length(whole[place : place + 4])
        following = place + length
        if not length or (
            count == 0 and following + 4 <= len(whole) and not _mpeg_length(whole[following : following + 4])[0]
        ):
            place = whole.find(b"\xff", place + 1)
            if place < 0:
                break
            continue
        if following > len(whole):
            break
        if re.search(rb"Xing|Info|VBRI", whole[place : place + 48]):
            table = True
        else:
            first = place if first is None else first
            count, samples = count + 1, of
        place = following
    return first or 0, count, samples, table


MENDERS = {
    b"RIFF": _chunks,
    b"RIFX": _chunks,
    b"FORM": _chunks,
    b".snd": _au,
    b"dns.": _au,
    b"Creative Voice": _voc,
    b"OggS": _ogg,
    b"fLaC": _flac,
}
