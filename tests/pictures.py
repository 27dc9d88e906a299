"""Small pictures whose truth is known: a bright square in one of two places decides the class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 16
PLACES = {"left": (2, 2), "right": (10, 10)}


def planted(num: int, seed: int = 0, channels: int = 3) -> list[dict]:
    """Noise with a bright square of 4 x 4 pixels, in rows ``image``, ``label``."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        label = sorted(PLACES)[i % 2]
        image = rng.integers(0, 90, (SIDE, SIDE, channels), dtype=np.uint8)
        y, x = PLACES[label]
        image[y : y + 4, x : x + 4] = 255
        rows.append({"image": image[..., 0] if channels == 1 else image, "label": label})
    return rows


def write_folder(folder: Path, rows: list[dict], ending: str = "png") -> Path:
    for i, row in enumerate(rows):
        (folder / row["label"]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(row["image"]).save(folder / row["label"] / f"{i:03d}.{ending}")
    return folder
