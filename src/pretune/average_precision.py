"""Average precision of boxes as COCO defines it, by faster-coco-eval; of all images, or of some drawn by index."""

from __future__ import annotations

__all__ = ["AveragePrecision"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.faster_eval_api_cpp import COCOevalAccumulate
from numpy.typing import NDArray

from pretune.box_sources import Thing

_MOST_BOXES = 100
_EVERY_AREA = [[0.0, 1e10]]


class AveragePrecision:
    """Matches predicted with true boxes once; any resample of the images is then scored in milliseconds.

    Args:
        predicted: For each image its boxes, mappings with ``label``, ``score`` and ``box`` [left, top, width, height].
        true: For each image its objects, in the same order.
    """

    def __init__(self, predicted: Sequence[Sequence[Mapping[str, Any]]], true: Sequence[Sequence[Thing]]) -> None:
        self.labels = sorted({t["label"] for image in true for t in image if not t["crowd"]})
        numbers = {name: i for i, name in enumerate(self.labels)}
        images = [{"id": i} for i in range(len(true))]
        categories = [{"id": i, "name": name} for name, i in numbers.items()]
        frame = {"images": images, "categories": categories}
        annotations = [_annotation(i, t, numbers) for i, ts in enumerate(true) for t in ts if t["label"] in numbers]
        results = [_result(i, b, numbers) for i, bs in enumerate(predicted) for b in bs if b["label"] in numbers]
        self._found = _evaluated(
            frame | {"annotations": _counted(annotations)}, frame | {"annotations": _counted(results)}
        )
        self._num_images = len(true)

    def metrics(self, chosen: Sequence[int] | None = None) -> dict[str, float]:
        """Scores of all images, or of as many drawn with replacement.

        Args:
            chosen: Indices of images.

        Returns:
            ``map`` (mean over IoU 0.50 to 0.95 and classes), ``map50``, ``map75``, ``recall`` (at most 100 boxes an
            image, mean as for map) and ``ap50_<class>``; NaN where no true box was drawn.
        """
        if not self.labels:
            return {"map": 0.0, "map50": 0.0, "map75": 0.0, "recall": 0.0}
        order = range(self._num_images) if chosen is None else chosen
        # the library keeps one evaluation a class and image, in this order
        parts = [self._found._evalImgs_cpp[k * self._num_images + i] for k in range(len(self.labels)) for i in order]
        scores = COCOevalAccumulate(self._found._paramsEval, parts)
        precision, recall = (np.asarray(scores[key])[..., 0, 0] for key in ("precision", "recall"))
        at_50 = [_mean(precision[0, :, k]) for k in range(len(self.labels))]
        return {
            "map": _mean(precision),
            "map50": _mean(precision[0]),
            "map75": _mean(precision[5]),
            "recall": _mean(recall),
            **{f"ap50_{name}": value for name, value in zip(self.labels, at_50, strict=True)},
        }


def _annotation(image: int, thing: Thing, numbers: Mapping[str, int]) -> dict[str, Any]:
    width, height = thing["box"][2:]
    crowd = {"iscrowd": int(thing["crowd"]), "ignore": int(thing["crowd"])}
    return {
        "image_id": image,
        "category_id": numbers[thing["label"]],
        "bbox": thing["box"],
        "area": width * height,
    } | crowd


def _result(image: int, box: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    width, height = box["box"][2:]
    found = {"image_id": image, "category_id": numbers[box["label"]], "bbox": box["box"], "area": width * height}
    return found | {"score": box["score"], "iscrowd": 0}


def _counted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"id": number} for number, row in enumerate(rows, 1)]


def _evaluated(true: dict[str, Any], predicted: dict[str, Any]) -> Any:
    quiet = {"print_function": lambda *_: None}
    found = COCOeval_faster(COCO(true, **quiet), COCO(predicted, **quiet), "bbox", separate_eval=True, **quiet)
    found.params.areaRng, found.params.areaRngLbl, found.params.maxDets = _EVERY_AREA, ["all"], [_MOST_BOXES]
    if true["categories"]:
        found.evaluate()
    return found


def _mean(values: NDArray[np.float64]) -> float:
    """Over classes that occur: the library marks others by -1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")
