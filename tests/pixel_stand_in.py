"""An image modality and a corpus in memory, for tests of image objectives."""

from __future__ import annotations

import numpy as np
import torch
from transformers import ConvNextV2Config, ResNetConfig, ViTConfig

SIZE = 16


class StandInModality:
    """The part of the image modality that objectives use."""

    kind, name = "pixels", "image"
    image_size = SIZE

    def __init__(self, num_channels: int = 3) -> None:
        self.num_channels = num_channels

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() / 255 - 0.5) / 0.25

    def denormalise(self, images: torch.Tensor) -> torch.Tensor:
        return (images * 0.25 + 0.5).clamp(0, 1)


class StandInCorpus:
    """Squares of random colour, size and place on random grounds: there is something to learn."""

    fingerprint = "stand-in"

    def __init__(self, *, num_images: int = 40, num_channels: int = 3, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.images = np.empty((num_images, SIZE, SIZE, num_channels), dtype=np.uint8)
        for image in self.images:
            image[:] = rng.integers(0, 256, num_channels)
            y, x, side = *rng.integers(0, SIZE - 4, 2), rng.integers(4, 10)
            image[y : y + side, x : x + side] = rng.integers(0, 256, num_channels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]

    def batch(self, indices):
        return self.images[np.asarray(indices)]


def config(family: str, num_channels: int = 3):
    if family == "convnext":
        return ConvNextV2Config(
            depths=[1, 1, 1, 1],
            hidden_sizes=[8, 16, 24, 32],
            patch_size=2,
            num_channels=num_channels,
            image_size=SIZE,
        )
    if family == "resnet":
        return ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            num_channels=num_channels,
        )
    return ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=SIZE,
        patch_size=4,
        num_channels=num_channels,
    )
