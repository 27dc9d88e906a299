"""What tasks with an answer for every place of an image share: the working size, augmentation, model and files."""

from __future__ import annotations

__all__ = ["DenseTask", "picture_name"]

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pretune import augment, data, features
from pretune.canvas import Canvas, View, random_views, seen_images
from pretune.dense import AutoDense
from pretune.errors import ConfigError, ModelError, did_you_mean
from pretune.evenly_spaced import evenly_spaced
from pretune.modalities.base import Batch, Example, Modality
from pretune.modalities.image import Image
from pretune.progress import say
from pretune.tasks.base import Task

_SAMPLE = 64
_DETAIL = 2
"""Working size in units of the encoder's own image size."""

_VIEWS = {"light": (1.35, 1.15), "strong": (2.0, 1.35)}
"""For each strength of augmentation the largest zoom and change of proportions."""

_LEAST = 16


class DenseTask(Task):
    """A task on images at a working size of their own shape, with a `DenseModel`.

    The working size is that of the first records processed, which in training are the training records; it is stored in
    the model's config. Each image is fitted into it with its proportions kept, so images may have any size.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"pixels"})
    roles: ClassVar[Mapping[str, Sequence[str]] | None] = data.IMAGE_COLUMNS
    stratified: ClassVar[bool] = False
    has_leads: ClassVar[bool] = False
    full_lr_multiple: ClassVar[float] = 4.0  # the decoder is new: at the usual rate it finds large things alone
    purpose: ClassVar[str]
    """End of the model's class name."""

    def __init__(self, *, resolution: int | None, width: int) -> None:
        super().__init__()
        if resolution is not None and resolution < _LEAST:
            raise ConfigError(f"resolution must be at least {_LEAST} pixels, found {resolution}.")
        if width < 8 or width % 8:
            raise ConfigError(f"width must be a multiple of 8, found {width}.")
        self.resolution = resolution
        self.width = width
        self.labels: list[str] = []
        self.canvas: Canvas | None = None

    @property
    def image(self) -> Image:
        """The modality, which is of images."""
        return cast(Image, self.modality)

    # -- the model ---------------------------------------------------------------------------------------------------

    def auto_class_for(self, kind: str) -> Any:
        """What builds the dense model around any image encoder."""
        return AutoDense(self.purpose)

    def config_overrides(self) -> dict[str, Any]:
        """Class names, and the mapping ``dense``: decoder, outputs, working size and what `remembered` adds."""
        assert self.canvas is not None, "process records before the model is built"
        dense = {"width": self.width, "bias": self.bias(), "canvas": [self.canvas.height, self.canvas.width]}
        return {
            "id2label": dict(enumerate(self.labels)),
            "label2id": {name: i for i, name in enumerate(self.labels)},
            "dense": dense | self.remembered(),
        }

    def bias(self) -> list[float]:
        """Where the bias of each output starts."""
        raise NotImplementedError

    def remembered(self) -> dict[str, Any]:
        """JSON-able facts about the training labels that a restored task needs."""
        return {}

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes class names and the working size from the model's config.

        Raises:
            ModelError: It is not a model of such a task.
        """
        super().restore(model, modality)
        dense = getattr(model.config, "dense", None)
        if dense is None:
            raise ModelError(f'{type(model).__name__} has no "dense" in its config; it was not made for {self.name}.')
        names = cast(dict[int, str], model.config.id2label)
        self.labels = [names[i] for i in range(len(names))]
        self.canvas, self.width = Canvas(*dense["canvas"]), dense["width"]

    def logits(self, batch: Batch) -> Tensor:
        """The output map, float32, shape (batch, outputs, rows, columns)."""
        return features.logits(self.model, batch).float()

    # -- images ------------------------------------------------------------------------------------------------------

    def process(self, records: Sequence[Mapping[str, Any]]) -> list[Example]:
        """Decodes images and fits them into the working size, which the first call derives."""
        if self.canvas is None:
            self.canvas = self._derived(records)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self._example, records))

    def _derived(self, records: Sequence[Mapping[str, Any]]) -> Canvas:
        sizes = [self.image.read(record).shape[:2] for record in evenly_spaced(records, _SAMPLE)]
        own = round(float(np.median([max(size) for size in sizes])))
        longer = self.resolution or min(_DETAIL * self.image.squares.size, own)
        canvas = Canvas.of(cast(list[tuple[int, int]], sizes), max(_LEAST, longer))
        origin = "as given" if self.resolution else f"{_DETAIL} x the encoder's, at most the images' own"
        say(f"working size: {canvas.width} x {canvas.height} pixels ({origin}; --task.resolution)")
        return canvas

    def _example(self, record: Mapping[str, Any]) -> Example:
        assert self.canvas is not None
        pixels = self.image.read(record)
        fill = [round(255 * m) for m in self.image.mean]
        return {"pixel_values": self.canvas.fit(pixels, fill), "size": pixels.shape[:2]}

    def view(self, examples: Sequence[Example], rng: np.random.Generator | None) -> View | None:
        """The part of each image that a training step sees; None: all of it, as when predicting or replaying."""
        if rng is None or "features" in examples[0] or self.canvas is None:
            return None
        zoom, stretch = _VIEWS.get(self.image.augmentation, (1.0, 1.0))
        return random_views(rng, self.canvas, len(examples), zoom=zoom, stretch=stretch, mirror=self.image.mirrors)

    def pixels(self, examples: Sequence[Example], view: View | None, rng: np.random.Generator | None) -> Batch:
        """``pixel_values``, and ``sizes``: height and width of each image as it was given, shape (batch, 2)."""
        images = torch.from_numpy(np.stack([e["pixel_values"] for e in examples])).permute(0, 3, 1, 2)
        if view is not None and rng is not None and self.image.augmentation == "strong":
            images = augment.color_jitter(images, rng, brightness=0.3, contrast=0.3, saturation=0.3, rate=0.8)
        values = self.image.normalise(images)
        sizes = torch.tensor([e["size"] for e in examples])
        return {"pixel_values": values if view is None else seen_images(values, view), "sizes": sizes}

    def counts(self, batch: Batch) -> dict[str, float]:
        """What the mean loss is over."""
        raise NotImplementedError

    # -- explanation -------------------------------------------------------------------------------------------------

    def class_of(self, of: Any) -> int | None:
        """The number of a class that is named, or None where `of` is no name.

        Raises:
            ConfigError: A name that no class has.
        """
        if isinstance(of, str) and of not in self.labels and not of.isdecimal():
            raise ConfigError(f'There is no label "{of}".{did_you_mean(of, self.labels)}')
        return self.labels.index(of) if isinstance(of, str) and of in self.labels else None


def picture_name(record: Mapping[str, Any], taken: set[str], *, endings: Sequence[str] = ("",)) -> str:
    """A name for files after the record's image, with its row number where another file has it (and an ending)."""
    image = record.get("image")
    path = image.get("path") if isinstance(image, dict) else image
    name = Path(path).stem if isinstance(path, str) else f"row-{record['_row']}"
    while taken & {name + ending for ending in endings}:
        name = f"{name}-{record['_row']}"
    taken |= {name + ending for ending in endings}
    return name
