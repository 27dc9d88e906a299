"""Boxes in torch: overlap, suppression of duplicates, and the targets and loss of a dense detector."""

from __future__ import annotations

__all__ = [
    "CROWD",
    "FITS",
    "NO_OBJECT",
    "Targets",
    "box_loss",
    "gaussian_targets",
    "generalized_iou",
    "heat_loss",
    "iou",
    "nms",
    "overlap",
]

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NO_OBJECT = -1
"""Class of what only fills a batch up."""

CROWD = -2
"""Class of a region where nothing is right or wrong: a crowd, a difficult or a cut object."""

FITS = 0.5
"""Overlap from which on a box is that of an object."""

_SPREAD = 0.54
"""Share of a box that its Gaussian covers (alpha of TTFNet)."""

_SIGMAS = 6.0
_FOCUS, _PENALTY = 2, 4


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each box of `a` (n, 4) with each of `b` (m, 4), corners; shape (n, m)."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    return both / (_area(a)[:, None] + _area(b)[None] - both).clamp(min=1e-9)


def overlap(box: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> float:
    """The largest IoU of a box with one of others, each with ``box`` [left, top, width, height]; 0 without others."""
    return float(iou(_as_corners([box["box"]]), _as_corners([t["box"] for t in others])).max()) if others else 0.0


def _as_corners(boxes: Sequence[Sequence[float]]) -> Tensor:
    found = torch.tensor(boxes, dtype=torch.float32)
    return torch.cat([found[:, :2], found[:, :2] + found[:, 2:]], dim=1)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less the empty share of the smallest box around both (Rezatofighi et al. 2019), last axis 4."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    union = (_area(a) + _area(b) - both).clamp(min=1e-6)
    around = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = around.clamp(min=0).prod(-1).clamp(min=1e-6)
    return both / union - (hull - union) / hull


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def nms(boxes: Tensor, scores: Tensor, classes: Tensor, *, max_overlap: float) -> Tensor:
    """Non-maximum suppression a class: indices that are kept, best score first.

    Args:
        boxes: Corners, shape (n, 4).
        scores: Shape (n,).
        classes: Shape (n,); boxes of different classes do not suppress each other.
        max_overlap: IoU with a better kept box above which a box is dropped.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, classes = boxes[order], classes[order]
    rival = ((iou(boxes, boxes) > max_overlap) & (classes[:, None] == classes[None])).triu(1).cpu().numpy()
    keep = np.ones(len(rival), np.bool_)
    for i in range(len(rival)):
        if keep[i]:
            keep &= ~rival[i]
    return order[torch.from_numpy(keep).to(order.device)]


class Targets(NamedTuple):
    """What a dense detector should give at each place.

    Attributes:
        heat: 1 at the centre of an object, falling off around it; shape (batch, classes, rows, columns).
        counted: Whether the heat at a place counts, shape (batch, 1, rows, columns); not inside of crowds.
        boxes: The object that a place should box, corners in canvas pixels, shape (batch, rows, columns, 4).
        weights: Of that box, summing to 1 over an object's places (0: none), shape (batch, rows, columns).
    """

    heat: Tensor
    counted: Tensor
    boxes: Tensor
    weights: Tensor


def gaussian_targets(boxes: Tensor, classes: Tensor, num_classes: int, grid: tuple[int, int], stride: int) -> Targets:
    """Gaussians at the centres of objects, wider along longer sides (Liu et al. 2020, TTFNet).

    Args:
        boxes: Corners in pixels, shape (batch, objects, 4).
        classes: Shape (batch, objects), or `NO_OBJECT` or `CROWD`.
        num_classes: Number of classes.
        grid: Rows and columns of the output map.
        stride: Pixels between places of the map.
    """
    rows, columns = (torch.arange(n, device=boxes.device, dtype=torch.float32) for n in grid)
    real = classes >= 0
    pull = _gaussians(boxes / stride, rows, columns) * real[..., None, None]
    heat = boxes.new_zeros(len(boxes), num_classes, *grid)
    index = classes.clamp(min=0)[..., None, None].expand_as(pull)
    heat = heat.scatter_reduce(1, index, pull, "amax") if boxes.shape[1] else heat
    counted = ~_inside(boxes / stride, rows, columns, classes == CROWD) | (heat >= 1).any(1)
    return Targets(heat, counted[:, None], *_assigned(boxes, pull))


def _gaussians(boxes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """In units of the grid; the peak, 1, is at the place that the centre lies in."""
    x1, y1, x2, y2 = (v[..., None] for v in boxes.unbind(-1))
    across = _bell(columns, (x1 + x2) / 2, x2 - x1)
    down = _bell(rows, (y1 + y2) / 2, y2 - y1)
    return down[..., :, None] * across[..., None, :]


def _bell(places: Tensor, centre: Tensor, extent: Tensor) -> Tensor:
    peak = torch.minimum(centre.floor().clamp(min=0), places[-1])
    sigma = (_SPREAD * extent / _SIGMAS).clamp(min=0.3)
    distance = (places - peak) / sigma
    return torch.exp(-0.5 * distance**2) * (distance.abs() <= _SIGMAS / 2)


def _inside(boxes: Tensor, rows: Tensor, columns: Tensor, chosen: Tensor) -> Tensor:
    x1, y1, x2, y2 = (v[..., None] for v in boxes.unbind(-1))
    across = (columns + 0.5 >= x1) & (columns + 0.5 <= x2)
    down = (rows + 0.5 >= y1) & (rows + 0.5 <= y2)
    return (down[..., :, None] & across[..., None, :] & chosen[..., None, None]).any(1)


def _assigned(boxes: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """Each place boxes the object that pulls it most; its weights sum to 1 over the places that it won."""
    if not boxes.shape[1]:
        empty = boxes.new_zeros(len(boxes), *pull.shape[-2:])
        return empty[..., None].expand(*empty.shape, 4), empty
    strongest, owner = pull.max(1)
    batch = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    total = boxes.new_zeros(boxes.shape[:2]).scatter_add(1, owner.flatten(1), strongest.flatten(1))
    return boxes[batch, owner], strongest / total[batch, owner].clamp(min=1e-6)


def heat_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Focal loss that forgives places near a centre (Zhou et al. 2019, CenterNet, equation 1); the sum over all.

    Args:
        logits: Shape (batch, classes, rows, columns).
        targets: From `gaussian_targets`.
    """
    p, heat = logits.sigmoid(), targets.heat
    centre = heat >= 1
    hit = -F.logsigmoid(logits) * (1 - p) ** _FOCUS
    miss = -F.logsigmoid(-logits) * p**_FOCUS * (1 - heat) ** _PENALTY
    return (torch.where(centre, hit, miss) * targets.counted).sum()


def box_loss(boxes: Tensor, targets: Targets) -> Tensor:
    """``1 - GIoU`` where an object is to be boxed, weighted; summed, about one unit an object.

    Args:
        boxes: Corners in pixels, shape (batch, rows, columns, 4).
        targets: From `gaussian_targets`.
    """
    chosen = targets.weights > 0
    gap = 1 - generalized_iou(boxes[chosen], targets.boxes[chosen])
    return (gap * targets.weights[chosen]).sum()
