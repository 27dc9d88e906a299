"""Mel-frequency cepstral coefficients, summed up over a recording, and the classical baseline that reads them."""

from __future__ import annotations

__all__ = ["for_task", "mfcc_statistics", "mfcc_svm"]

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pretune import mel
from pretune.audio_reading import Recording, samples
from pretune.classical import Classical, labels_only
from pretune.frame_clusters import cosines
from pretune.tasks.base import Task


def for_task(task: Task, *, rate: int) -> Classical | None:
    """The baseline of a task on sound at `rate` samples a second; None where there is none."""
    if task.name != "classification" or getattr(task, "multi_label", False):
        return None
    return Classical(
        "MFCC + support vector machine",
        lambda rows, labels, test, seed: labels_only(
            mfcc_svm([r["audio"] for r in rows], labels, [r["audio"] for r in test], rate=rate, seed=seed)
        ),
    )


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
