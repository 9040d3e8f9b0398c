"""Where sounds begin in a file: events that rise out of silence, noise or the decay of the one before."""

from __future__ import annotations

import warnings
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

__all__ = ["Piece", "pieces"]

BAND = (25.0, 16_000.0)  # Hz; offsets, subsonic rumble and ultrasonic noise do not count
FRAME = 0.001  # s; times below count in frames of this length
PARTS = (25.0, 250.0, 2_000.0, 16_000.0)  # Hz; an event may rise in one part only
PART = 10 ** (-24 / 20)  # of the peak: level that an event needs there
RISE = 10 ** (8 / 20)  # an event exceeds the 30 ms before it by 8 dB
BEFORE, ATTACK, BODY, LEVEL = 30, 12, 30, 400
ROW = 3  # events from which a file counts as a row of sounds, in which changes of the spectrum begin sounds, too
GAP = 50  # frames of silence that separate two events; the strokes of a clap or flam are closer
LOW = 0.01  # of the peak: -40 dB is silence
QUIET, FAINT = (
    10 ** (-24 / 20),
    10 ** (-36 / 20),
)  # of the peak: fainter events are bleed or noise; still fainter ones none
LEAD_IN = 0.125  # of an event's level: what rises slowly before it, below 18 dB, does not belong to it
STEADY, LONG = 0.33, 100  # of its level: what does not decay before it, below 10 dB and for 0.1 s, is background
TICK = 3  # frames; what lasts no longer is a tick
ENERGY = 20  # frames over which loudness is taken
INSIDE = 0.9  # share of an event's energy that makes it lie inside a clip
LOUDEST = 0.25  # share of the greatest energy that the clip must reach: 6 dB
ONSET = 0.0015  # s kept before the detected start, so that the attack is whole


TICKS = f"a tick of at most {TICK} ms, which is no sound"
BACKGROUND = "steady background before a louder sound, such as hum or hiss"
BLEED = "more than 24 dB below the loudest sound of the file: taken for noise or bleed"


class Piece(NamedTuple):
    """One sound of a file: frames [start, end), the number of events in it, and why it cannot be a clip, if so."""

    start: int
    end: int
    events: int = 1
    reason: str = ""


def pieces(x: np.ndarray, rate: float, seconds: float) -> list[Piece]:
    """Cut (T,) into sounds for clips of `seconds`: one piece where all events fit into a clip, else one for each event.

    An event begins where the level exceeds that of the 30 ms before by 8 dB, or rises out of 50 ms of silence (40 dB
    below the peak, or the steady noise that precedes the loudest moment). Background before an event is left out. Pieces
    with a reason (ticks, or a loudest moment that lies outside the clip) are to be refused. Silence gives none.
    """
    level = _Level(x, rate)
    if not level.raw.any():
        return []
    starts, faint = level.events()
    clip = round(seconds / FRAME)
    if len(starts) >= ROW and len(x) > seconds * rate:
        starts = level.with_changes(starts, x)
    ends = [*starts[1:], len(level.peaks)]
    energy = np.append(0, np.cumsum(level.power))
    inside = [
        energy[max(s, min(e, starts[0] + clip))] - energy[s] >= INSIDE * (energy[e] - energy[s])
        for s, e in zip(starts, ends, strict=True)
    ]
    if all(inside[1:]):
        spans = [(starts[0], ends[-1])]
    else:
        spans = list(zip(starts, ends, strict=True))
    found, last = [], len(x)
    for start, end in reversed(spans):
        loud = level.loud[start : max(start + 1, end - ENERGY)]  # it looks ahead, where the next event lies
        reason = ""
        if loud[:clip].max() < LOUDEST * loud.max():
            reason = (
                f"its loudest moment comes {loud.argmax() * FRAME:.2f} s after it begins, and a clip lasts {seconds:.2f} s; "
                "ask for longer clips, or cut the file"
            )
        first = level.sample(start)
        events = sum(start <= event < min(end, start + clip) for event in (*starts, *faint))
        found.append(Piece(first, last, events, reason))
        last = first
    single = len(spans) == 1
    clips = [(s - ATTACK, min(e, s + clip)) for s, e in spans]
    whole = [(s - ATTACK, e) for s, e in spans]
    for frames, covered, reason in (
        (level.ticks(), whole if single else clips, TICKS),  # in the tail of a single sound they are crackle
        (faint, clips, BLEED),
        (level.backgrounds, clips, BACKGROUND),
    ):
        for frame in frames:
            if not any(s <= frame < e for s, e in covered):
                at = round(frame * FRAME * rate)
                found.append(Piece(at, at, 0, reason))
    return sorted(found)


class _Level:
    """Level of (T,) in frames of 1 ms: peaks and power in the whole band, and how peaks rise in that and in parts of it.

    Spikes of less than 4 ms are taken out (a morphological opening), so that a tick is no event and hides none.
    """

    def __init__(self, x: np.ndarray, rate: float):
        from scipy.ndimage import uniform_filter1d

        self.rate, self.size = rate, max(1, round(FRAME * rate))
        self.count = -(-len(x) // self.size)
        x = x.astype(np.float64) - x[:1]
        self.y = np.abs(self._band(x, *BAND))
        self.raw, self.peaks, self.power = self._frames(self.y)
        loud = uniform_filter1d(np.pad(self.power, (0, ENERGY)), ENERGY, mode="constant")  # centred, hence the slice
        self.loud = np.maximum(loud[ENERGY // 2 :][: self.count], 0)
        self.loudest = int(self.loud.argmax())
        self.after, self.before = self._around(self.peaks)
        self.clean = np.where(self.raw > RISE * self.peaks, self.peaks, self.raw)  # noise keeps its peaks
        self.peak = self.clean[max(0, self.loudest - ATTACK) : self.loudest + ENERGY].max(initial=0)
        self.backgrounds: list[int] = []
        self.bands = [(self.after, self.before, self.power, self.peaks, 1.6 * LOW)]
        for low, high in pairwise(PARTS):
            if low < 0.4 * rate:
                _, peaks, power = self._frames(np.abs(self._band(x, low, high)))
                self.bands.append((*self._around(peaks), power, peaks, PART))

    def _band(self, x: np.ndarray, low: float, high: float) -> np.ndarray:
        from scipy.signal import sosfilt

        return sosfilt(_filter(low, high, self.rate), x)

    def _frames(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Peak of each frame of the magnitudes (T,), and without spikes peak and mean power."""
        from scipy.ndimage import grey_opening

        blocks = np.pad(y, (0, self.count * self.size - len(y))).reshape(self.count, self.size)
        raw, power = blocks.max(1), np.square(blocks).mean(1)
        return raw, grey_opening(raw, TICK + 1), grey_opening(power, TICK + 1)

    def _around(self, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Greatest peak of the 12 frames from each on, and of the 30 before it."""
        from scipy.ndimage import maximum_filter1d  # its windows are centred, hence the slices

        after = maximum_filter1d(np.pad(peaks, (0, ATTACK)), ATTACK, mode="constant")[ATTACK // 2 :]
        before = maximum_filter1d(np.pad(peaks, (BEFORE, 0)), BEFORE, mode="constant")[BEFORE // 2 :]
        return after[: self.count], before[: self.count]

    def events(self) -> tuple[list[int], list[int]]:
        """Frames in which events begin, and in which faint ones do."""
        noise = self._background()
        loud = np.flatnonzero((self.peaks >= LOW * self.peak) & (self.loud >= (2 * noise) ** 2))
        if not len(loud):  # nothing but a spike
            return [int(self.raw.argmax())], []
        breaks = np.flatnonzero(np.diff(loud) > GAP)
        hits, starts, faint = self._hits(), [], []
        for begin, end in zip(loud[np.r_[0, breaks + 1]], loud[np.r_[breaks, -1]] + 1, strict=True):
            own = [hit for hit in hits if begin - ATTACK <= hit < end]
            if own and own[0] - begin < GAP:
                own[0] = own[0] if noise else min(own[0], int(begin))
                if len(own) > 1 and self._background_before(own[0], own[1], 0):
                    del own[0]
            elif not (own and self._background_before(begin, own[0], LEAD_IN)):
                own.insert(0, int(begin))
            for i, start in enumerate(own):
                following = own[i + 1] if i + 1 < len(own) else end
                quiet = self.clean[start : min(start + LEVEL, following)].max() < QUIET * self.peak
                if quiet and following < end and following - start < LONG:
                    own[i + 1] = start  # the first strokes of a guiro belong to it
                else:
                    (faint if quiet else starts).append(start)
        return starts, [
            start for start in faint if start < self.count - GAP and self.after[start] >= 0.8 * LOW * self.peak
        ]

    def ticks(self) -> list[int]:
        """Frames of spikes as loud as events."""
        high = np.flatnonzero(self.raw >= np.maximum(QUIET * self.peak, RISE * np.maximum(self.peaks, LOW * self.peak)))
        return [int(group[0]) for group in np.split(high, np.flatnonzero(np.diff(high) > TICK) + 1) if len(group)]

    def _hits(self) -> list[int]:
        """Sharp rises in any part of the band that are 50 ms apart; one that is refused hides none of those that follow."""
        found, hits = set(), []
        for after, before, power, peaks, least in self.bands:
            rises = after >= RISE * np.maximum(before, 0.3 * LOW * self.peak)
            rising = np.flatnonzero(rises & (after >= least * self.peak))
            for group in np.split(rising, np.flatnonzero(np.diff(rising) > 5) + 1) if len(rising) else []:
                window = peaks[group[0] : group[-1] + ATTACK + 1]
                hit = int(group[0] + np.argmax(window >= max(0.1 * after[group].max(), 1.4 * before[group[0]])))
                if not hit or power[hit : hit + BODY].mean() >= 4 * power[max(0, hit - BODY) : hit].mean():
                    found.add(hit)  # else it is the click where a sound breaks off
        for hit in sorted(found):
            if not hits or hit - hits[-1] >= GAP:
                hits.append(hit)
        return hits

    def _background(self) -> float:
        """RMS of steady noise before the loudest moment; 0 where there is none, or where it is no background."""
        power = self.loud[: max(0, self.loudest - 60) : 10]
        rms = np.sqrt(power[power > (1e-5 * self.peak) ** 2])
        if len(rms) < 10:
            return 0.0
        low, middle = np.quantile(rms, [0.1, 0.5])
        return middle if middle < 2 * low and middle < 0.1 * self.peak else 0.0

    def _background_before(self, begin: int, hit: int, least: float) -> bool:
        """Is all from `begin` to a hit background: below `least` of its level, or of a level that does not decay?"""
        lead = self.clean[begin : max(begin + 1, hit - ATTACK)]
        level = self.clean[hit : hit + BODY].max()
        if len(lead) < LONG:
            return False
        if lead.max() <= least * level:
            return True
        first, last = (np.mean(part**2) for part in (lead[: len(lead) // 3 + 1], lead[-(len(lead) // 3 + 1) :]))
        if lead.max() > STEADY * level or last < 0.25 * first:
            return False
        if lead.max() >= QUIET * self.peak:
            self.backgrounds.append(int(begin))
        return True

    def with_changes(self, starts: list[int], x: np.ndarray) -> list[int]:
        """The starts, and where the spectrum changes (spectral flux; Böck and Widmer 2013, as in librosa) as loud as there."""
        import librosa  # brings a compiler along: only who cuts a row of sounds waits for it

        hop = max(1, round(0.005 * self.rate))
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of mel bands narrower than a bin
            rise = librosa.onset.onset_strength(
                y=np.pad(x, (0, 2048)).astype(np.float32), sr=self.rate, n_fft=1024, hop_length=hop
            )
        changes = librosa.onset.onset_detect(
            onset_envelope=rise, sr=self.rate, hop_length=hop, wait=GAP // 5, delta=0.3
        )
        found = list(starts)
        changes = changes * hop // self.size
        for frame in changes[changes < self.count - BODY]:
            grown = self.power[frame : frame + BODY].mean() >= 0.5 * self.power[max(0, frame - BODY) : frame + 1].mean()
            loud = self.clean[frame : frame + BODY].max() >= QUIET * self.peak
            if grown and loud and np.abs(np.array(found) - frame).min() >= GAP:
                found.append(int(frame))
        return sorted(found)

    def sample(self, frame: int) -> int:
        """The sample at which the event of a frame begins, 1.5 ms before the level leaves what came before."""
        begin = max(0, frame - 2) * self.size
        part = self.y[begin : (frame + ATTACK) * self.size]
        prior = self.y[max(0, begin - BODY * self.size) : begin].max(initial=0)
        least = max(LOW * self.peaks[frame : frame + BODY].max(), 1.2 * prior)
        return max(0, begin + int(np.argmax(part >= least)) - round(ONSET * self.rate))


@cache
def _filter(low: float, high: float, rate: float) -> np.ndarray:
    from scipy.signal import butter

    if high < 0.45 * rate:
        return butter(2, (low, high), "bandpass", fs=rate, output="sos")
    return butter(2, low, "highpass", fs=rate, output="sos")
