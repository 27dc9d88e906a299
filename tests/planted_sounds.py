"""Short made recordings whose class, number or words are planted in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune import audio_config

RATE = 16_000
TONES = {"low": 300.0, "high": 2500.0}


def tone(hertz: float, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6)) + 0.01 * rng.standard_normal(len(time))
    return wave.astype(np.float32)


def _record(wave: NDArray[np.float32], **labels: Any) -> dict[str, Any]:
    return {"audio": {"array": wave, "sampling_rate": RATE}, **labels}


def classed(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Low and high tones of different lengths."""
    rng = np.random.default_rng(seed)
    names = [list(TONES)[i % 2] for i in range(number)]
    return [_record(tone(TONES[n], rng.uniform(0.3, 0.7), rng), label=n) for n in names]


def valued(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Tones whose number is their pitch."""
    rng = np.random.default_rng(seed)
    pitches = rng.uniform(200, 4000, number)
    return [_record(tone(p, rng.uniform(0.3, 0.7), rng), label=float(np.log(p))) for p in pitches]


def spoken(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Words of the letters a (a low tone) and b (a high one), with silence between."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        words = ["".join(rng.choice(["a", "b"], rng.integers(1, 3))) for _ in range(2)]
        parts = []
        for letter in " ".join(words):
            length = rng.uniform(0.15, 0.25)
            silence = (0.005 * rng.standard_normal(round(0.12 * RATE))).astype(np.float32)
            parts += (
                [silence] if letter == " " else [tone(TONES["low" if letter == "a" else "high"], length, rng), silence]
            )
        found.append(_record(np.concatenate(parts), text=" ".join(words)))
    return found


def small_config(family: str) -> Any:
    """Two layers of width 16."""
    config: Any = audio_config.audio_config("tiny", family, stride=4)
    config.hidden_size, config.num_hidden_layers, config.num_attention_heads = 16, 2, 2
    config.intermediate_size, config.classifier_proj_size = 32, 16
    if family == "wav2vec2-bert":
        return config
    config.conv_dim, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups = [8] * 7, 8, 2
    return config
