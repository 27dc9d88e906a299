"""Picture files and arrays of any usual sort to 8-bit grey or RGB; imports nothing heavy."""

from __future__ import annotations

__all__ = ["EXTENSIONS", "fitted", "of_channels", "packed", "packed_mask", "picture", "pixels", "place_of", "seen"]

import io
import struct
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pretune.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".jp2")
"""Endings of picture files; of files with several frames the first is read."""

Picture: TypeAlias = Any
"""A path, the bytes of a file, ``{"bytes", "path"}`` as `datasets` has it, a PIL image, or an array (H, W[, C])."""

_NUMPY = b"\x93NUMPY"
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, struct.error, Image.DecompressionBombError)
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


def packed(value: Picture) -> str | dict[str, Any] | None:
    """The value as a path or ``{"bytes", "path"}``, which Arrow can hold; None for an empty one.

    Raises:
        ValueError: A value of another sort; the message is the reason alone.
    """
    if isinstance(value, str | Path):
        return str(value) if str(value).strip() else None
    if value is None or isinstance(value, float):
        return None
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, dict):
        path, content = value.get("path"), value.get("bytes")
        if content is None and path is None:
            return None
        return {"bytes": content, "path": path} if content is not None else str(path)
    if isinstance(value, Image.Image):
        value = np.asarray(picture(value))
    if isinstance(value, np.ndarray) and value.ndim in (2, 3):
        return {"bytes": _array_bytes(value), "path": None}
    shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
    raise ValueError(f"expected a path, an image or an array (height, width[, channels]), found {_sort(value)}{shape}.")


def packed_mask(value: Any) -> str | dict[str, Any] | None:
    """As `packed`, for a mask of class numbers: those of a palette image are kept, not their colours."""
    return packed(np.asarray(value) if isinstance(value, Image.Image) else value)


def _sort(value: Any) -> str:
    return type(value).__name__


def _array_bytes(value: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return file.getvalue()


def place_of(value: Picture) -> str:
    """The file of a picture for messages, or what stands for it."""
    if isinstance(value, str | Path):
        return f'"{value}"'
    path = value.get("path") if isinstance(value, dict) else None
    return f'"{path}"' if path else "given as data"


def picture(value: Picture) -> Image.Image:
    """Decodes to mode ``L`` or ``RGB``, turned as its EXIF orientation says.

    16-bit values are scaled by their full range, transparent pixels are laid over white, palettes, CMYK and the like
    become RGB.

    Raises:
        DataError: A missing, damaged or unusual picture; names its file.
    """
    return seen(value)[0]


def seen(value: Picture) -> tuple[Image.Image, str]:
    """As `picture`, with the mode that it was stored in (PIL's name: ``RGB``, ``P``, ``I;16`` ...)."""
    try:
        image = _opened(value)
        return _eight_bits(image), image.mode
    except FileNotFoundError as error:
        raise DataError(f"There is no image {place_of(value)}; check the path.") from error
    except UnidentifiedImageError as error:
        reason = "it is not a picture of any known format, or its beginning is damaged"
        raise DataError(f"Cannot read the image {place_of(value)} ({reason}); replace or remove it.") from error
    except _DAMAGED as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"Cannot read the image {place_of(value)} ({reason}); replace or remove it.") from error


def _opened(value: Picture) -> Image.Image:
    if isinstance(value, Image.Image):
        return ImageOps.exif_transpose(value)
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if isinstance(value, dict):
        content = value.get("bytes")
        value = value.get("path") if content is None else content
    if isinstance(value, bytes) and value.startswith(_NUMPY):
        return _of_array(np.load(io.BytesIO(value), allow_pickle=False))
    with Image.open(io.BytesIO(value) if isinstance(value, bytes) else value) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image


def _of_array(array: NDArray[Any]) -> Image.Image:
    """An array (H, W), (H, W, C) or (C, H, W) of bytes, of 16-bit numbers, or of floats from 0 to 1."""
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        raise ValueError(f"expected an array (height, width) or (height, width, 1, 3 or 4), found shape {array.shape}")
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(_bytes_of(array)))


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return (array * 255 + 0.5).astype(np.uint8)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind in "iu" and low >= 0 and high <= 255:
        return array.astype(np.uint8)
    raise ValueError(
        f"expected values 0 to 255, 16-bit unsigned ones, or floats from 0 to 1; found {array.dtype} from {low:g} to "
        f"{high:g}: rescale them"
    )


def _eight_bits(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode in ("L", "RGB"):
        return _over_white(image) if "transparency" in image.info else image
    if mode == "1":
        return image.convert("L")
    if mode in _SIXTEEN_BIT:
        return Image.fromarray(_bytes_of(np.asarray(image).astype(np.uint16)))
    if mode == "I":
        return Image.fromarray(_bytes_of(_sixteen_bits(np.asarray(image))))
    if mode == "F":
        return Image.fromarray(_bytes_of(np.asarray(image)))
    if mode in _TRANSPARENT or "transparency" in image.info:
        return _over_white(image)
    return image.convert("RGB")


def _sixteen_bits(values: NDArray[np.int32]) -> NDArray[np.uint16]:
    """32-bit pixels as the 16-bit ones that they are, whatever is in this one picture."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65_535:
        raise ValueError(f"expected 8-bit or 16-bit pixels, found 32-bit ones from {low} to {high}: rescale them")
    return values.astype(np.uint16)


def _over_white(image: Image.Image) -> Image.Image:
    """Transparent pixels have arbitrary colours (often black) that nobody has seen."""
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def of_channels(image: Image.Image, channels: int) -> Image.Image:
    """The picture in grey (1 channel) or colour (3); itself, not a copy, where it is so already."""
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def pixels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """The picture as an array (H, W, channels); channels is 1 (grey) or 3."""
    array = np.asarray(of_channels(image, channels))
    return array[..., None] if channels == 1 else array


def fitted(image: Image.Image, size: int, *, edge: int | None, resample: int) -> Image.Image:
    """The picture as a square, exactly as transformers' processors do it.

    Args:
        image: Of mode L or RGB.
        size: Side of the square in pixels.
        edge: None: stretched to the square; else the shorter side is resized to this many pixels and the centre is
            cut out.
        resample: PIL's number of the filter.
    """
    filter_ = Image.Resampling(resample)
    if edge is None:
        return image if image.size == (size, size) else image.resize((size, size), filter_)
    width, height = image.size
    short = min(width, height)
    wide, high = (edge, int(edge * height / width)) if width == short else (int(edge * width / height), edge)
    image = image.resize((wide, high), filter_)
    left, top = (wide - size) // 2, (high - size) // 2
    return image.crop((left, top, left + size, top + size))
