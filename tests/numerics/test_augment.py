"""Augmentations equal what they should, draw from the given generator alone, and keep type and range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretune import augment

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 3, 8, 10), dtype=np.uint8))
ALL = {
    "random_resized_crop": lambda x, rng: augment.random_resized_crop(x, rng),
    "horizontal_flip": lambda x, rng: augment.horizontal_flip(x, rng),
    "shift": lambda x, rng: augment.shift(x, rng, 3),
    "color_jitter": lambda x, rng: augment.color_jitter(x, rng, hue=0.2, rate=0.8),
    "grayscale": lambda x, rng: augment.grayscale(x, rng, 0.5),
    "blur": lambda x, rng: augment.blur(x, rng, 0.7),
}


@pytest.mark.parametrize("name", sorted(ALL))
def test_same_draws_same_images_of_the_same_type(name):
    for images in (IMAGES, IMAGES.float() / 255):
        first, again = (ALL[name](images, np.random.default_rng(1)) for _ in range(2))
        assert torch.equal(first, again)
        assert first.dtype == images.dtype
        assert first.shape == images.shape
        assert not torch.equal(first, images)
        assert first.min() >= 0
        assert first.max() <= (255 if images.dtype == torch.uint8 else 1.0001)
    grey = ALL[name](IMAGES[:, :1], np.random.default_rng(1))
    assert grey.shape == IMAGES[:, :1].shape


def test_the_whole_box_is_the_image_and_a_box_is_a_slice():
    whole = torch.tensor([[0.0, 0.0, 8.0, 10.0]]).repeat(6, 1)
    assert torch.equal(augment.resized_crop(IMAGES, whole, (8, 10)), IMAGES)
    part = torch.tensor([[2.0, 3.0, 4.0, 5.0]]).repeat(6, 1)
    assert torch.equal(augment.resized_crop(IMAGES, part, (4, 5)), IMAGES[:, :, 2:6, 3:8])


def test_resizing_equals_interpolate():
    whole = torch.tensor([[0.0, 0.0, 8.0, 10.0]]).repeat(6, 1)
    truth = torch.nn.functional.interpolate(IMAGES.float(), (16, 20), mode="bilinear", align_corners=False)
    assert torch.allclose(augment.resized_crop(IMAGES.float(), whole, (16, 20)), truth, atol=1e-3)


def test_shift_moves_without_blending():
    moved = augment.shift(IMAGES, np.random.default_rng(3), 2)
    moves = np.random.default_rng(3).integers(-2, 3, (6, 2))
    for image, result, (down, across) in zip(IMAGES, moved, moves, strict=True):
        rows = np.clip(np.arange(8) + down, 0, 7)
        columns = np.clip(np.arange(10) + across, 0, 9)
        assert torch.equal(result, image[:, rows][:, :, columns])


def test_flip_and_grayscale_by_hand():
    flipped = augment.horizontal_flip(IMAGES, np.random.default_rng(0), rate=1.0)
    assert torch.equal(flipped, IMAGES.flip(-1))
    grey = augment.grayscale(IMAGES.float(), np.random.default_rng(0), rate=1.0)
    truth = (IMAGES.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    assert torch.allclose(grey, truth[:, None].expand_as(grey), atol=1e-4)


def test_blur_keeps_constants_and_smooths():
    flat = torch.full((4, 1, 12, 12), 0.3)
    assert torch.allclose(augment.blur(flat, np.random.default_rng(0), 1.0), flat, atol=1e-6)
    sharp = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    assert augment.blur(sharp, np.random.default_rng(0), 1.0, sigma=(1.0, 1.5)).std() < 0.7 * sharp.std()


def test_hue_of_a_whole_turn_changes_nothing_much():
    images = IMAGES.float() / 255 * 0.4 + 0.3
    turned = augment._turned(images, torch.full((6, 1, 1, 1), 2 * torch.pi))
    assert torch.allclose(turned, images, atol=1e-3)
