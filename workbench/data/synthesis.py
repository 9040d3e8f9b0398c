"""The built-in sample pack: ten kinds of sounds from twelve pseudo-machines, made from a seed, with their factors."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

__all__ = ["FACTORS", "LABELS", "MACHINES", "Key", "keys", "make", "name"]

TREES = "Alder Aspen Beech Birch Cedar Elm Hazel Larch Linden Maple Rowan Willow"
MACHINES = tuple(TREES.split())
TAKES = 10

# What is drawn for every clip, log-uniformly between two bounds: Hz, s to -60 dB, Hz, share, ratio, s, and drive.
FACTORS = ("pitch", "decay", "brightness", "noise", "sweep", "attack", "drive")
RANGES = {
    #            pitch          decay         brightness       noise         sweep        attack           drive
    "kick": ((40, 80), (0.2, 1.0), (1200, 8000), (0.02, 0.25), (2, 8), (0.0005, 0.002), (0.5, 5)),
    "snare": ((140, 280), (0.1, 0.5), (3000, 14000), (0.4, 0.95), (1.05, 1.8), (0.0003, 0.001), (0.5, 4)),
    "tom": ((80, 280), (0.25, 1.0), (800, 5000), (0.02, 0.15), (1.1, 2.2), (0.0005, 0.003), (0.5, 2)),
    "clap": ((700, 1900), (0.12, 0.6), (2000, 10000), (0.95, 1), (1, 1.2), (0.0003, 0.001), (0.5, 2)),
    "rim": ((350, 1000), (0.03, 0.12), (2500, 10000), (0.05, 0.4), (1, 1.1), (0.0001, 0.0004), (0.5, 5)),
    "hat closed": ((250, 700), (0.03, 0.18), (7000, 17000), (0.1, 0.9), (1, 1.1), (0.0003, 0.001), (0.5, 2)),
    "hat open": ((250, 700), (0.35, 1.4), (7000, 17000), (0.1, 0.9), (1, 1.1), (0.0005, 0.003), (0.5, 2)),
    "cowbell": ((450, 720), (0.12, 0.7), (2000, 7000), (0.01, 0.06), (1, 1.05), (0.0005, 0.002), (0.5, 3)),
    "chime": ((450, 2400), (0.5, 2.0), (3000, 12000), (0.005, 0.03), (1, 1.01), (0.001, 0.006), (0.3, 0.8)),
    "lead": ((110, 880), (0.4, 1.8), (800, 7000), (0.005, 0.05), (1, 1.06), (0.004, 0.05), (0.5, 3)),
}
LABELS = tuple(sorted(RANGES))


class Key(NamedTuple):
    """Which clip: numbers of the machine, of the label in LABELS, and of the take."""

    machine: int
    label: int
    take: int


def keys(n_machines: int = len(MACHINES), per_class: int = TAKES) -> list[Key]:
    """Keys of the whole pack, machine by machine: 12 machines by 10 labels by 10 takes unless told otherwise."""
    return [Key(*numbers) for numbers in product(range(n_machines), range(len(LABELS)), range(per_class))]


def name(key: Key) -> str:
    """Where a pack of files would hold it: machine/label/label 01."""
    return f"{_machine(key)}/{LABELS[key.label]}/{LABELS[key.label]} {key.take + 1:02d}"


def make(key: Key, *, seed: int = 0, rate: int = 44_100, seconds: float = 1.0) -> tuple[np.ndarray, dict]:
    """One clip (T,) float32 and its facts: name, pack, label, and factor_pitch (Hz), factor_decay (s to -60 dB),
    factor_brightness (Hz), factor_noise (share), factor_sweep (ratio of first to last pitch), factor_attack (s),
    factor_drive, factor_velocity.

    The clip depends on seed, key, rate and length alone. 40 % of each factor's (log) range belong to the machine and
    60 % to the take, so that machines differ and overlap.
    """
    label = LABELS[key.label]
    rng = np.random.default_rng([seed, *key])
    own = np.random.default_rng([seed, key.machine, key.label]).uniform(size=len(FACTORS))
    low, high = np.array(RANGES[label]).T
    values = low * (high / low) ** (0.4 * own + 0.6 * rng.uniform(size=len(FACTORS)))
    factors = dict(zip(FACTORS, map(float, values), strict=True))
    velocity = float(rng.uniform(0.4, 1))
    factors["brightness"] *= velocity**0.5  # a soft hit is a darker one
    voice = _Voice(rng, rate, seconds, **factors)
    x = voice.colour(VOICES[label](voice), np.random.default_rng([seed, key.machine]))
    x = np.tanh(voice.drive * x / max(np.abs(x).max(), 1e-9)) / np.tanh(voice.drive)
    clip = np.zeros(round(rate * seconds), np.float32)
    kept = min(len(x), len(clip))
    clip[:kept] = velocity * 0.95 * x[:kept]
    clip[:kept] *= np.minimum(
        1, np.arange(kept, 0, -1) / (0.01 * rate)
    )  # no click where the clip ends before the sound
    facts = {"name": f"{label} {key.take + 1:02d}", "pack": _machine(key), "label": label}
    told = {f"factor_{factor}": value for factor, value in factors.items()}
    return clip, facts | told | {"factor_velocity": velocity}


class _Voice:
    """What the recipes below share: a clock, seeded noise, an envelope, oscillators and filters."""

    def __init__(self, rng: np.random.Generator, rate: int, seconds: float, **factors: float):
        self.rng, self.rate = rng, rate
        for factor in FACTORS:
            setattr(self, factor, factors[factor])
        heard = min(seconds, 1.5 * self.decay + 0.1)  # to -90 dB: what follows would be zeros
        n = next_fast_len(round(rate * heard), real=True)
        self.t = np.arange(n) / rate

    def fall(self, decay: float, attack: float = 0.0, start: float = 0.0) -> np.ndarray:
        """Exponential decay to -60 dB after `decay` s, behind a rounded attack, from `start` s on."""
        t = np.maximum(self.t - start, 0)
        rise = 1 - np.exp(-3 * t / (attack or self.attack))
        return np.where(self.t >= start, rise * np.exp(-6.908 * t / decay), 0)

    def sine(self, pitch, phase: float = 0.0) -> np.ndarray:
        """A sine whose pitch in Hz may be an array over time."""
        turns = np.cumsum(np.broadcast_to(pitch, self.t.shape)) / self.rate
        return np.sin(2 * np.pi * turns + phase)

    def glide(self, time: float) -> np.ndarray:
        """Pitch in Hz over time, from sweep * pitch down to pitch."""
        return self.pitch * (1 + (self.sweep - 1) * np.exp(-self.t / time))

    def hiss(self, low: float, high: float, slope: float = 2) -> np.ndarray:
        """Noise between two frequencies in Hz, RMS 1; steeper with the slope."""
        return self.band(self.rng.standard_normal(len(self.t)), low, high, slope)

    def band(self, x: np.ndarray, low: float, high: float, slope: float = 2) -> np.ndarray:
        """Butterworth magnitudes without phase: for steady sounds that get their envelope afterwards. RMS 1."""
        frequency = np.maximum(np.fft.rfftfreq(len(x), 1 / self.rate), 1.0)
        gain = 1 / np.sqrt((1 + (low / frequency) ** (2 * slope)) * (1 + (frequency / high) ** (2 * slope)))
        y = irfft(rfft(x) * gain, len(x))
        return y / max(y.std(), 1e-9)

    def square(self, pitch: float, phase: float) -> np.ndarray:
        """A plain square: its aliases are part of a hat's metal."""
        return np.where((pitch * self.t + phase) % 1 < 0.5, 1.0, -1.0)

    def harmonics(self, pitch, odd: bool = False, darken: float = 0.0) -> np.ndarray:
        """A saw, or a square, of at most 60 partials that die sooner the higher they are (`darken` per s)."""
        pitch = np.broadcast_to(pitch, self.t.shape)
        turn = np.exp(2j * np.pi * np.cumsum(pitch) / self.rate - darken * self.t)
        step = turn * turn if odd else turn
        partials = np.arange(1, min(60, int(min(18_000, 0.45 * self.rate) / pitch.max())) + 1, 2 if odd else 1)
        x, power = np.zeros_like(self.t), turn.copy()
        for k in partials:
            x += power.imag / k / np.sqrt(1 + (k * pitch.max() / self.brightness) ** 4)
            power *= step
        return x

    def colour(self, x: np.ndarray, machine: np.random.Generator) -> np.ndarray:
        """The machine's tone and some of the take's: three resonances (peaking filters, Bristow-Johnson's cookbook)."""
        from scipy.signal import lfilter

        for _ in range(3):
            place, height = machine.uniform(-1, 1, 2)
            turn = 2 * np.pi * min(0.4, 1500 * 2 ** (2.5 * place + self.rng.uniform(-0.7, 0.7)) / self.rate)
            amplitude = 10 ** ((8 * height + self.rng.uniform(-6, 6)) / 40)
            alpha, middle = np.sin(turn) / 2.4, -2 * np.cos(turn)
            x = lfilter(
                [1 + alpha * amplitude, middle, 1 - alpha * amplitude],
                [1 + alpha / amplitude, middle, 1 - alpha / amplitude],
                x,
            )
        return x


def _kick(v: _Voice) -> np.ndarray:
    body = v.sine(v.glide(v.rng.uniform(0.015, 0.04))) * v.fall(v.decay)
    click = 0.3 * v.hiss(200, v.brightness) * v.fall(0.025, 0.0003)
    return body + 4 * v.noise * click


def _snare(v: _Voice) -> np.ndarray:
    glide = v.glide(0.02)
    ratio = v.rng.uniform(1.5, 1.9)
    shell = (v.sine(glide) + 0.6 * v.sine(ratio * glide, 1)) * v.fall(0.6 * v.decay)
    wires = v.hiss(v.rng.uniform(500, 1500), v.brightness) * (v.fall(v.decay) + 0.5 * v.fall(0.03, 0.0003))
    return (1 - v.noise) * shell + 0.6 * v.noise * wires


def _tom(v: _Voice) -> np.ndarray:
    glide = v.glide(v.rng.uniform(0.04, 0.12))
    skin = v.sine(glide) * v.fall(v.decay) + 0.25 * v.sine(1.59 * glide) * v.fall(0.4 * v.decay)  # circular membrane
    return skin + 2 * v.noise * v.hiss(150, v.brightness) * v.fall(0.06)


def _clap(v: _Voice) -> np.ndarray:
    gaps = np.cumsum(np.append(0, v.rng.uniform(0.006, 0.016, v.rng.integers(2, 5))))
    hands = sum(v.rng.uniform(0.6, 1) * v.fall(v.rng.uniform(0.02, 0.05), start=gap) for gap in gaps[:-1])
    room = v.rng.uniform(0.4, 1) * v.fall(v.decay, start=gaps[-1])
    return v.hiss(v.rng.uniform(0.4, 0.8) * v.pitch, 0.5 * (v.pitch + v.brightness)) * (hands + room)


def _rim(v: _Voice) -> np.ndarray:
    ratio = v.rng.uniform(2.2, 3.6)
    wood = v.sine(v.pitch, 1) * v.fall(v.decay) + 0.8 * v.sine(ratio * v.pitch, 1) * v.fall(0.7 * v.decay)
    return wood + 1.5 * v.noise * v.hiss(1000, v.brightness) * v.fall(0.015, 0.0001)


def _hat(v: _Voice) -> np.ndarray:
    ratios = np.array([1, 1.304, 1.466, 1.787, 1.932, 2.536]) * v.rng.uniform(
        0.95, 1.05, 6
    )  # six squares, as in the TR-808
    metal = sum(v.square(v.pitch * ratio, i / 6) for i, ratio in enumerate(ratios))
    low, slope = v.rng.uniform(2500, 8000), v.rng.uniform(1, 3)
    x = (1 - v.noise) * v.band(metal, low, v.brightness, slope) + v.noise * v.hiss(low, v.brightness, slope)
    return x * (v.rng.uniform(0.3, 1) * v.fall(v.decay) + v.rng.uniform(0, 0.8) * v.fall(0.4 * min(0.1, v.decay)))


def _cowbell(v: _Voice) -> np.ndarray:
    ratio = v.rng.uniform(1.44, 1.52)
    x = v.harmonics(v.pitch, odd=True) + v.harmonics(ratio * v.pitch, odd=True)
    x = v.band(x, 0.9 * v.pitch, v.brightness)
    return x * (v.fall(v.decay) + v.fall(0.03)) + 8 * v.noise * v.hiss(1000, 6000) * v.fall(0.01)


def _chime(v: _Voice) -> np.ndarray:
    ratios = np.array([1, 2.756, 5.404, 8.933])  # a free bar
    x = np.zeros_like(v.t)
    for ratio in ratios[ratios * v.pitch < 0.45 * v.rate]:
        level = 1 / np.sqrt(1 + (ratio * v.pitch / v.brightness) ** 2) / ratio**0.5
        beat = v.sine(ratio * v.pitch) + 0.3 * v.sine(ratio * v.pitch * 1.002 + 1)
        x += level * beat * v.fall(v.decay / ratio**0.5)
    return x + 4 * v.noise * v.hiss(2000, v.brightness) * v.fall(0.02)


def _lead(v: _Voice) -> np.ndarray:
    vibrato = 1 + 0.004 * np.sin(2 * np.pi * v.rng.uniform(4, 7) * v.t) * np.minimum(1, v.t / 0.3)
    pitch, odd = v.glide(0.03) * vibrato, bool(v.rng.integers(2))
    darken = v.rng.uniform(0.2, 2)
    x = v.harmonics(pitch, odd, darken) + 0.7 * v.harmonics(pitch * v.rng.uniform(1.002, 1.008), odd, darken)
    return (x + v.noise * v.hiss(500, v.brightness)) * v.fall(v.decay)


VOICES = {
    "kick": _kick,
    "snare": _snare,
    "tom": _tom,
    "clap": _clap,
    "rim": _rim,
    "hat closed": _hat,
    "hat open": _hat,
    "cowbell": _cowbell,
    "chime": _chime,
    "lead": _lead,
}


def _machine(key: Key) -> str:
    again, number = divmod(key.machine, len(MACHINES))
    return MACHINES[number] + (f" {again + 1}" if again else "")
