"""Pictures as cameras and networks spoil them; no pixel moves, so that boxes and masks stay true."""

from __future__ import annotations

__all__ = ["CORRUPTIONS"]

import io
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from pretune import image_reading
from pretune.corruptions.base import Corruption, Record

Change: TypeAlias = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def _noise(image: Image.Image, deviation: float, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    changed = pixels + 255 * deviation * rng.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.rint(changed).clip(0, 255).astype(np.uint8))


def _blur(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    """The radius is a share of the shorter side, so that small and large pictures suffer alike."""
    return image.filter(ImageFilter.GaussianBlur(share * min(image.size)))


def _brighter(image: Image.Image, factor: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _contrast(image: Image.Image, factor: float, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _compressed(image: Image.Image, quality: float, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(quality))
    with Image.open(file) as found:
        return found.convert(image.mode)


def _change(of_image: Change, record: Record, strength: float, rng: np.random.Generator) -> Record:
    return {**record, "image": of_image(image_reading.picture(record["image"]), strength, rng)}


CORRUPTIONS = (
    Corruption("Gaussian noise", (0.04, 0.08, 0.16), "deviation {:g}", partial(_change, _noise)),
    Corruption("blur", (0.01, 0.02, 0.04), "radius {:.0%}", partial(_change, _blur)),
    Corruption("brighter", (1.2, 1.5, 2.0), "x {:g}", partial(_change, _brighter)),
    Corruption("darker", (0.7, 0.5, 0.3), "x {:g}", partial(_change, _brighter)),
    Corruption("less contrast", (0.7, 0.5, 0.3), "x {:g}", partial(_change, _contrast)),
    Corruption("JPEG", (40, 20, 8), "quality {:g}", partial(_change, _compressed)),
)
