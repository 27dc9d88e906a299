"""Predictions drawn beside the truth: boxes, masks, maps of contacts and distances."""

from __future__ import annotations

__all__ = ["drawn_section"]

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pretune import image_reading
from pretune.box_sources import things
from pretune.contact_maps import pair_distances
from pretune.drawing import boxes_picture, overlay_picture
from pretune.errors import DataError
from pretune.mask_sources import read_mask
from pretune.plots import blank, image_of
from pretune.reporting.examples import SCORED, Example
from pretune.reporting.facts import Facts
from pretune.reporting.measured import RIGHT, WRONG
from pretune.reporting.records import embedded
from pretune.reporting.section import Section, metric_text, render
from pretune.tasks.segmentation import decoded

_SIDE = 420
_SHOWN_SCORE = 0.3
"""Score from which a predicted box is drawn."""

Pair = tuple[Image.Image, Image.Image]


def drawn_section(facts: Facts) -> Section | None:
    """The worst and the best predictions, each beside the truth."""
    measured = facts.measured
    if measured is None or facts.predictor is None:
        return None
    found = next((k for k in _DRAWN if k in measured.predicted[0]), None)
    if found is None:
        return None
    draw, sentence = _DRAWN[found]
    groups = []
    worst = measured.examples.of(WRONG)[:4]
    best = [e for e in measured.examples.of(RIGHT) if all(e is not w for w in worst)][:2]
    for title, examples in (("Worst", worst), ("Best", best)):
        rows = [_row(draw, e, facts) for e in examples]
        groups.append((title, [r for r in rows if r is not None]))
    body = render("report_drawn.html.j2", groups=[g for g in groups if g[1]])
    if len(measured.labels) > SCORED:
        sentence += f" Chosen among the first {SCORED:,} records."
    return Section("drawn", "Predictions beside the truth", sentence, body)


def _row(draw: Callable[[Example, Facts], Pair], example: Example, facts: Facts) -> dict[str, Any] | None:
    try:
        truth, found = draw(example, facts)
    except DataError:
        return None
    assert facts.predictor is not None
    name = facts.predictor.task.primary
    addresses = [embedded(picture, facts.room, _SIDE) for picture in (truth, found)]
    if None in addresses:
        return None
    return {
        "truth": addresses[0],
        "found": addresses[1],
        "name": _name(example, facts),
        "score": f"{name.replace('_', ' ')} {metric_text(name, 1 - example.wrong)}",
    }


def _name(example: Example, facts: Facts) -> str:
    assert facts.predictor is not None
    origin = facts.predictor.modality.origin(example.record)
    found = str(next(iter(origin.values()), "") or f"row {example.record['_row']}")
    return found.rpartition("/")[2]


def _pixels(example: Example) -> NDArray[np.uint8]:
    return image_reading.pixels(image_reading.picture(example.record["image"]), 3)


def _boxes(example: Example, facts: Facts) -> Pair:
    task: Any = facts.predictor and facts.predictor.task
    pixels = _pixels(example)
    truth: list[Any] = [t for t in things(example.label) if not t["crowd"]]
    found = boxes_picture(pixels, example.prediction["boxes"], task.labels, min_score=_SHOWN_SCORE)
    return boxes_picture(pixels, truth, task.labels), found


def _masks(example: Example, facts: Facts) -> Pair:
    task: Any = facts.predictor and facts.predictor.task
    pixels = _pixels(example)
    masks = (read_mask(example.label), decoded(example.prediction["mask"]))
    first, second = (overlay_picture(pixels, mask, task.numbers, task.labels) for mask in masks)
    return first, second


def _contacts(example: Example, facts: Facts) -> Pair:
    task: Any = facts.predictor and facts.predictor.task
    truth = pair_distances(torch.from_numpy(np.asarray(example.label, np.float32))).numpy()
    near = np.where(np.isnan(truth), np.nan, (truth < task.cutoff).astype(float))
    found = task.probabilities(example.record)
    return _map(near, "Blues", 0, 1), _map(found, "Blues", 0, float(np.nanmax(found)))


def _distances(example: Example, facts: Facts) -> Pair:
    maps = [
        pair_distances(torch.from_numpy(np.asarray(c, np.float32))).numpy()
        for c in (example.label, example.prediction["ca"])
    ]
    return _map(maps[0], "viridis_r", 0, 30), _map(maps[1], "viridis_r", 0, 30)


def _map(values: NDArray[Any], colours: str, low: float, high: float) -> Image.Image:
    figure = blank(figsize=(3.6, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    ends = (0.5, len(values) + 0.5)
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=high, extent=(*ends, *ends[::-1]))
    axes.set(xlabel="residue", ylabel="residue")
    return image_of(figure)


_DRAWN: dict[str, tuple[Callable[[Example, Facts], Pair], str]] = {
    "boxes": (_boxes, f"Boxes with a score of {_SHOWN_SCORE} or more are drawn; colours are classes."),
    "mask": (_masks, "Colours are classes."),
    "contacts": (
        _contacts,
        "Dark: residues that touch (truth), or the pairs that the model holds most likely (predicted; the scale ends "
        "at the likeliest, however unlikely that is); grey: not known.",
    ),
    "ca": (_distances, "Distances between residues, dark is far (30 Angstrom and more); grey: not known."),
}
"""How predictions are drawn, by what they have."""
