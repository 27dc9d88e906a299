"""Sound as rooms, microphones and lines change it; nothing moves in time, so that transcripts stay true."""

from __future__ import annotations

__all__ = ["CORRUPTIONS"]

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from pretune import audio_reading
from pretune.corruptions.base import Corruption, Record

Wave: TypeAlias = NDArray[np.float32]
Change: TypeAlias = Callable[[Wave, int, float, np.random.Generator], Wave]


def _noise(wave: Wave, rate: int, decibels: float, rng: np.random.Generator) -> Wave:
    """White noise at a ratio of signal to noise, over the whole recording."""
    noise = rng.standard_normal(len(wave), np.float32)
    power = float(np.square(wave).mean())
    return wave + noise * np.float32(np.sqrt(power / 10 ** (decibels / 10)))


def _gain(wave: Wave, rate: int, decibels: float, rng: np.random.Generator) -> Wave:
    return wave * np.float32(10 ** (decibels / 20))


def _low_pass(wave: Wave, rate: int, hertz: float, rng: np.random.Generator) -> Wave:
    """Fourth-order Butterworth, both ways, so that nothing is delayed."""
    if hertz >= rate / 2 or len(wave) < 2:
        return wave
    sections = butter(4, hertz, fs=rate, output="sos")
    return sosfiltfilt(sections, wave, padlen=min(15, len(wave) - 1)).astype(np.float32)


def _change(of_wave: Change, record: Record, strength: float, rng: np.random.Generator) -> Record:
    rate = audio_reading.header(record["audio"]).rate
    wave = (audio_reading.samples(record["audio"], rate) / 2**15).astype(np.float32)
    changed = of_wave(wave, rate, strength, rng).clip(-1, 1)  # what is beyond full scale is cut off, as recorders do
    return {**record, "audio": {"array": changed, "sampling_rate": rate}}


CORRUPTIONS = (
    Corruption("white noise", (20.0, 10.0, 0.0), "SNR {:g} dB", partial(_change, _noise)),
    Corruption("quieter", (-10.0, -20.0, -30.0), "{:g} dB", partial(_change, _gain)),
    Corruption("louder", (6.0, 12.0, 20.0), "+{:g} dB", partial(_change, _gain)),
    Corruption("low-pass", (3000.0, 1500.0, 750.0), "{:g} Hz", partial(_change, _low_pass)),
)
