"""Small speech encoders and a corpus of synthetic sound in memory, for tests of objectives on sound."""

from __future__ import annotations

import numpy as np

from pretune.modalities.audio import Audio

WIDTH = 32


class StandInAudio(Audio):
    """The audio modality with encoders that are as small as they can be."""

    def config(self, size, family):
        found = super().config(size, family)
        for name, value in {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}.items():
            setattr(found, name, value)
        found.intermediate_size = 48
        if not self.spectral:
            found.conv_dim = [16] * 7
            found.num_conv_pos_embeddings = 8
        return found


class StandInWaves:
    """Recordings of 0.5 to 1 seconds in memory: each a voice (a pitch) that goes through a few vowels (formants)."""

    fingerprint, rate = "stand-in", 16_000

    def __init__(self, *, num: int = 24, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.waves = [self._speech(rng, int(rng.integers(8_000, 16_000))) for _ in range(num)]

    @staticmethod
    def _speech(rng, length):
        time = np.arange(length) / 16_000
        pitch = rng.uniform(90, 250)
        vowels = np.array([[300, 2300], [700, 1200], [350, 800]])[np.repeat(rng.integers(0, 3, 10), 2400)[:length]]
        overtones = pitch * np.arange(1, 20)
        gains = np.exp(-(((overtones[:, None, None] - vowels.T[None]) / 150) ** 2)).sum(1) + 0.02
        wave = (gains * np.sin(2 * np.pi * overtones[:, None] * time)).sum(0) + 0.02 * rng.standard_normal(length)
        return (wave / np.abs(wave).max() * 20_000).astype(np.int16)

    def __len__(self):
        return round(sum(map(len, self.waves)) / self.rate)

    @property
    def lengths(self):
        return np.array([len(w) for w in self.waves])

    def read(self, recording, start, end):
        return self.waves[recording][start:end]
