"""Patches of a picture: squares of pixels that can be hidden behind the mean colour of the data."""

from __future__ import annotations

__all__ = ["Patches", "patches_of"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pretune.heat_map import HeatMap
from pretune.modalities.base import Batch, Example
from pretune.perturbing import grid_of
from pretune.pieces import Pieces
from pretune.tasks.base import Task


@dataclass(frozen=True)
class Patches(Pieces):
    """The patches of one picture, row by row.

    Attributes:
        batch: One row of ``pixel_values``.
        grid: Rows and columns of patches.
        side: Of a patch, in pixels; the last row and column may be cut.
        image: What the model sees, bytes (height, width, channels).
        name: Where the picture is from.
    """

    noun: ClassVar[str] = "patches"

    batch: Batch
    grid: tuple[int, int]
    side: int
    image: Any
    name: str = ""

    def __len__(self) -> int:
        return self.grid[0] * self.grid[1]

    def merged(self, scores: Tensor) -> list[float]:
        """Sums of the scores of pixels over each patch."""
        high, wide = (n * self.side for n in self.grid)
        padded = F.pad(scores.double().cpu(), (0, wide - scores.shape[1], 0, high - scores.shape[0]))
        sums = padded.reshape(self.grid[0], self.side, self.grid[1], self.side).sum((1, 3))
        return sums.flatten().tolist()

    def hiding(self, task: Task, hidden: Sequence[frozenset[int]]) -> Tensor:
        """Pixels with the mean colour in place of these patches."""
        table = torch.zeros(len(hidden), len(self), dtype=torch.bool)
        for row, chosen in enumerate(hidden):
            table[row, list(chosen)] = True
        pixels = self.batch["pixel_values"]
        mask = table.reshape(-1, 1, *self.grid).repeat_interleave(self.side, 2).repeat_interleave(self.side, 3)
        mask = mask[..., : pixels.shape[-2], : pixels.shape[-1]].to(pixels.device)
        return torch.where(mask, 0.0, pixels)  # the mean colour is 0 after normalisation

    def explanation(self, scores: Tensor | None, **common: Any) -> HeatMap:
        """The picture with the scores of its pixels."""
        shape = self.image.shape[:2]
        found = np.zeros(shape) if scores is None else scores.double().cpu().numpy()
        return HeatMap(image=self.image, scores=found, patch=self.side, name=self.name, **common)


def patches_of(task: Task, record: Mapping[str, Any], example: Example, span: tuple[int, int] | None = None) -> Patches:
    """The patches of a record's picture, as the model reads it."""
    batch = {k: v for k, v in task.collate([example]).items() if k != "labels"}
    pixels = task.modality.denormalise(batch["pixel_values"])[0]  # type: ignore[attr-defined]  # pixels have it
    image = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    rows, columns, side = grid_of(task, batch)
    return Patches(batch, (rows, columns), side, image, str(task.modality.origin(record).get("image", "")))
