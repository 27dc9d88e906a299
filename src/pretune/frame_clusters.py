"""k-means of frames: the targets of HuBERT's first round."""

from __future__ import annotations

__all__ = ["COEFFICIENTS", "assign", "centroids", "cepstra", "cosines", "smooth_spectra"]

import math

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from torch.nn import functional as F

from pretune.errors import DataError
from pretune.mel import BINS

COEFFICIENTS = 20
"""Cepstral coefficients that describe the outline of a spectrum; the rest is pitch and noise."""

_LOW = 58
"""Bins that describe a frame: those below about 3.7 kHz. Above, a recording of telephone quality has noise alone,
which normalisation makes as loud as speech, so that clusters would tell recordings apart and not sounds.
"""

_MOST = 20_000


def cepstra(mels: Tensor) -> Tensor:
    """Outline of the spectrum of each frame and its change in time, (batch, frames, 40).

    Args:
        mels: Normalised log-mel frames (batch, frames, 80 x windows).
    """
    outline = mels.float().unflatten(-1, (-1, BINS))[..., :_LOW].mean(2) @ cosines(mels.device, _LOW)
    around = F.pad(outline.transpose(1, 2), (1, 1), mode="replicate").transpose(1, 2)
    return torch.cat((outline, around[:, 2:] - around[:, :-2]), dim=-1)


def smooth_spectra(centres: Tensor, frame_size: int) -> Tensor:
    """The log-mel frames that have these cepstra, (clusters, frame_size)."""
    bins = centres[:, :COEFFICIENTS] @ cosines(centres.device, _LOW).T
    return F.pad(bins, (0, BINS - _LOW)).repeat(1, frame_size // BINS)


def cosines(device: torch.device, bins: int = BINS) -> Tensor:
    """An orthonormal cosine transform of the lowest bins, (bins, 20)."""
    angles = torch.outer(torch.arange(bins) + 0.5, torch.arange(COEFFICIENTS)) * math.pi / bins
    table = angles.cos() * math.sqrt(2 / bins)
    table[:, 0] /= math.sqrt(2)
    return table.to(device)


def centroids(frames: Tensor, number: int, *, seed: int) -> Tensor:
    """Centres of `number` clusters of frames (frames, features), (number, features).

    Raises:
        DataError: There are fewer frames than clusters.
    """
    if len(frames) < number:
        raise DataError(
            f"The sound has {len(frames)} frames for {number} clusters; give more of it, or fewer num_clusters."
        )
    if len(frames) > _MOST:
        frames = frames[torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))[:_MOST]]
    means = MiniBatchKMeans(number, random_state=seed, batch_size=4096, n_init=3)
    means.fit(frames.numpy())
    return torch.from_numpy(means.cluster_centers_).float()


def assign(frames: Tensor, centres: Tensor) -> Tensor:
    """Number of the nearest centre of each frame, (frames,)."""
    distance = centres.square().sum(1) - 2 * frames.float() @ centres.T
    return distance.argmin(1)
