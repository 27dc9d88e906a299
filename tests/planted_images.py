"""Small images whose truth is known: red and blue squares on grey, as boxes and as masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 220), "red": (220, 50, 40)}
NUMBERS = {"ground": 0, "blue": 3, "red": 7}
VOID = 9


def scene(rng: np.random.Generator, height: int = 40, width: int = 56) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Pixels, mask of class numbers and objects of one image; the left edge of the mask is void."""
    pixels = rng.integers(110, 145, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    objects: list[dict[str, Any]] = []
    for column in range(2):
        side = int(rng.integers(9, 19))
        left = column * width // 2 + int(rng.integers(0, width // 2 - side))
        top = int(rng.integers(0, height - side))
        label = str(rng.choice(sorted(COLOURS)))
        pixels[top : top + side, left : left + side] = COLOURS[label]
        mask[top : top + side, left : left + side] = NUMBERS[label]
        objects.append({"label": label, "box": [left, top, side, side]})
    mask[:, :1] = VOID
    return pixels, mask, objects


def scenes(num: int, seed: int = 0, **size: int) -> list[tuple[np.ndarray, np.ndarray, list[dict]]]:
    rng = np.random.default_rng(seed)
    return [scene(rng, **size) for _ in range(num)]


def boxed(num: int, seed: int = 0) -> list[dict[str, Any]]:
    """Records of detection."""
    return [{"image": pixels, "objects": objects} for pixels, _, objects in scenes(num, seed)]


def masked(num: int, seed: int = 0) -> list[dict[str, Any]]:
    """Records of segmentation."""
    return [{"image": pixels, "mask": mask} for pixels, mask, _ in scenes(num, seed)]


def coco(folder: Path, num: int, seed: int = 0) -> Path:
    """A COCO file ``<folder>.json`` with its images in ``<folder>``."""
    folder.mkdir(parents=True)
    numbers = {"blue": 5, "red": 2}
    images, annotations = [], []
    for i, (pixels, _, objects) in enumerate(scenes(num, seed)):
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
        images.append({"id": 100 + i, "file_name": f"{i:03}.png", "width": pixels.shape[1], "height": pixels.shape[0]})
        for o in objects:
            known = {"id": len(annotations) + 1, "image_id": 100 + i, "category_id": numbers[o["label"]], "iscrowd": 0}
            annotations.append({**known, "bbox": o["box"], "area": o["box"][2] * o["box"][3]})
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": n, "name": name} for name, n in numbers.items()]
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(content))
    return file


def voc(folder: Path, num: int, seed: int = 0) -> Path:
    """A Pascal VOC folder."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for i, (pixels, _, objects) in enumerate(scenes(num, seed)):
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{i:03}.png")
        parts = [_voc_object(o) for o in objects]
        text = f"<annotation><filename>{i:03}.png</filename>{''.join(parts)}</annotation>"
        (folder / "Annotations" / f"{i:03}.xml").write_text(text)
    return folder


def _voc_object(thing: dict[str, Any]) -> str:
    x, y, w, h = thing["box"]
    corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
    box = "".join(f"<{k}>{v}</{k}>" for k, v in corners.items())
    return f"<object><name>{thing['label']}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"


def mask_folder(folder: Path, num: int, seed: int = 0) -> Path:
    """A folder with images and palette masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i, (pixels, mask, _) in enumerate(scenes(num, seed)):
        Image.fromarray(pixels).save(folder / "images" / f"{i:03}.png")
        picture = Image.fromarray(mask, "L")
        picture.putpalette([(7 * k) % 256 for k in range(768)])
        picture.save(folder / "masks" / f"{i:03}.png")
    return folder


def opened(path: Any) -> Image.Image:
    """The picture in a file, which is closed again."""
    with Image.open(path) as picture:
        picture.load()
        return picture.copy()
