"""Tunes -> sound: a few harmonics that die away, as of a plucked or struck string."""

import io
import wave
from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError
from .tunes import Tune

_HARMONICS = (1.0, 0.55, 0.32, 0.18, 0.1, 0.06, 0.035)
_FADE = 1.3  # 1/s at A4: how fast the first harmonic dies away, the k-th k times as fast
_ATTACK, _RELEASE = 0.006, 0.09  # seconds
_TAIL = 0.3  # seconds of silence at the end
_PEAK = 0.8  # of full scale: -1.9 dB
_LONGEST = 3600  # seconds


def wav_bytes(music: Tune | Sequence[Tune], rate: int = 22_050) -> bytes:
    """A WAV file, 16 bits, one channel; several tunes follow each other, with a bar of rest between.

    The loudest moment is brought to 0.8 of full scale. Raises ConfigError for more than an hour.
    """
    tunes = [music] if isinstance(music, Tune) else list(music)
    step = [60.0 / tune.tempo / tune.grid for tune in tunes]
    rests = [(tune.bar or 4 * tune.grid) * seconds for tune, seconds in zip(tunes, step, strict=True)]
    starts = np.cumsum([0.0, *(tune.seconds + rest for tune, rest in zip(tunes, rests, strict=True))])
    whole = starts[-1] - (rests[-1] if rests else 0.0) + _TAIL + _RELEASE
    if whole > _LONGEST:
        raise ConfigError(f"this music takes {whole / 60:,.0f} minutes", hint="write at most an hour, or .mid")
    sound = np.zeros(int(whole * rate) + 1, np.float32)
    for tune, first, seconds in zip(tunes, starts.tolist(), step, strict=False):
        _add(sound, tune, first, seconds, rate)
    peak = float(np.abs(sound).max(initial=0.0))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(sound * (_PEAK * 32_767 / peak if peak else 0.0)).astype("<i2").tobytes())
    return out.getvalue()


def _add(sound: np.ndarray, tune: Tune, first: float, step: float, rate: int) -> None:
    """Adds a tune that begins `first` seconds in. Equal notes are made once."""
    kinds, which = np.unique(np.stack([tune.pitch.astype(np.int64), tune.length], 1), axis=0, return_inverse=True)
    at = np.rint((first + tune.start * step) * rate).astype(np.int64)
    order = np.argsort(which.reshape(-1), kind="stable")
    parts = np.split(at[order], np.cumsum(np.bincount(which.reshape(-1)))[:-1]) if len(kinds) else []
    for (pitch, length), places in zip(kinds.tolist(), parts, strict=True):
        tone = _tone(pitch, length * step, rate)
        for place in places.tolist():
            sound[place : place + len(tone)] += tone[: len(sound) - place]


def _tone(pitch: int, seconds: float, rate: int) -> np.ndarray:
    """One note, with its release after it. float32"""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    fade = _FADE * (frequency / 440.0) ** 0.5
    n = int((seconds + _RELEASE) * rate) + 1
    t = np.arange(n) / rate
    # The k-th harmonic is the k-th power of the first: a polynomial, by Horner's rule.
    first = np.exp((2j * np.pi * frequency - fade) * t)
    heard = [a for k, a in enumerate(_HARMONICS, 1) if k * frequency < 0.45 * rate] or [0.0]
    total = np.full(n, heard[-1], complex)
    for amplitude in reversed(heard[:-1]):
        total = total * first + amplitude
    swell = 0.5 - 0.5 * np.cos(np.pi * np.clip(t / _ATTACK, 0, 1))
    ebb = 0.5 + 0.5 * np.cos(np.pi * np.clip((t - seconds) / _RELEASE, 0, 1))
    return ((total * first).imag * swell * ebb).astype(np.float32)
