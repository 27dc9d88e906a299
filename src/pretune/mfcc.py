"""Mel-frequency cepstral coefficients, summed up over a recording: what classical baselines read."""

from __future__ import annotations

__all__ = ["mfcc_statistics"]

import numpy as np
import torch
from numpy.typing import NDArray

from pretune import mel
from pretune.frame_clusters import cosines


def mfcc_statistics(samples: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    """Means and deviations of 20 MFCCs and of their changes in time, (80,).

    Args:
        samples: Mono, 16 bit.
        rate: Samples a second.
    """
    least = mel.WINDOW + 2 * mel.HOP
    wave = torch.from_numpy(np.pad(samples, (0, max(0, least - len(samples)))).astype(np.float32) / 2**15)
    coefficients = mel.log_mel(wave[None], rate)[0] @ cosines(wave.device)
    change = torch.diff(coefficients, dim=0)
    parts = [f(dim=0) for values in (coefficients, change) for f in (values.mean, values.std)]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found
