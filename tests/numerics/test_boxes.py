"""Boxes against worked examples and against the pixels that they surround."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretune.average_precision import AveragePrecision
from pretune.boxes import CROWD, NO_OBJECT, box_loss, gaussian_targets, generalized_iou, heat_loss, iou, nms
from pretune.canvas import Canvas, View, random_views, seen_boxes, seen_images, seen_masks


def test_overlap_is_the_worked_example() -> None:
    a = torch.tensor([[0.0, 0, 4, 4], [10, 10, 12, 12]])
    b = torch.tensor([[2.0, 2, 6, 6], [0, 0, 4, 4]])
    torch.testing.assert_close(iou(a, b), torch.tensor([[4 / 28, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(generalized_iou(a, b), torch.tensor([4 / 28 - (36 - 28) / 36, -(144 - 20) / 144]))


def test_suppression_is_greedy_within_a_class() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [2, 0, 12, 10], [30, 0, 40, 10]])
    scores, classes = torch.tensor([0.5, 0.9, 0.4, 0.1]), torch.zeros(4)
    assert nms(boxes, scores, classes, max_overlap=0.6).tolist() == [1, 3]
    # the last of three in a row survives when the one that overlaps it is itself dropped
    chain = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])
    assert nms(chain, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3), max_overlap=0.5).tolist() == [0, 2]
    assert nms(boxes[:2], scores[:2], torch.tensor([0, 1]), max_overlap=0.1).tolist() == [1, 0]
    assert nms(boxes[:0], scores[:0], classes[:0], max_overlap=0.5).tolist() == []


def test_targets_have_one_peak_an_object_and_weights_that_sum_to_one() -> None:
    boxes = torch.tensor([[[8.0, 8, 24, 40], [40, 40, 44, 44], [0, 40, 24, 63], [0, 0, 0, 0]]])
    classes = torch.tensor([[0, 1, CROWD, NO_OBJECT]])
    found = gaussian_targets(boxes, classes, 2, (16, 16), 4)
    assert (found.heat == 1).nonzero().tolist() == [[0, 0, 6, 4], [0, 1, 10, 10]]
    assert found.heat[0, 0, 7, 4] > found.heat[0, 0, 6, 5] > 0  # wider along the longer side
    for k in range(2):
        owned = (found.boxes == boxes[0, k]).all(-1)
        torch.testing.assert_close(found.weights[owned].sum(), torch.tensor(1.0))
    assert not found.counted[0, 0, 12, 2]
    assert found.counted[0, 0, :9].all()
    assert not gaussian_targets(boxes[:, :0], classes[:, :0], 2, (16, 16), 4).heat.any()


def test_losses_are_least_at_the_truth_and_ignore_crowds() -> None:
    boxes, classes = torch.tensor([[[8.0, 8, 24, 40], [0, 40, 24, 63]]]), torch.tensor([[0, CROWD]])
    found = gaussian_targets(boxes, classes, 1, (16, 16), 4)
    right = torch.where(found.heat == 1, 9.0, -9.0)
    assert heat_loss(right, found) < 1e-3 < heat_loss(torch.zeros_like(right), found)
    crowded = right.clone()
    crowded[0, 0, 12, 2] = 9.0  # inside of the crowd
    torch.testing.assert_close(heat_loss(crowded, found), heat_loss(right, found))
    assert box_loss(found.boxes, found) < 1e-6
    assert box_loss(found.boxes + 4, found) == pytest.approx(1 - float(generalized_iou(boxes[0, 0] + 4, boxes[0, 0])))


@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_and_masks_move_with_their_pixels(mirrored: bool) -> None:
    canvas = Canvas(64, 96)
    images = torch.zeros(1, 1, 64, 96)
    images[0, 0, 20:40, 30:50] = 1.0
    view = View(torch.tensor([[12.0, 4, 80, 48]]), torch.tensor([mirrored]))
    boxes, seen = seen_boxes(torch.tensor([[[30.0, 20, 50, 40]]]), view, canvas)
    rows, columns = (seen_images(images, view)[0, 0] > 0.5).nonzero().unbind(1)
    edges = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert (boxes[0, 0] - edges).abs().max() <= 0.7
    assert seen[0, 0] == 1
    masks = seen_masks((images[:, 0] * 7).long(), view, 255)
    assert torch.equal(masks == 7, seen_images(images, view, "nearest")[:, 0] > 0.5)


def test_what_lies_outside_of_a_view_is_cut_and_its_share_known() -> None:
    view = View(torch.tensor([[-10.0, 0, 40, 40]]), torch.tensor([False]))
    boxes, seen = seen_boxes(torch.tensor([[[20.0, 10, 40, 20]]]), view, Canvas(40, 40))
    assert boxes.tolist() == [[[30.0, 10.0, 40.0, 20.0]]]
    assert seen.tolist() == [[0.5]]
    masks = seen_masks(torch.ones(1, 40, 40, dtype=torch.long), view, 255)
    assert (masks[0, :, :10] == 255).all()
    assert (masks[0, :, 10:] == 1).all()


def test_views_depend_on_the_generator_alone_and_hold_what_zooms_in() -> None:
    first, again = (
        random_views(np.random.default_rng(3), Canvas(40, 60), 50, zoom=2.0, stretch=1.2, mirror=True) for _ in "ab"
    )
    assert torch.equal(first.boxes, again.boxes)
    assert first.mirrored.any()
    small = first.boxes[first.boxes[:, 2] <= 60]
    assert ((small[:, 0] >= 0) & (small[:, 0] + small[:, 2] <= 60.001)).all()


def test_the_canvas_keeps_proportions() -> None:
    canvas = Canvas.of([(480, 640), (480, 640), (100, 100)], 256)
    assert (canvas.height, canvas.width) == (192, 256)
    assert canvas.covered((480, 640)) == (192, 256)
    assert canvas.covered((400, 100)) == (192, 48)
    assert canvas.fit(np.full((10, 5, 3), 9, np.uint8), [1, 2, 3])[0, -1].tolist() == [1, 2, 3]
    mask = canvas.fit_mask(np.full((10, 5), 9, np.uint8), 255)
    assert (mask == 9).sum() == 192 * 96


def test_average_precision_is_the_worked_example() -> None:
    true = [[_true("a", 0)], [_true("b", 0), _true("a", 50, crowd=True)], []]
    found = [[_found("a", 0, 0.9)], [_found("a", 50, 0.95)], [_found("b", 0, 0.3)]]
    scores = AveragePrecision(found, true).metrics()
    assert scores == {"map": 0.5, "map50": 0.5, "map75": 0.5, "recall": 0.5, "ap50_a": 1.0, "ap50_b": 0.0}
    # a resample of the images is what scoring copies of them gives
    drawn = [0, 0, 2]
    copies = AveragePrecision([found[i] for i in drawn], [true[i] for i in drawn]).metrics()
    assert {k: v for k, v in AveragePrecision(found, true).metrics(drawn).items() if v == v} == copies
    assert AveragePrecision([[], [], []], true).metrics()["map"] == 0.0
    assert AveragePrecision([[]], [[]]).metrics()["map"] == 0.0


def _true(label, left, crowd=False):
    return {"label": label, "box": [left, 0.0, 10.0, 10.0], "crowd": crowd, "category_id": None}


def _found(label, left, score):
    return {"label": label, "box": [left, 0.0, 10.0, 10.0], "score": score}
