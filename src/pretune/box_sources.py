"""Where boxes are kept: COCO json, folders of Pascal VOC xml; and the forms that a record's objects may have."""

from __future__ import annotations

__all__ = ["Thing", "box_source", "things"]

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from pretune.errors import DataError
from pretune.image_reading import EXTENSIONS
from pretune.readers import RowError, RowStream, Table
from pretune.sources import Layout

_IMAGE_FOLDERS = ("", "images", "JPEGImages")
_XML_FOLDERS = ("Annotations", "annotations", "xml", "")
_BOX_NAMES = ("box", "bbox", "bndbox")
_LABEL_NAMES = ("label", "category", "class", "name", "category_name")
_CROWD_NAMES = ("crowd", "iscrowd", "difficult")


class Thing(TypedDict):
    """One object of an image."""

    label: str
    box: list[float]
    """Left, top, width and height in pixels of the image."""
    crowd: bool
    """Neither finding nor missing it counts."""
    category_id: int | None
    """Its class number in the COCO file that it comes from."""
    image_size: list[int] | None
    """Width and height that the file of boxes gives its image."""


def box_source(source: Any, images: str | None = None) -> Any:
    """A COCO json file or a folder of VOC xml as tables of images and objects; anything else as it is.

    Args:
        source: What the user named.
        images: The folder of the images, where it is not beside the file under a usual name.

    Raises:
        DataError: It is such a file or folder, but damaged or without its images.
    """
    if not isinstance(source, str | Path):
        return source
    path = Path(source).expanduser()
    if path.suffix.lower() == ".json" and path.is_file():
        found = _coco_content(path)
        return source if found is None else _coco(path, found, images)
    files = _xml_files(path) if path.is_dir() else []
    return _voc(path, files, images) if files else source


# -- COCO ------------------------------------------------------------------------------------------------------------


def _coco_content(path: Path) -> dict[str, Any] | None:
    """The content of a COCO file; None for other JSON."""
    with path.open("rb") as stream:
        if stream.read(64).lstrip()[:1] != b"{":
            return None
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f'"{path}" is not UTF-8 ({error}); convert it.') from error
    except ValueError as error:
        if '"annotations"' in text:
            raise DataError(f'"{path}" is a COCO file that is cut off or damaged ({error}); fetch it again.') from error
        return None  # several objects: JSON lines, which the general reader takes
    return content if isinstance(content, dict) and isinstance(content.get("images"), list) else None


def _coco(path: Path, content: Mapping[str, Any], images: str | None) -> Layout:
    for key in ("annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f'"{path}" has "images" but no list of "{key}"; expected a COCO detection file.')
    first = next((str(i["file_name"]) for i in content["images"] if i.get("file_name")), None)
    if first is None:
        raise DataError(f'"{path}" lists no image with a "file_name"; expected a COCO detection file.')
    folder = _folder_of(first, path.parent, (path.stem, *_IMAGE_FOLDERS, f"images/{path.stem}"), images, path)
    names = {c["id"]: str(c["name"]) for c in content["categories"]}
    objects = _by_image(path, content)
    table = Table(
        str(path),
        ["image", "image_id", "objects"],
        lambda _: _coco_rows(content["images"], objects, names, path, folder),
    )
    return Layout(path, (path,), made=(table,))


def _by_image(path: Path, content: Mapping[str, Any]) -> dict[Any, list[Any]]:
    """The annotations of each image, by its id."""
    objects: dict[Any, list[Any]] = {}
    for number, image in enumerate(content["images"], 1):
        if image.get("id") in objects:
            raise DataError(f'"{path}", image {number}: the id {image.get("id")!r} is that of an earlier image, too.')
        objects[image.get("id")] = []
    for number, annotation in enumerate(content["annotations"], 1):
        found = annotation.get("image_id")
        if found not in objects:
            raise DataError(
                f'"{path}", annotation {number}: image_id {found!r} is the id of none of the {len(objects)} images; '
                "remove it or add its image."
            )
        objects[found].append(annotation)
    return objects


def _coco_rows(
    images: Sequence[Mapping[str, Any]],
    objects: Mapping[Any, Sequence[Mapping[str, Any]]],
    names: Mapping[Any, str],
    path: Path,
    folder: Path,
) -> RowStream:
    for number, image in enumerate(images, 1):
        try:
            size = _size(image.get("width"), image.get("height"))
            found = [_coco_object(o, names) | size for o in objects.get(image["id"], ())]
            row = {"image": str(folder / image["file_name"]), "image_id": image["id"], "objects": found}
        except (KeyError, TypeError):
            reason = "expected an image with id and file_name, and objects with category_id and bbox."
            yield number, RowError(str(path), number, reason, "image")
        except ValueError as error:
            yield number, RowError(str(path), number, str(error), "image")
        else:
            yield number, row


def _size(width: Any, height: Any) -> dict[str, Any]:
    """``image_size``, where both are given; some tools write zeros for what they do not know."""
    try:
        size = [int(width), int(height)]
    except (TypeError, ValueError):
        return {}
    return {"image_size": size} if min(size) > 0 else {}


def _coco_object(annotation: Mapping[str, Any], names: Mapping[Any, str]) -> dict[str, Any]:
    number, box = annotation.get("category_id"), annotation.get("bbox")
    where = f"annotation {annotation.get('id', '(without id)')}"
    if number not in names:
        raise ValueError(f"{where}: category_id {number!r} is the id of none of the {len(names)} categories.")
    if not isinstance(box, list) or not all(isinstance(v, int | float) for v in box):
        raise ValueError(f"{where}: expected a bbox of four numbers (masks alone are not read), found {box!r}.")
    return {
        "label": names[number],
        "box": [float(v) for v in box],
        "crowd": bool(annotation.get("iscrowd", 0)),
        "category_id": number,
    }


# -- Pascal VOC ------------------------------------------------------------------------------------------------------


def _xml_files(path: Path) -> list[Path]:
    for name in _XML_FOLDERS:
        files = sorted((path / name).glob("*.xml"))
        if files:
            return files
    return []


def _voc(path: Path, files: Sequence[Path], images: str | None) -> Layout:
    first = _parsed(files[0])
    if isinstance(first, RowError):
        raise first
    places = (*(f"{p}/{n}".strip("/") for n in _IMAGE_FOLDERS for p in ("", "..")), files[0].parent.name)
    folder = _folder_of(_file_name(first, files[0]), path, places, images, files[0])
    table = Table(str(path), ["image", "objects"], lambda _: _voc_rows(files, folder), "file")
    return Layout(path, tuple(files), _without_xml(folder, files), made=(table,))


def _without_xml(folder: Path, files: Sequence[Path]) -> tuple[Path, ...]:
    """The images in the folder that no file is about."""
    stems = {f.stem for f in files}
    others = [f for f in sorted(folder.iterdir()) if f.stem not in stems and f.suffix.lower() in EXTENSIONS]
    trees = [(_parsed(f), f) for f in files] if others else []
    named = {_file_name(tree, f) for tree, f in trees if not isinstance(tree, RowError)}
    return tuple(f for f in others if f.name not in named)


def _voc_rows(files: Sequence[Path], folder: Path) -> RowStream:
    for number, file in enumerate(files, 1):
        tree = _parsed(file)
        if isinstance(tree, RowError):
            yield number, tree
            continue
        try:
            size = _size(tree.findtext("size/width"), tree.findtext("size/height"))
            found = [_voc_object(o) | size for o in tree.iter("object")]
            things(found)
        except (AttributeError, TypeError, ValueError) as error:
            reason = f"expected VOC's name and bndbox for each object ({str(error).rstrip('.')})."
            yield number, RowError(str(file), number, reason, "file")
        else:
            yield number, {"image": str(folder / _file_name(tree, file)), "objects": found}


def _parsed(file: Path) -> ET.Element | RowError:
    try:
        tree = ET.parse(file).getroot()
    except ET.ParseError as error:
        line = error.position[0]
        return RowError(str(file), line, f"not valid XML ({error.msg if hasattr(error, 'msg') else error}).", "line")
    if tree.tag != "annotation":
        return RowError(str(file), 1, f"expected a VOC <annotation>, found <{tree.tag}>.", "line")
    return tree


def _file_name(tree: ET.Element, file: Path) -> str:
    return (tree.findtext("filename") or "").strip() or f"{file.stem}.jpg"


def _voc_object(tree: ET.Element) -> dict[str, Any]:
    """VOC counts pixels from 1 and names the last one inside."""
    x1, y1, x2, y2 = (float(str(tree.findtext(f"bndbox/{n}"))) for n in ("xmin", "ymin", "xmax", "ymax"))
    crowd = (tree.findtext("difficult") or "0").strip() == "1"
    name = (tree.findtext("name") or "").strip()
    return {"label": name, "box": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1], "crowd": crowd, "category_id": None}


def _folder_of(first: str, root: Path, places: Sequence[str], images: str | None, file: Path) -> Path:
    """The folder that holds the image named first."""
    tried = [Path(images).expanduser()] if images else [root / place for place in dict.fromkeys(places)]
    for folder in tried:
        if (folder / first).is_file():
            return folder
    listed = ", ".join(str(f) for f in tried)
    raise DataError(f'Cannot find "{first}", which {file} names, in {listed}; give its folder with --task.images.')


# -- the objects of a record -------------------------------------------------------------------------------------------


def things(value: Any) -> list[Thing]:
    """The objects of a record: a list of mappings with label and box, or a mapping of lists (``bbox``, ``category``).

    Raises:
        ValueError: Of another form, or a box that has no area; the message is the reason alone.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"expected a list of objects (JSON), found {value[:40]!r}.") from None
    if isinstance(value, Mapping):
        value = list(_rows(value))
    if not isinstance(value, Sequence):
        raise ValueError(f"expected a list of objects with label and box, found {type(value).__name__}.")
    return [_thing(item, number) for number, item in enumerate(value, 1)]


def _rows(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    lists = {k: v for k, v in columns.items() if isinstance(v, Sequence) and not isinstance(v, str)}
    lengths = {k: len(v) for k, v in lists.items()}
    if not lists or len(set(lengths.values())) > 1:
        raise ValueError(f"expected lists of equal length (bbox, category), found {lengths or list(columns)}.")
    return (dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True))


def _thing(item: Any, number: int) -> Thing:
    if not isinstance(item, Mapping):
        raise ValueError(f"expected object {number} to have label and box, found {type(item).__name__}.")
    box, label = _first(item, _BOX_NAMES), _first(item, _LABEL_NAMES)
    if box is None or label is None:
        raise ValueError(f"object {number} needs a label and a box [left, top, width, height], found {dict(item)}.")
    if not str(label).strip():
        raise ValueError(f"the label of object {number} is empty; name its class.")
    try:
        box = [float(v) for v in box]
    except (TypeError, ValueError):
        box = []
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise ValueError(f"the box of object {number} ({label}) needs four numbers, found {_first(item, _BOX_NAMES)}.")
    if box[2] <= 0 or box[3] <= 0:
        raise ValueError(
            f"the box of object {number} ({label}) has no area: {box}; expected [left, top, width, height]."
        )
    return Thing(
        label=str(label), box=box, crowd=bool(_first(item, _CROWD_NAMES)),
        category_id=item.get("category_id"), image_size=item.get("image_size"),
    )  # fmt: skip


def _first(item: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((item[n] for n in names if item.get(n) is not None), None)
