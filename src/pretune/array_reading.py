"""Arrays of images in idx (MNIST's), .npy and .npz files, with the labels that lie beside them."""

from __future__ import annotations

__all__ = ["array_table", "holds_labels"]

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pretune.errors import DataError
from pretune.readers import RowStream, Table, open_binary

_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_LABEL_NAMES = (("images", "labels"), ("image", "label"), ("idx3", "idx1"), ("idx4", "idx1"))
_SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "valid": "valid", "val": "valid"}
_DAMAGED = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, struct.error, KeyError)


def array_table(path: Path, *, labelled: bool, split: str | None = None) -> Table:
    """The images of an array file as rows, with ``label`` when labels are wanted.

    Labels are those of the same .npz file, or of the file with ``labels`` for ``images`` (``y`` for ``x``) in its name.

    Args:
        path: An idx (perhaps .gz), .npy or .npz file.
        labelled: Labels are wanted.
        split: ``train``, ``valid`` or ``test``: the arrays of an .npz file whose names say so.

    Raises:
        DataError: The file is damaged, holds no images, several sets of them, or as many labels as images are missing.
    """
    if path.suffix.lower() == ".npz":
        return _npz_table(path, labelled, split)
    beside = _labels_beside(path) if labelled else None
    if labelled and beside is None:
        wanted = _renamed(path.name)[0] if _renamed(path.name) else 'a file with "labels" for "images" in its name'
        raise DataError(f'There are no labels for "{path}": expected {wanted} beside it.')
    return _table(path, lambda: _items(path), None if beside is None else lambda: _items(beside))


def holds_labels(path: Path) -> bool:
    """Whether an idx or .npy file has one number for each item, by its header."""
    if path.suffix.lower() == ".npz":
        return False
    with _reading(path), open_binary(path) as file:
        shape = _header(path, file)[1]
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _table(path: Path, images: Any, labels: Any) -> Table:
    columns = ["image"] if labels is None else ["image", "label"]
    return Table(str(path), columns, lambda _: _rows(path, images(), labels and labels()))


def _rows(path: Path, images: Iterable[Any], labels: Iterator[Any] | None) -> RowStream:
    number = 0
    for number, image in enumerate(images, 1):
        if labels is None:
            yield number, {"image": image}
            continue
        label = next(labels, None)
        if label is None:
            raise DataError(f'"{path}" has more images than labels ({number - 1}); give a label for each.')
        yield number, {"image": image, "label": np.asarray(label).item()}
    if labels is not None and next(labels, None) is not None:
        raise DataError(f'"{path}" has {number} images and more labels than that; give one for each.')


def _renamed(name: str) -> list[str]:
    """Names that the file of labels may have."""
    lower = name
    for images, labels in _LABEL_NAMES:
        lower = lower.replace(images, labels)
    found = [lower, re.sub(r"(^|[_-])[xX](?=[_.-])", lambda m: m.group(1) + "y", name)]
    return [n for n in dict.fromkeys(found) if n != name]


def _labels_beside(path: Path) -> Path | None:
    names = [n for name in _renamed(path.name) for n in (name, name.removesuffix(".gz"), f"{name}.gz")]
    return next((p for p in (path.with_name(n) for n in names) if p.is_file()), None)


class _reading:
    """Names the file in the error of a damaged one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, _DAMAGED) and not isinstance(error, DataError):
            raise DataError(f'"{self.path}" is damaged or no array file ({error}); fetch or write it again.') from error


def _header(path: Path, file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape; leaves the file at the first item."""
    if path.suffix.lower() == ".npy":
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if fortran or dtype.hasobject:
            raise ValueError("expected a plain array in C order")
        return dtype, shape
    zero, kind, num = struct.unpack(">HBB", file.read(4))
    if zero or kind not in _TYPES:
        raise ValueError("not the idx format")
    return np.dtype(_TYPES[kind]), struct.unpack(f">{num}I", file.read(4 * num))


def _items(path: Path) -> Iterator[NDArray[Any]]:
    """The items along the first axis, read one after the other."""
    with _reading(path), open_binary(path) as file:
        dtype, shape = _header(path, file)
        size = int(np.prod(shape[1:])) * dtype.itemsize
        for number in range(shape[0] if shape else 0):
            content = file.read(size)
            if len(content) != size:
                raise ValueError(f"it ends after {number} of {shape[0]} items")
            yield np.frombuffer(content, dtype).reshape(shape[1:])


def _npz_table(path: Path, labelled: bool, split: str | None) -> Table:
    with _reading(path), np.load(path, allow_pickle=False) as arrays:
        shapes = {name: _npz_shape(arrays, name) for name in arrays.files}
    chosen = {n: s for n, s in shapes.items() if split is None or _split_of(n) == split}
    images = [n for n, s in chosen.items() if len(s) in (3, 4)]
    listed = ", ".join(f"{n} {s}" for n, s in shapes.items())
    if len(images) != 1:
        several = f'several arrays of images; choose a split, as "{path}:train"' if images else "no array of images"
        raise DataError(f'"{path}" has {several}. Its arrays: {listed}.')
    image = images[0]
    num = shapes[image][0]
    labels = [n for n, s in chosen.items() if s in ((num,), (num, 1)) and _split_of(n) == _split_of(image)]
    if labelled and len(labels) != 1:
        raise DataError(
            f'"{path}" needs one array of {num} labels for {image}, found {len(labels)}. Its arrays: {listed}.'
        )
    return _table(path, lambda: _member(path, image), (lambda: _member(path, labels[0])) if labelled else None)


def _npz_shape(arrays: Any, name: str) -> tuple[int, ...]:
    """The shape from the header alone; np.load would read the whole array."""
    with arrays.zip.open(f"{name}.npy") as file:
        return _header(Path("_.npy"), io.BytesIO(file.read(4096)))[1]


def _split_of(name: str) -> str | None:
    return next((s for part in re.split(r"[_-]", name.lower()) if (s := _SPLIT_WORDS.get(part))), None)


def _member(path: Path, name: str) -> Iterator[NDArray[Any]]:
    """Items of an array; it is read whole, as it is compressed."""
    with _reading(path), np.load(path, allow_pickle=False) as arrays:
        yield from iter(arrays[name])
