"""Unlabelled images, decoded and resized once, memory-mapped afterwards.

One file of bytes (images, side, side, channels) for all splits, and a hash of each image: the images whose hashes are
lowest are held out, so equal ones are never on both sides.
"""

from __future__ import annotations

__all__ = ["PixelCorpus", "open_or_build"]

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.image_decoding import Squares
from pretune.image_reading import Picture
from pretune.record_corpus import built, rows_of, write_contents

_VERSION = 1
"""Part of every cache key: raise it when the files change."""


def open_or_build(
    pictures: Callable[[], Iterable[Picture]], *, squares: Squares, cache: Path, key: str, split: str = "train"
) -> PixelCorpus:
    """Opens a split of a corpus; the first call with a key decodes the pictures, for all splits at once.

    Args:
        pictures: Gives the pictures; not called when the cache has the key.
        squares: How they are resized.
        cache: Folder for all corpora; made when absent.
        key: Identifies the data; the settings of `squares` are added to it.
        split: ``train``, ``valid`` (1 % of the images, or 50 of them and at most 10 %) or ``all``.

    Raises:
        ConfigError: An unknown split.
        DataError: A damaged picture (named), none at all, or too few different ones to hold one out.
    """

    def build(folder: Path) -> dict[str, Any]:
        contents = (np.ascontiguousarray(image).tobytes() for image in squares.many(pictures()))
        num = write_contents(contents, folder / "pixels.bin", noun="images", sources="folder, table or array")
        return {"shape": [num, squares.size, squares.size, squares.channels]}

    settings = (_VERSION, key, astuple(squares))
    return PixelCorpus(built("pixels", settings, build, cache=cache, split=split), split)


class PixelCorpus:
    """Read-only images; opening it reads none of them.

    Attributes:
        fingerprint: Identifies content, settings and split.
        image_size: Side in pixels.
        num_channels: 1 or 3.
    """

    def __init__(self, folder: Path, split: str) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        self._folder, self._split = folder, split
        self.fingerprint = f"{meta['key']}-{split}"
        num, self.image_size, _, self.num_channels = meta["shape"]
        self._pixels = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r", shape=tuple(meta["shape"]))
        self._index = rows_of(np.load(folder / "hashes.npy"), split, "images")
        assert num >= len(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __reduce__(self) -> tuple[Any, ...]:
        return PixelCorpus, (self._folder, self._split)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """One image, shape (side, side, channels), or a slice of them."""
        found: NDArray[np.uint8] = np.asarray(self._pixels[self._index[index]])
        return found

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Several images, shape (n, side, side, channels)."""
        found: NDArray[np.uint8] = np.asarray(self._pixels[self._index[np.asarray(indices, dtype=np.int64)]])
        return found
