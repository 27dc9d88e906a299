"""A class for every pixel of an image."""

from __future__ import annotations

__all__ = ["Segmentation"]

import base64
import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune import drawing, features
from pretune.canvas import View, seen_masks
from pretune.dense import STRIDE
from pretune.dense_task import DenseTask, picture_name
from pretune.errors import ConfigError, DataError
from pretune.mask_sources import class_names_of, mask_source, read_mask
from pretune.modalities.base import Batch, Example, Modality
from pretune.tasks.base import Prediction, Target

_OVERLAY = "-overlay"
"""Ending of the name of a drawn mask."""

_IGNORED = 255
"""Class index of pixels that do not count, inside of examples and batches."""

_UNKNOWN = 254
"""Class index of class numbers that training data has not, where it has fewer than 255."""


class Segmentation(DenseTask):
    """Semantic segmentation: cross-entropy at every pixel of a map at stride 4, enlarged to the image.

    The decoder joins the encoder's feature map (or maps) with a shallow stem that sees detail; see `DenseModel`.

    Args:
        resolution: Longer side of the working size in pixels; derived: twice the encoder's image size, at most that
            of the images.
        width: Channels of the decoder.
        classes: Names of the class numbers 0, 1 ... of the masks: a list, names with commas between, or a file with
            a JSON list or a name a line; not given: the numbers themselves.
        ignore_index: Class number of pixels that do not count (void); 255, VOC's border, is always one.
        class_weights: ``balanced`` weighs each class by the inverse square root of its share of pixels, so that small
            things count more; ``none`` weighs all pixels the same.
    """

    label_columns: ClassVar[Sequence[str]] = ("mask", "masks", "segmentation", "annotation", "label", "label_path")
    label_role: ClassVar[str] = "mask"
    primary: ClassVar[str] = "miou"
    purpose: ClassVar[str] = "Segmentation"

    def __init__(
        self,
        *,
        resolution: int | None = None,
        width: int = 64,
        classes: str | list[str] | None = None,
        ignore_index: int = _IGNORED,
        class_weights: Literal["none", "balanced"] = "balanced",
    ) -> None:
        super().__init__(resolution=resolution, width=width)
        if not 0 <= ignore_index <= _IGNORED:
            raise ConfigError(f"ignore_index is a class number of 8-bit masks, 0 to 255; found {ignore_index}.")
        if class_weights not in ("none", "balanced"):
            raise ConfigError(f'class_weights is "none" or "balanced", found "{class_weights}".')
        self.classes, self.ignore_index, self.class_weights = classes, ignore_index, class_weights
        self._names: list[str] = []
        self.numbers: list[int] = []
        self._weights: Tensor | None = None

    def source(self, given: Any) -> Any:
        """A folder with ``images`` and ``masks`` as a table of both."""
        return mask_source(given)

    # -- labels ------------------------------------------------------------------------------------------------------

    def classes_in(self, record: Mapping[str, Any]) -> list[str]:
        """The numbers of the classes that the mask has."""
        return [str(n) for n in np.unique(read_mask(record[self.label_role]))]

    def learn_labels(self, labels: Sequence[Any]) -> None:
        """Learns which class numbers there are, and how common each is.

        Raises:
            DataError: Fewer than two classes, or a number that has no name.
        """
        self._names = class_names_of(self.classes)
        counts = np.zeros(256, np.int64)
        for label in labels:
            counts += np.bincount(self._checked(label).ravel(), minlength=256)
        counts[[self.ignore_index, _IGNORED]] = 0
        self.numbers = list(range(len(self._names))) if self._names else np.flatnonzero(counts).tolist()
        self.numbers = [n for n in self.numbers if n not in (self.ignore_index, _IGNORED)]
        if (counts > 0).sum() < 2:
            found = np.flatnonzero(counts).tolist()
            raise DataError(f"Segmentation needs at least two classes, found {found} in {len(labels)} masks.")
        self.labels = [self._names[n] if self._names else str(n) for n in self.numbers]
        if self.class_weights == "balanced":
            share = np.maximum(counts[self.numbers], 1) / counts.sum()
            weights = np.where(counts[self.numbers] > 0, share**-0.5, 0.0)
            self._weights = torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)

    def _checked(self, label: Any) -> NDArray[np.uint8]:
        mask = read_mask(label)
        most = int(mask[(mask != self.ignore_index) & (mask != _IGNORED)].max(initial=0))
        if self._names and most >= len(self._names):
            where = f'"{label}"' if isinstance(label, str) else "A mask"
            raise DataError(
                f"{where} has the class number {most}, and classes names 0 to {len(self._names) - 1}; name it too, or "
                f"give --task.ignore_index {most}."
            )
        return mask

    def labelled(self, example: Example, label: Any) -> Example:
        """Adds ``mask``: class indices in the working size, shape (height, width); 255 where none counts.

        Raises:
            DataError: A mask of another size than its image, or with a class that training data has not.
        """
        assert self.canvas is not None
        mask = self._indices(label)
        _require_size(mask, label, example["size"])
        return example | {"mask": self.canvas.fit_mask(mask, _IGNORED)}

    def check_size(self, label: Any, size: Sequence[int]) -> None:
        """Finds a mask of another size than its image.

        Raises:
            DataError: It is one.
        """
        _require_size(read_mask(label), label, size)

    def _indices(self, label: Any) -> NDArray[np.uint8]:
        """Class numbers of a mask to positions among the labels."""
        mask = read_mask(label)
        table = np.full(256, _UNKNOWN, np.uint8)
        table[[self.ignore_index, _IGNORED]] = _IGNORED
        table[self.numbers] = np.arange(len(self.numbers))
        found = table[mask]
        unknown = np.unique(mask[found == _UNKNOWN])
        if len(unknown) and len(self.numbers) <= _UNKNOWN:
            where = f'"{label}"' if isinstance(label, str) else "A mask"
            raise DataError(
                f"{where} has the class number {unknown[0]}, which training data has not "
                f"({', '.join(map(str, self.numbers[:20]))}); correct it."
            )
        return found

    # -- the model ---------------------------------------------------------------------------------------------------

    def bias(self) -> list[float]:
        """All classes alike."""
        return [0.0] * len(self.labels)

    def remembered(self) -> dict[str, Any]:
        """The class numbers of masks."""
        return {"numbers": self.numbers, "ignore_index": self.ignore_index}

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """As `DenseTask.restore`."""
        super().restore(model, modality)
        self.numbers, self.ignore_index = model.config.dense["numbers"], model.config.dense["ignore_index"]

    # -- a step ------------------------------------------------------------------------------------------------------

    def collate(self, examples: Sequence[Example], rng: np.random.Generator | None = None) -> Batch:
        """Images; with labels ``masks`` (batch, height, width), 255 where nothing counts."""
        view = self.view(examples, rng)
        batch = self.pixels(examples, view, rng)
        if "mask" in examples[0]:
            batch["masks"] = self._masks(examples, view)
        return batch | features.stack(examples, batch)

    def _masks(self, examples: Sequence[Example], view: View | None) -> Tensor:
        masks = torch.from_numpy(np.stack([e["mask"] for e in examples])).long()
        return masks if view is None else seen_masks(masks, view, _IGNORED)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Pixels that count, or the sum of their class weights."""
        chosen = batch["masks"][batch["masks"] != _IGNORED]
        total = chosen.numel() if self._weights is None else self._weights.to(chosen.device)[chosen].sum()
        return {"pixels": max(1.0, float(total))}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``logits`` (batch, classes, rows, columns) at stride 4, and ``loss`` when there are masks."""
        logits = self.logits(batch)
        if "masks" not in batch:
            return {"logits": logits}
        masks = batch["masks"]
        weights = None if self._weights is None else self._weights.to(logits.device)
        fine = _enlarged(logits, masks.shape[-2:])
        total = F.cross_entropy(fine, masks, weight=weights, ignore_index=_IGNORED, reduction="sum")
        return {"loss": total / self.counts(batch)["pixels"] * self.scale.get("pixels", 1.0), "logits": logits}

    # -- results -----------------------------------------------------------------------------------------------------

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """``mask``: a PNG of class numbers at the image's size, in base64; ``shares`` of pixels by class."""
        masks = [self._mask(row, size) for row, size in zip(logits.float(), batch["sizes"].tolist(), strict=True)]
        return [{"mask": _encoded(mask), "shares": self._shares(mask)} for mask in masks]

    def _mask(self, logits: Tensor, size: Sequence[int]) -> NDArray[np.uint8]:
        assert self.canvas is not None
        rows, columns = self.canvas.covered(size)
        fine = _enlarged(logits[None], (self.canvas.height, self.canvas.width))[..., :rows, :columns]
        best = F.interpolate(fine, size=tuple(size), mode="bilinear", align_corners=False)[0].argmax(0).cpu().numpy()
        return np.asarray(self.numbers, np.uint8)[best]

    def _shares(self, mask: NDArray[np.uint8]) -> dict[str, float]:
        counts = np.bincount(mask.ravel(), minlength=256)[self.numbers] / mask.size
        return {name: round(float(c), 6) for name, c in zip(self.labels, counts, strict=True) if c > 0}

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """``miou`` (mean over classes that occur), ``accuracy`` of pixels and ``iou_<class>``."""
        return self.rescored(predictions, labels)(range(len(labels)))

    def rescored(
        self, predictions: Sequence[Prediction], labels: Sequence[Any]
    ) -> Callable[[Sequence[int]], dict[str, float]]:
        """Counts the pixels of each image once, and sums those of each draw."""
        pairs = zip(predictions, labels, strict=True)
        tables = np.stack([self._counted(decoded(p["mask"]), self._indices(label)) for p, label in pairs])
        return lambda drawn: self._scores(tables[list(drawn)].sum(0))

    def _counted(self, found: NDArray[np.uint8], true: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Pixels of each (true, predicted) pair of classes."""
        num = len(self.numbers)
        place = np.zeros(256, np.int64)
        place[self.numbers] = np.arange(num)
        counted = true != _IGNORED
        pairs = true[counted].astype(np.int64) * num + place[found[counted]]
        return np.bincount(pairs, minlength=num * num).reshape(num, num)

    def _scores(self, table: NDArray[np.int64]) -> dict[str, float]:
        right, union = np.diag(table), table.sum(0) + table.sum(1) - np.diag(table)
        occurs = table.sum(1) > 0
        ious = np.divide(right, union, out=np.zeros(len(right)), where=union > 0)
        each = {f"iou_{n}": float(v) for n, v, there in zip(self.labels, ious, occurs, strict=True) if there}
        mean = float(ious[occurs].mean()) if occurs.any() else 0.0
        return {"miou": mean, "accuracy": float(right.sum() / max(1, table.sum())), **each}

    def blind(self, labels: Sequence[Any]) -> tuple[str, list[Prediction]]:
        """The most common class at every pixel."""
        masks = [self._indices(label) for label in labels]
        counts = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], axis=0)
        most = int(counts[: len(self.numbers)].argmax())
        said = [np.full(mask.shape, self.numbers[most], np.uint8) for mask in masks]
        return f"{self.labels[most]} at every pixel", [{"mask": _encoded(mask)} for mask in said]

    def target(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """The mean logit of a class over the places of a segment.

        Args:
            logits: Shape (batch, classes, rows, columns).
            batch: Not used.
            of: A class, by name or position: its segment is where it is predicted in the first record (everywhere, if
                it is nowhere). ``{"label", "places"}`` fixes the segment, a boolean map (rows, columns), as `segment`
                gives it: wanted where `logits` are of changed images. None: the class with the most places.
        """
        if not isinstance(of, Mapping):
            of = self.segment(logits, of)
        places = torch.as_tensor(of["places"], device=logits.device)
        number = self.labels.index(of["label"])
        return logits[:, number][:, places].mean(1)

    def segment(self, logits: Tensor, of: Any = None) -> dict[str, Any]:
        """The segment of a class in the first record, for `target`: ``label`` and ``places`` (rows, columns)."""
        best = logits[0].argmax(0)
        number = int(best.flatten().mode().values) if of is None else self._named(of)
        places = best == number
        return {"label": self.labels[number], "places": places if places.any() else torch.ones_like(places)}

    def _named(self, of: Any) -> int:
        """The position of a class given by name or position."""
        number = self.class_of(of)
        number = int(of) if number is None else number
        if not 0 <= number < len(self.labels):
            raise ConfigError(f"There is no class {of}: there are {len(self.labels)}, counted from 0.")
        return number

    def targets(self, prediction: Prediction, of: Any = None) -> list[Target]:
        """The segment of the class `of`, or of the class with the most pixels."""
        assert self.canvas is not None
        mask = decoded(prediction["mask"])
        number = self._named(max(prediction["shares"], key=prediction["shares"].get) if of is None else of)
        whole = self.canvas.fit_mask((mask == self.numbers[number]).astype(np.uint8), 0)
        places = torch.from_numpy(whole[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] > 0)
        places = places if places.any() else torch.ones_like(places)
        return [Target(self.labels[number], {"label": self.labels[number], "places": places})]

    def mistake(self, prediction: Prediction, label: Any) -> tuple[str, Any] | None:
        """The class that is seen at most pixels where it is not."""
        table = self._counted(decoded(prediction["mask"]), self._indices(label))
        false = table.sum(0) - np.diag(table)
        if not false.any():
            return None
        name, share = self.labels[int(false.argmax())], false.max() / table.sum()
        return f"It sees {name} at {share:.0%} of the pixels where there is something else.", name

    def answer(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """Mean probability of the class over the segment, shape (batch,)."""
        return self.target(logits.softmax(1), batch, of=of)

    @contextlib.contextmanager
    def writer(self, folder: Path) -> Iterator[Callable[[Mapping[str, Any], Prediction], None]]:
        """Writes ``<name>.png``, a palette image of class numbers, and ``<name>-overlay.png`` for each image."""
        folder.mkdir(parents=True, exist_ok=True)
        taken: set[str] = set()

        def write(record: Mapping[str, Any], prediction: Prediction) -> None:
            name = picture_name(record, taken, endings=("", _OVERLAY))
            mask = decoded(prediction["mask"])
            drawing.mask_picture(mask, self.numbers).save(folder / f"{name}.png")
            over = drawing.overlay_picture(self.image.read(record), mask, self.numbers, self.labels)
            over.save(folder / f"{name}{_OVERLAY}.png")

        yield write


def _require_size(mask: NDArray[np.uint8], label: Any, size: Sequence[int]) -> None:
    if mask.shape != tuple(size):
        shapes = [f"{w} x {h}" for h, w in (mask.shape, size)]
        where = f'"{label}"' if isinstance(label, str) else "The mask"
        raise DataError(f"{where} has {shapes[0]} pixels and its image {shapes[1]}; they must be the same.")


def _enlarged(logits: Tensor, size: Sequence[int]) -> Tensor:
    """A map at stride 4 to the model's input size (height, width)."""
    fine = F.interpolate(logits, scale_factor=float(STRIDE), mode="bilinear", align_corners=False)
    return fine[..., : size[0], : size[1]]


def _encoded(mask: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def decoded(mask: str) -> NDArray[np.uint8]:
    """The class numbers of a predicted mask, shape (height, width)."""
    with PIL.Image.open(io.BytesIO(base64.b64decode(mask))) as picture:
        return np.asarray(picture)
