"""Many pictures to equal squares, in threads: Pillow leaves the interpreter free while it decodes and resizes."""

from __future__ import annotations

__all__ = ["Squares"]

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pretune.image_reading import Picture, fitted, of_channels, picture, pixels
from pretune.read_ahead import ahead


@dataclass(frozen=True)
class Squares:
    """How pictures become arrays (size, size, channels) of bytes.

    Attributes:
        size: Side in pixels.
        channels: 1 or 3.
        edge: See `pretune.image_reading.fitted`.
        resample: PIL's number of the filter.
    """

    size: int
    channels: int
    edge: int | None = None
    resample: int = int(Image.Resampling.BILINEAR)

    def one(self, value: Picture) -> NDArray[np.uint8]:
        """One picture, shape (size, size, channels).

        Raises:
            DataError: It is missing or damaged; names its file.
        """
        image = of_channels(picture(value), self.channels)
        return pixels(fitted(image, self.size, edge=self.edge, resample=self.resample), self.channels)

    def many(self, values: Iterable[Picture]) -> Iterator[NDArray[np.uint8]]:
        """`one` for each, in order, some ahead of use; holds a few hundred pictures however many there are."""
        yield from ahead(self.one, values)
