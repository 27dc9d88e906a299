"""Pictures of predictions: boxes on an image, classes over an image, masks in colour."""

from __future__ import annotations

__all__ = ["boxes_picture", "mask_picture", "overlay_picture", "palette"]

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_COLOURS = (
    *((230, 75, 53), (0, 158, 115), (60, 84, 200), (240, 180, 0), (170, 60, 170), (0, 175, 225), (140, 90, 40)),
    *((120, 180, 60), (240, 130, 175), (90, 90, 90), (255, 110, 0), (0, 105, 85), (110, 110, 235), (190, 190, 0)),
    *((150, 0, 60), (120, 205, 190), (200, 150, 110), (0, 70, 150), (205, 160, 225), (70, 130, 40)),
)
_VEIL = 0.5

_READABLE = 240
"""Pixels of the shorter side that names of classes need."""


def palette(num: int) -> list[tuple[int, int, int]]:
    """Colours of classes, repeated after twenty."""
    return [_COLOURS[i % len(_COLOURS)] for i in range(num)]


def boxes_picture(
    pixels: NDArray[np.uint8], boxes: Sequence[Mapping[str, Any]], labels: Sequence[str], *, min_score: float = 0.0
) -> Image.Image:
    """The image with its boxes, best on top, each in the colour of its class; small images are enlarged.

    Args:
        pixels: Shape (height, width, 1 or 3).
        boxes: Mappings with ``label``, ``box`` [left, top, width, height] and, for predicted ones, ``score``.
        labels: All class names; their order gives the colours.
        min_score: Boxes with a lower score are left out.
    """
    picture = _image(pixels)
    times = max(1, math.ceil(_READABLE / min(picture.size)))
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    line = max(1, round(min(picture.size) / 200))
    font = ImageFont.load_default(size=max(10, min(picture.size) // 36))
    colours = dict(zip(labels, palette(len(labels)), strict=True))
    for box in sorted(boxes, key=lambda b: b.get("score", 1.0)):
        if box.get("score", 1.0) < min_score:
            continue
        left, top, width, height = (times * v for v in box["box"])
        colour = colours.get(box["label"], (0, 0, 0))
        draw.rectangle((left, top, left + max(0, width - 1), top + max(0, height - 1)), outline=colour, width=line)
        text = f"{box['label']} {box['score']:.2f}" if "score" in box else str(box["label"])
        around = draw.textbbox((left + line, top + line), text, font=font)
        draw.rectangle((around[0] - 1, around[1] - 1, around[2] + 1, around[3] + 1), fill=colour)
        draw.text((left + line, top + line), text, fill="white", font=font)
    return picture


def mask_picture(mask: NDArray[np.uint8], places: Sequence[int]) -> Image.Image:
    """The mask as a palette image: its pixels are the class numbers, shown in the colours of the classes.

    Args:
        mask: Class numbers, shape (height, width).
        places: The number of each class, in the order of their names.
    """
    table = np.zeros((256, 3), np.uint8)
    table[list(places)] = palette(len(places))
    picture = Image.fromarray(mask, "L")
    picture.putpalette(table.tobytes())
    return picture


def overlay_picture(
    pixels: NDArray[np.uint8], mask: NDArray[np.uint8], places: Sequence[int], labels: Sequence[str]
) -> Image.Image:
    """The image under the colours of its classes, with a legend of those that it has.

    Args:
        pixels: Shape (height, width, 1 or 3).
        mask: Class numbers, shape (height, width); numbers that no class has stay uncoloured.
        places: The number of each class.
        labels: The name of each class.
    """
    image = _image(pixels)
    colours = np.asarray(mask_picture(mask, places).convert("RGB"), np.float32)
    known = np.isin(mask, list(places))[..., None]
    mixed = np.where(known, (1 - _VEIL) * np.asarray(image, np.float32) + _VEIL * colours, np.asarray(image))
    picture = Image.fromarray(mixed.round().astype(np.uint8))
    present = [i for i, place in enumerate(places) if (mask == place).any()]
    return _with_legend(picture, [labels[i] for i in present], [palette(len(labels))[i] for i in present])


def _with_legend(picture: Image.Image, names: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> Image.Image:
    """Names on their colours in rows below the picture."""
    points = max(10, min(picture.size) // 30)
    font, high = ImageFont.load_default(size=points), round(1.6 * points)
    places: list[tuple[int, int, int, int]] = []
    left, row = 0, 0
    for name in names:
        wide = int(font.getlength(name)) + high // 2
        left, row = (0, row + 1) if left and left + wide > picture.width else (left, row)
        places.append((left, picture.height + row * high, left + wide, picture.height + (row + 1) * high))
        left += wide
    whole = Image.new("RGB", (picture.width, picture.height + (row + 1) * high), "white")
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for name, colour, place in zip(names, colours, places, strict=True):
        draw.rectangle(place, fill=colour)
        draw.text((place[0] + high // 4, place[1] + high // 6), name, fill="white", font=font)
    return whole


def _image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels if pixels.shape[-1] > 1 else pixels[..., 0]).convert("RGB")
