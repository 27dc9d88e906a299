"""Boxes around objects in images, each with a class and a score."""

from __future__ import annotations

__all__ = ["Detection"]

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune import data, drawing, features
from pretune.average_precision import AveragePrecision
from pretune.box_sources import Thing, box_source, things
from pretune.boxes import CROWD, FITS, NO_OBJECT, box_loss, gaussian_targets, heat_loss, nms, overlap
from pretune.canvas import View, place, seen_boxes
from pretune.checkpoint import write_text
from pretune.dense import STRIDE
from pretune.dense_task import DenseTask, picture_name
from pretune.errors import ConfigError, DataError, did_you_mean
from pretune.label_doubts import Doubt, box_doubts
from pretune.modalities.base import Batch, Example, Modality
from pretune.tasks.base import Prediction, Reliability, Target

_PRIOR = 0.01
"""Probability of an object at a place before training."""

_BOX_WEIGHT = 5.0
_MOST_BOXES = 100
_LEAST_SEEN = 0.4
"""Share of an object that a view must show for it to count as an object there."""

_DRAWN = 0.3
_LIMIT = 4.0


class Detection(DenseTask):
    """Detection by a dense, anchor-free head on one feature map at stride 4.

    Each place says how likely it is the centre of an object of each class, and how far the sides of its box are.
    Training follows TTFNet (Liu et al. 2020, "Training-Time-Friendly Network for Real-Time Object Detection"):
    Gaussian heat maps with CenterNet's focal loss (Zhou et al. 2019, "Objects as Points"), and GIoU loss on every
    place near a centre, not on the centre alone. That choice is for data of some hundred images on a CPU: every place
    gets a gradient at every step. Set prediction (DETR, Carion et al. 2020; YOLOS, Fang et al. 2021) learns where to
    look through a matching that takes hundreds of epochs to settle, and needs large pre-training.

    Args:
        resolution: Longer side of the working size in pixels; derived: twice the encoder's image size, at most that
            of the images.
        width: Channels of the decoder.
        min_score: Boxes with a lower score are not predicted; average precision gains from low scores.
        max_overlap: IoU with a better box of its class above which a box is dropped.
        images: Folder of the images that a COCO or VOC file names, where it is not beside it.
    """

    label_columns: ClassVar[Sequence[str]] = ("objects", "boxes", "annotations", "bboxes")
    label_role: ClassVar[str] = "objects"
    roles: ClassVar[Mapping[str, Sequence[str]] | None] = {**data.IMAGE_COLUMNS, "image_id": ("image_id", "id")}
    primary: ClassVar[str] = "map"
    can_doubt: ClassVar[bool] = True
    no_target: ClassVar[str] = "No object was predicted here; name a class to see where it is most likely."
    purpose: ClassVar[str] = "Detection"
    predicting: ClassVar[Sequence[str]] = ("min_score", "max_overlap", "images")

    def __init__(
        self,
        *,
        resolution: int | None = None,
        width: int = 64,
        min_score: float = 0.05,
        max_overlap: float = 0.6,
        images: str | None = None,
    ) -> None:
        super().__init__(resolution=resolution, width=width)
        if not 0 <= min_score < 1 or not 0 < max_overlap <= 1:
            raise ConfigError(
                "min_score must be at least 0 and below 1, max_overlap above 0 and at most 1; "
                f"found {min_score} and {max_overlap}."
            )
        self.min_score, self.max_overlap, self.images = min_score, max_overlap, images
        self.category_ids: dict[str, int] = {}
        self._num_learnt = 0
        self._halves: list[float] = []
        self.unit = 1.0

    def source(self, given: Any) -> Any:
        """A COCO json file or a folder of Pascal VOC xml as tables."""
        return box_source(given, self.images)

    # -- labels ------------------------------------------------------------------------------------------------------

    def read_label(self, record: Mapping[str, Any], column: str) -> list[Thing]:
        """The objects of a record.

        Raises:
            DataError: They are not labels with boxes; names file and row.
        """
        try:
            return things(record[column])
        except ValueError as error:
            where = f"{record['_file']}, row {record['_row']}: " if record.get("_file") else ""
            raise DataError(f"{where}{error}") from error

    def classes_in(self, record: Mapping[str, Any]) -> list[str]:
        """The class of each object."""
        return [t["label"] for t in self.read_label(record, self.label_role)]

    def learn_labels(self, labels: Sequence[Any]) -> None:
        """Learns the class names, and their numbers in the COCO file if they have some.

        Raises:
            DataError: There is no object.
        """
        found = [t for label in labels for t in things(label) if not t["crowd"]]
        if not found:
            raise DataError(f"Detection needs objects to learn from, found none in {len(labels)} images.")
        self.labels = sorted({t["label"] for t in found})
        known = {t["label"]: t["category_id"] for t in found if t["category_id"] is not None}
        self.category_ids = {name: known.get(name, i) for i, name in enumerate(self.labels, 1)}
        self._num_learnt, self._halves = len(labels), []

    def labelled(self, example: Example, label: Any) -> Example:
        """Adds ``boxes`` (objects, 4), corners in canvas pixels, and ``classes`` (objects,)."""
        assert self.canvas is not None
        self.check_size(label, example["size"])
        found = self.read_label({"objects": label}, "objects")
        scale = self.canvas.scale(example["size"])
        boxes = np.array([t["box"] for t in found], np.float32).reshape(-1, 4) * scale
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([CROWD if t["crowd"] else self._number(t["label"]) for t in found], np.int64)
        if self._num_learnt:  # the training records come first
            self._num_learnt -= 1
            self._halves += (np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1)) / 2).tolist()
        return example | {"boxes": boxes, "classes": classes}

    def check_size(self, label: Any, size: Sequence[int]) -> None:
        """Finds boxes that were drawn on an image of another size, and a box that lies outside of its image.

        Raises:
            DataError: There is one.
        """
        height, width = size
        found = things(label)
        stated = next((t["image_size"] for t in found if t["image_size"]), [width, height])
        if stated != [width, height]:
            raise DataError(
                f"the image has {width} x {height} pixels, and its boxes were drawn on {stated[0]} x {stated[1]}; give "
                "the image that was labelled, or correct size and boxes."
            )
        for number, (left, top, wide, high) in enumerate((t["box"] for t in found), 1):
            if left >= width or top >= height or left + wide <= 0 or top + high <= 0:
                raise DataError(
                    f"the box of object {number}, {[left, top, wide, high]}, lies outside of its image of {width} x "
                    f"{height} pixels; was the image resized after it was labelled? Correct or remove the box."
                )

    def _number(self, label: str) -> int:
        if label not in self.labels:
            known = ", ".join(self.labels[:10])
            raise DataError(
                f'Label "{label}" does not occur in the training data, which has: {known}.'
                f"{did_you_mean(label, self.labels)}"
            )
        return self.labels.index(label)

    # -- the model ---------------------------------------------------------------------------------------------------

    def bias(self) -> list[float]:
        """Few centres, and boxes of the usual size."""
        return [math.log(_PRIOR / (1 - _PRIOR))] * len(self.labels) + [0.0] * 4

    def remembered(self) -> dict[str, Any]:
        """Half the usual side of a box in canvas pixels, and COCO's class numbers."""
        self.unit = float(np.median(self._halves)) if self._halves else self.unit
        return {"unit": self.unit, "category_ids": self.category_ids}

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """As `DenseTask.restore`."""
        super().restore(model, modality)
        self.unit, self.category_ids = model.config.dense["unit"], model.config.dense["category_ids"]

    # -- a step ------------------------------------------------------------------------------------------------------

    def collate(self, examples: Sequence[Example], rng: np.random.Generator | None = None) -> Batch:
        """Images; with labels ``boxes`` (batch, objects, 4) in canvas pixels and ``classes`` (batch, objects)."""
        view = self.view(examples, rng)
        batch = self.pixels(examples, view, rng)
        if "boxes" in examples[0]:
            batch |= self._objects(examples, view)
        return batch | features.stack(examples, batch)

    def _objects(self, examples: Sequence[Example], view: View | None) -> Batch:
        most = max(len(e["boxes"]) for e in examples)
        boxes = torch.zeros(len(examples), most, 4)
        classes = torch.full((len(examples), most), NO_OBJECT)
        for i, example in enumerate(examples):
            boxes[i, : len(example["boxes"])] = torch.from_numpy(example["boxes"])
            classes[i, : len(example["classes"])] = torch.from_numpy(example["classes"])
        if view is not None and self.canvas is not None:
            boxes, seen = seen_boxes(boxes, view, self.canvas)
            classes[(classes >= 0) & (seen < _LEAST_SEEN)] = CROWD  # neither there nor absent
        return {"boxes": boxes, "classes": classes}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Objects."""
        return {"objects": max(1.0, float((batch["classes"] >= 0).sum()))}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``logits`` (batch, classes + 4, rows, columns); with labels ``loss`` and its parts ``heat`` and ``box``."""
        logits = self.logits(batch)
        if "boxes" not in batch:
            return {"logits": logits}
        num = len(self.labels)
        grid = (logits.shape[-2], logits.shape[-1])
        targets = gaussian_targets(batch["boxes"], batch["classes"], num, grid, STRIDE)
        share = self.scale.get("objects", 1.0) / self.counts(batch)["objects"]
        heat = heat_loss(logits[:, :num], targets) * share
        box = box_loss(self._corners(logits), targets) * share
        return {"loss": heat + _BOX_WEIGHT * box, "heat": heat.detach(), "box": box.detach(), "logits": logits}

    def _corners(self, logits: Tensor) -> Tensor:
        """The box of each place, corners in canvas pixels, shape (batch, rows, columns, 4)."""
        sides = self.unit * logits[:, len(self.labels) :].clamp(-_LIMIT, _LIMIT).exp()
        rows, columns = (STRIDE * (torch.arange(n, device=logits.device) + 0.5) for n in logits.shape[-2:])
        x, y = columns[None, None, :], rows[None, :, None]
        left, top, right, bottom = sides.unbind(1)
        return torch.stack([x - left, y - top, x + right, y + bottom], dim=-1)

    # -- results -----------------------------------------------------------------------------------------------------

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """``boxes``: label, score and box [left, top, width, height] in pixels of the image, best first."""
        heat = logits[:, : len(self.labels)].float().sigmoid()
        peaks = torch.where(F.max_pool2d(heat, 3, 1, 1) == heat, heat, 0.0)
        scores, index = peaks.flatten(1).topk(min(2 * _MOST_BOXES, peaks[0].numel()))
        classes, places = index // heat[0, 0].numel(), index % heat[0, 0].numel()
        corners = self._corners(logits.float()).flatten(1, 2)
        sizes = batch["sizes"].tolist()
        return [
            {"boxes": self._boxes(corners[i, places[i]], scores[i], classes[i], sizes[i])} for i in range(len(logits))
        ]

    def _boxes(self, corners: Tensor, scores: Tensor, classes: Tensor, size: Sequence[int]) -> list[dict[str, Any]]:
        assert self.canvas is not None
        corners = place(corners / self.canvas.scale(size), *size)
        usable = (scores >= self.min_score) & ((corners[:, 2:] - corners[:, :2]) >= 1).all(1)
        corners, scores, classes = corners[usable], scores[usable], classes[usable]
        kept = nms(corners, scores, classes, max_overlap=self.max_overlap)[:_MOST_BOXES]
        rows = torch.cat([corners[kept, :2], corners[kept, 2:] - corners[kept, :2]], dim=1).tolist()
        found = zip(rows, scores[kept].tolist(), classes[kept].tolist(), strict=True)
        return [
            {"label": self.labels[c], "score": round(s, 6), "box": [round(v, 2) for v in box]} for box, s, c in found
        ]

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """COCO's ``map``, ``map50``, ``map75``, ``recall`` and ``ap50_<class>``; see `AveragePrecision`."""
        return self.rescored(predictions, labels)(range(len(labels)))

    def rescored(
        self, predictions: Sequence[Prediction], labels: Sequence[Any]
    ) -> Callable[[Sequence[int]], dict[str, float]]:
        """Matches boxes once, and ranks those of each draw."""
        return AveragePrecision([p["boxes"] for p in predictions], [things(label) for label in labels]).metrics

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Reliability | None:
        """Of boxes, right where they cover by half an object of their class that no surer box has covered."""
        sure, right = [], []
        for prediction, label in zip(predictions, labels, strict=True):
            left = [t for t in things(label) if not t["crowd"]]
            for box in prediction["boxes"]:
                fits = [overlap(box, [t]) if t["label"] == box["label"] else 0.0 for t in left]
                best = int(np.argmax(fits)) if fits else -1
                sure.append(box["score"])
                right.append(float(best >= 0 and fits[best] >= FITS))
                if right[-1]:
                    left.pop(best)
        return "boxes found", sure, right

    def target(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """The highest class logit in the middle of a box, or the highest of a class, or of all.

        Args:
            logits: Shape (batch, outputs, rows, columns).
            batch: Its ``sizes``; of one record where `logits` has variants of it.
            of: A predicted box or any mapping with ``label`` and ``box``; its number in the prediction of the first
                record; a class name; None for the most likely box.
        """
        heat = logits[:, : len(self.labels)]
        number = None if isinstance(of, Mapping) else self.class_of(of)
        if of is None or number is not None:
            return (heat if number is None else heat[:, [number]]).flatten(1).amax(1)
        if not isinstance(of, Mapping):
            of = self._numbered(self.decode(logits[:1].detach(), batch, [])[0]["boxes"], of)
        rows, columns = self._middle(of["box"], batch["sizes"][0].tolist(), heat.shape[-2:])
        return heat[:, self._number(of["label"]), rows, columns].flatten(1).amax(1)

    def _numbered(self, boxes: Sequence[Mapping[str, Any]], of: Any) -> Mapping[str, Any]:
        if not 0 <= int(of) < len(boxes):
            raise ConfigError(f"There is no box {of}: {len(boxes)} were predicted, counted from 0.")
        return boxes[int(of)]

    def targets(self, prediction: Prediction, of: Any = None) -> list[Target]:
        """Every box that would be drawn, the one with the number `of`, or the most likely place of the class `of`."""
        boxes: list[Mapping[str, Any]] = [b for b in prediction["boxes"] if b["score"] >= _DRAWN]
        if isinstance(of, Mapping):
            boxes = [of]
        elif of is not None and self.class_of(of) is not None:
            return [Target(str(of), of)]
        elif of is not None:
            boxes = [self._numbered(prediction["boxes"], of)]
        names = [f"{b['label']} at {', '.join(f'{v:.0f}' for v in b['box'])}" for b in boxes]
        return [Target(name, b, group=b["label"]) for name, b in zip(names, boxes, strict=True)]

    def doubts(self, found: Sequence[Prediction], labels: Sequence[Any]) -> list[Doubt]:
        """Images where a box is missing or of another class."""
        given = [[t for t in things(label) if not t["crowd"]] for label in labels]
        return box_doubts([p["boxes"] for p in found], given)

    def mistake(self, prediction: Prediction, label: Any) -> tuple[str, Any] | None:
        """The surest box that covers no object of its class by half."""
        true = things(label)
        for box in (b for b in prediction["boxes"] if b["score"] >= _DRAWN):
            if overlap(box, [t for t in true if t["crowd"] or t["label"] == box["label"]]) < FITS:
                return f"It sees {box['label']} where no box of that class is labelled.", box
        return None

    def answer(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Probability of a centre there, shape (batch,)."""
        return self.target(logits, batch, of=of).sigmoid()

    def _middle(self, box: Sequence[float], size: Sequence[int], grid: Sequence[int]) -> tuple[slice, slice]:
        """Rows and columns of the middle half of a box, three at least; a box need not be symmetric about its place."""
        assert self.canvas is not None
        scale = self.canvas.scale(size) / STRIDE
        found = []
        for k, most in ((1, grid[0]), (0, grid[1])):
            centre, reach = (box[k] + box[k + 2] / 2) * scale, max(1.5, box[k + 2] * scale / 4)
            first = min(max(0, math.floor(centre - reach)), most - 1)
            found.append(slice(first, max(first + 1, math.ceil(centre + reach))))
        return found[0], found[1]

    @contextlib.contextmanager
    def writer(self, folder: Path) -> Iterator[Callable[[Mapping[str, Any], Prediction], None]]:
        """Writes each image with its boxes as ``<name>.png``, and at the end ``results.json`` in COCO's form."""
        folder.mkdir(parents=True, exist_ok=True)
        results: list[dict[str, Any]] = []
        taken: set[str] = set()

        def write(record: Mapping[str, Any], prediction: Prediction) -> None:
            picture = drawing.boxes_picture(self.image.read(record), prediction["boxes"], self.labels, min_score=_DRAWN)
            picture.save(folder / f"{picture_name(record, taken)}.png")
            image_id = record["_row"] if record.get("image_id") is None else record["image_id"]
            for box in prediction["boxes"]:
                found = {"image_id": image_id, "category_id": self.category_ids[box["label"]]}
                results.append(found | {"bbox": box["box"], "score": box["score"]})

        yield write
        write_text(folder / "results.json", json.dumps(results) + "\n")
