"""Self-distillation: a student must give a slow copy of itself the same answer for other views of an image."""

from __future__ import annotations

__all__ = ["Distill"]

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from pretune.evenly_spaced import evenly_spaced
from pretune.image_grid import labelled_rows
from pretune.limits import check_range
from pretune.modalities.base import Batch, Corpus, Example, Modality
from pretune.objectives.base import Floor
from pretune.pixel_objective import Images, PixelObjective, pooled, stacked
from pretune.views import Views

if TYPE_CHECKING:
    from PIL.Image import Image

_SHOWN, _BOTTLENECK, _CENTRE_MOMENTUM = 12, 64, 0.9


class Distill(PixelObjective):
    """DINO (Caron et al. 2021), made small: multi-crop, a teacher that is the student's moving average, centring.

    No negatives, so small batches do; a thousand prototypes instead of 65,536, which 1,000 to 100,000 images could not
    fill. Small crops go through the student alone and cost a quarter. The teacher is what is exported.

    Args:
        num_prototypes: Answers to choose from.
        num_local: Small crops of each image beside the two large ones; 0 leaves them out.
        teacher_temperature: Sharpness of the teacher's answers; lower is sharper.
        student_temperature: Sharpness of the student's answers.
        momentum: Of the teacher at the start; rises to 1 over the budget.
        min_crop: Least area of a large crop, as a share of the image, and most of a small one.
        flip_rate: Share of the views that are mirrored; 0 where left and right mean something, as in digits.
        jitter: Strength of the changes of brightness, contrast and colour; 0 is off.
        grayscale_rate: Share of the views that lose their colour.
    """

    width_times_lr = 0.1
    teacher_model: PreTrainedModel
    centre: Tensor
    num_steps: Tensor

    def __init__(
        self,
        *,
        num_prototypes: int = 1024,
        num_local: int = 4,
        teacher_temperature: float = 0.04,
        student_temperature: float = 0.1,
        momentum: float = 0.99,
        min_crop: float = 0.3,
        flip_rate: float = 0.5,
        jitter: float = 0.5,
        grayscale_rate: float = 0.2,
    ) -> None:
        super().__init__()
        self.num_prototypes = check_range("num_prototypes", num_prototypes, 2, 1e6)
        self.num_local = check_range("num_local", num_local, 0, 64)
        self.teacher_temperature = check_range("teacher_temperature", teacher_temperature, 0.001, 10)
        self.student_temperature = check_range("student_temperature", student_temperature, 0.001, 10)
        self.momentum = check_range("momentum", momentum, 0, 1)
        self.min_crop = check_range("min_crop", min_crop, 0.05, 0.95)
        self.views = Views(flip_rate=flip_rate, jitter=jitter, grayscale_rate=grayscale_rate)
        self.flip_rate, self.jitter, self.grayscale_rate = flip_rate, jitter, grayscale_rate

    def setup(self, model: PreTrainedModel, modality: Modality) -> None:
        """Builds the head, and the teacher as a copy of both."""
        super().setup(model, modality)
        self.head = _Head(self.width, self.num_prototypes)
        self.teacher_model = copy.deepcopy(self.model).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(self.num_prototypes))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        step = _least_size(model.config)
        self.local_size = max(step, self.image_size // 2 // step * step)

    def collate(self, examples: Sequence[Example], rng: np.random.Generator) -> Batch:
        """Normalised large crops ``pixel_values`` and ``other_values``, small ones ``local_values`` (batch, n, ...)."""
        images = self.images(examples)
        large = [self.normalised(self.views(images, rng, (self.min_crop, 1.0))) for _ in range(2)]
        batch = {"pixel_values": large[0], "other_values": large[1]}
        scale = (max(0.05, self.min_crop / 4), self.min_crop)
        small = [self.normalised(self.views(images, rng, scale, self.local_size)) for _ in range(self.num_local)]
        return batch | ({"local_values": torch.stack(small, dim=1)} if small else {})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy between teacher and student over all pairs of different views."""
        large = torch.cat((batch["pixel_values"], batch["other_values"]))
        with torch.no_grad():
            answers = self.teacher_head(pooled(self.teacher_model(pixel_values=large))).float()
            if self.training:
                self._recentre(answers.mean(0))
            targets = ((answers - self.centre) / self.teacher_temperature).softmax(-1).chunk(2)
        guesses = list(self._log_answers(self.encode(large)).chunk(2))
        if "local_values" in batch:
            small = batch["local_values"].transpose(0, 1).flatten(0, 1)
            guesses += self._log_answers(self.encode(small)).chunk(batch["local_values"].shape[1])
        pairs = [-(t * g).sum(-1).mean() for i, t in enumerate(targets) for j, g in enumerate(guesses) if i != j]
        mean = torch.cat(targets).mean(0)
        return {
            "loss": torch.stack(pairs).mean() * self.scale.get("images", 1.0),
            "target_entropy": torch.special.entr(torch.cat(targets)).sum(-1).mean(),
            "used_prototypes": torch.special.entr(mean).sum().exp(),
        }

    def _recentre(self, mean: Tensor) -> None:
        """Moves the centre towards the batch's mean answer; the first batch sets it."""
        self.num_steps += 1
        self.centre.lerp_(mean, max(1 - _CENTRE_MOMENTUM, 1 / float(self.num_steps)))

    def _log_answers(self, vectors: Tensor) -> Tensor:
        return (self.head(vectors).float() / self.student_temperature).log_softmax(-1)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Moves the teacher towards the student; the momentum rises along a cosine."""
        momentum = 1 - (1 - self.momentum) * (1 + math.cos(math.pi * min(1.0, progress))) / 2
        for slow, fast in ((self.teacher_model, self.model), (self.teacher_head, self.head)):
            for a, b in zip(slow.parameters(), fast.parameters(), strict=True):
                a.lerp_(b, 1 - momentum)
            for kept, new in zip(slow.buffers(), fast.buffers(), strict=True):
                kept.copy_(new)

    def floor(self, corpus: Corpus) -> Floor:
        """The loss of giving every prototype the same share; also what collapse to that looks like."""
        return Floor(math.log(self.num_prototypes), "answers that say nothing")

    def pictures(self, corpus: Corpus) -> dict[str, Image]:
        """Views: large ones, and the first small one."""
        examples = evenly_spaced(Images(corpus), _SHOWN)
        batch = self.collate(examples, np.random.default_rng(0))
        show: Any = self.modality.denormalise
        rows = {"large crop": show(batch["pixel_values"]), "other large crop": show(batch["other_values"])}
        if "local_values" in batch:
            small = F.interpolate(show(batch["local_values"][:, 0]), size=(self.image_size,) * 2)
            rows["small crop, enlarged"] = small
        return {"views": labelled_rows({"original": stacked(examples).float() / 255} | rows)}

    def export(self) -> PreTrainedModel:
        """The teacher's encoder: an average of the student over steps, and better than it."""
        return self.teacher_model


def _least_size(config: Any) -> int:
    """The smallest image that an encoder takes, of which others must be multiples: ResNet takes any."""
    stages = len(getattr(config, "hidden_sizes", [0]))
    return int(config.patch_size) * 2 ** (stages - 1) if hasattr(config, "patch_size") else 1


class _Head(nn.Module):
    """Projection to a unit vector, and its cosine with every prototype."""

    def __init__(self, width: int, num_prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width), nn.GELU(),
            nn.Linear(2 * width, _BOTTLENECK),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, _BOTTLENECK))

    def forward(self, vectors: Tensor) -> Tensor:
        """Cosines, (batch, prototypes)."""
        return F.linear(F.normalize(self.mlp(vectors).float(), dim=-1), F.normalize(self.prototypes, dim=-1))
