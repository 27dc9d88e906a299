"""Where masks are kept: a folder of images beside a folder of masks of the same names; and reading them."""

from __future__ import annotations

__all__ = ["class_names_of", "mask_source", "read_mask"]

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pretune.errors import ConfigError, DataError
from pretune.readers import RowError, RowStream, Table
from pretune.sources import Layout

_IMAGE_FOLDERS = ("images", "image", "img", "JPEGImages")
_MASK_FOLDERS = ("masks", "mask", "labels", "annotations", "SegmentationClass")
_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_IMAGE_ENDINGS = (*_ENDINGS, ".jpg", ".jpeg", ".webp")


def mask_source(source: Any) -> Any:
    """A folder with ``images`` and ``masks`` in it as a table of both; anything else as it is.

    ``folder:split`` stands for ``folder/split``, or for ``images/split`` and ``masks/split`` in it.

    Raises:
        DataError: Images without a mask, two with the same, or two masks of one; names some.
    """
    if not isinstance(source, str | Path):
        return source
    path, split = Path(source).expanduser(), ""
    if not path.is_dir() and ":" in str(source):
        before, _, split = str(source).rpartition(":")
        path = Path(before).expanduser()
    for root, below in ((path / split, ""), (path, split)):
        images, masks = (_first_folder(root, names, below) for names in (_IMAGE_FOLDERS, _MASK_FOLDERS))
        if images and masks:
            return _layout(root, images, masks)
    return source


def _first_folder(root: Path, names: Sequence[str], below: str) -> Path | None:
    return next((root / name / below for name in names if (root / name / below).is_dir()), None)


def _layout(root: Path, images: Path, masks: Path) -> Layout:
    files = sorted(f for f in images.rglob("*") if f.suffix.lower() in _IMAGE_ENDINGS)
    found: dict[Path, Path] = {}
    for file in sorted(f for f in masks.rglob("*") if f.suffix.lower() in _ENDINGS):
        if (other := found.setdefault(file.relative_to(masks).with_suffix(""), file)) != file:
            raise DataError(f'"{other}" and "{file.name}" are two masks of one image; rename or remove one of them.')
    pairs = [(f, found.get(f.relative_to(images).with_suffix(""))) for f in files]
    if not files:
        raise DataError(f'"{images}" holds no images ({", ".join(_IMAGE_ENDINGS)}); give a folder that has some.')
    if not any(mask for _, mask in pairs):
        raise DataError(f'None of the {len(files)} images in "{images}" has a mask of its name in "{masks}".')
    by_mask: dict[Path, Path] = {}
    for image, mask in pairs:
        if mask is not None and (other := by_mask.setdefault(mask, image)) != image:
            raise DataError(f'"{other}" and "{image.name}" have the same mask, "{mask}"; rename or remove one of them.')
    every = [f for pair in pairs for f in pair if f is not None]
    unused = tuple(sorted(set(found.values()) - set(by_mask)))
    table = Table(str(images), ["image", "mask"], lambda _: _rows(pairs, masks), "image")
    return Layout(root, tuple(every), unused, made=(table,))


def _rows(pairs: Sequence[tuple[Path, Path | None]], masks: Path) -> RowStream:
    for number, (image, mask) in enumerate(pairs, 1):
        if mask is None:
            reason = f'has no mask of its name ({image.stem}.png) in "{masks}"; add it or remove the image.'
            yield number, RowError(str(image), number, reason, "image")
        else:
            yield number, {"image": str(image), "mask": str(mask)}


def read_mask(value: Any) -> NDArray[np.uint8]:
    """A mask of class numbers, shape (height, width), from a file, its bytes, a PIL image or an array.

    Raises:
        DataError: It is missing or damaged, or does not hold one number from 0 to 255 a pixel.
    """
    if isinstance(value, list | np.ndarray):
        return _checked(np.asarray(value), "The mask")
    place = f'"{value}"' if isinstance(value, str | Path) else "The mask"
    try:
        image = _opened(value)
    except FileNotFoundError as error:
        raise DataError(f"There is no mask {place}; check the path.") from error
    except (OSError, UnidentifiedImageError, ValueError, TypeError) as error:
        raise DataError(f"Cannot read the mask {place} ({str(error).partition(chr(10))[0]}); replace it.") from error
    if image.mode not in ("L", "P", "1", "I;16", "I"):
        raise DataError(
            f"{place} has colours (mode {image.mode}); expected a mask with one class number a pixel: an 8-bit grey or "
            "palette PNG. Convert its colours to class numbers."
        )
    return _checked(np.asarray(image), place)


def _opened(value: Any) -> Image.Image:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, dict):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, bytes) and value.startswith(b"\x93NUMPY"):
        return Image.fromarray(np.load(io.BytesIO(value), allow_pickle=False).astype(np.uint8))
    with Image.open(io.BytesIO(value) if isinstance(value, bytes) else value) as image:
        image.load()
        return image.copy()


def _checked(mask: NDArray[Any], place: str) -> NDArray[np.uint8]:
    mask = mask[..., 0] if mask.ndim == 3 and mask.shape[-1] == 1 else mask
    if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "biu" or mask.min() < 0 or mask.max() > 255:
        values = f"{mask.min()} to {mask.max()}" if mask.size else "none"
        raise DataError(
            f"{place} has shape {mask.shape} and values {values} ({mask.dtype}); expected (height, width) of class "
            "numbers from 0 to 255."
        )
    return mask.astype(np.uint8)


def class_names_of(given: str | Sequence[str] | None) -> list[str]:
    """Class names in the order of their numbers: a list, names with commas between, or a file.

    A file has a JSON list or a name a line.

    Raises:
        ConfigError: No such file, or a name that is there twice.
    """
    if given is None:
        return []
    names = _from_text(given) if isinstance(given, str) else [str(n) for n in given]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None or not names:
        found = f'"{twice}" twice' if names else "none"
        raise ConfigError(f"classes needs a different name for each class number, found {found}.")
    return names


def _from_text(given: str) -> list[str]:
    path = Path(given).expanduser()
    if "," in given and not path.is_file():
        return [name.strip() for name in given.split(",")]
    try:
        text = path.read_text(encoding="utf-8").strip()
        found = json.loads(text) if text.startswith("[") else text.splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f'classes is names with commas between, or a file of them; cannot read "{path}" ({reason}).'
        ) from error
    return [name for name in (str(n).strip() for n in found) if name]
