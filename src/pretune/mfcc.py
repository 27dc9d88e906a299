"""Mel-frequency cepstral coefficients, summed up over a recording, and the classical baseline that reads them."""

from __future__ import annotations

__all__ = ["mfcc_statistics", "mfcc_svm"]

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pretune import mel
from pretune.audio_reading import Recording, samples
from pretune.frame_clusters import cosines


def mfcc_statistics(wave: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    """Means and deviations of 20 MFCCs and of their changes in time, (80,).

    Args:
        wave: Mono, 16 bit.
        rate: Samples a second.
    """
    least = mel.WINDOW + 2 * mel.HOP
    padded = torch.from_numpy(np.pad(wave, (0, max(0, least - len(wave)))).astype(np.float32) / 2**15)
    coefficients = mel.log_mel(padded[None], rate)[0] @ cosines(padded.device)
    change = torch.diff(coefficients, dim=0)
    parts = [f(dim=0) for values in (coefficients, change) for f in (values.mean, values.std)]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def mfcc_svm(
    recordings: Sequence[Recording], labels: Sequence[str], held: Sequence[Recording], *, rate: int, seed: int = 0
) -> list[str]:
    """Labels that a support vector machine on `mfcc_statistics` gives to held-out recordings.

    Args:
        recordings: To learn from.
        labels: Theirs.
        held: To label.
        rate: Samples a second that all are brought to.
        seed: Of the machine.
    """
    x, x_held = (np.stack([mfcc_statistics(samples(r, rate), rate) for r in part]) for part in (recordings, held))
    model = make_pipeline(StandardScaler(), SVC(C=10.0, random_state=seed))
    found: list[str] = model.fit(x, labels).predict(x_held).tolist()
    return found
