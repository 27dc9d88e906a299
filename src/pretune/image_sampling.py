"""Size, channels and scale of a set of images, from a sample that is spread over all of it."""

from __future__ import annotations

__all__ = ["Sample", "sample"]

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pretune.errors import DataError
from pretune.image_decoding import Squares
from pretune.image_reading import Picture, picture, pixels

_MOST = 1000
_LARGEST = 224


@dataclass(frozen=True)
class Sample:
    """Some of the pictures, and what was given or derived from them."""

    pictures: list[Picture]
    num_seen: int
    image_size: int
    channels: int

    def __len__(self) -> int:
        return len(self.pictures)

    def moments(self, squares: Squares) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, in 0..1, rounded to what is written."""
        total, squared, num = np.zeros(self.channels), np.zeros(self.channels), 0
        for image in squares.many(self.pictures):
            values = image.reshape(-1, self.channels).astype(np.float64) / 255
            total, squared, num = total + values.sum(0), squared + (values**2).sum(0), num + len(values)
        mean = total / num
        deviation = np.sqrt(np.maximum(squared / num - mean**2, (1 / 255) ** 2))
        return [round(float(v), 6) for v in mean], [round(float(v), 6) for v in deviation]


def sample(pictures: Iterable[Picture], *, image_size: int | None, channels: int | None) -> Sample:
    """Draws up to 1,000 pictures evenly (a reservoir) and derives what is None.

    Raises:
        DataError: There are none, or one that was drawn is damaged (named).
    """
    drawn, num = _reservoir(pictures)
    if not num:
        raise DataError("There are no images in the data; give a folder, table or array that has some.")
    if image_size is None or channels is None:
        sides, grey = [], True
        for value in drawn:
            image = picture(value)
            sides.append(min(image.size))
            if channels is None and grey and image.mode == "RGB":
                colours = pixels(image, 3)
                grey = bool((colours[..., :1] == colours).all())
        image_size = image_size or _side(float(np.median(sides)))
        channels = channels or (1 if grey else 3)
    return Sample(drawn, num, image_size, channels)


def _reservoir(pictures: Iterable[Picture]) -> tuple[list[Picture], int]:
    rng = np.random.default_rng(0)
    drawn: list[Picture] = []
    num = 0
    for num, value in enumerate(pictures, 1):
        if len(drawn) < _MOST:
            drawn.append(value)
        elif (place := int(rng.integers(num))) < _MOST:
            drawn[place] = value
    return drawn, num


def _side(median: float) -> int:
    """The nearest size that patches divide: multiples of 2 to 28, of 4 to 64, of 8 to 128, of 16 to 224."""
    step = next((s for limit, s in ((28, 2), (64, 4), (128, 8)) if median <= limit), 16)
    return min(_LARGEST, max(8, round(median / step) * step))
