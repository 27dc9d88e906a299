"""Temperature scaling: one number that makes probabilities as sure as they are right (Guo et al. 2017)."""

from __future__ import annotations

__all__ = ["class_logits", "class_loss", "fitted_temperature", "label_logits", "label_loss"]

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

Floats = NDArray[np.float64]

_LEAST = float(np.finfo(np.float32).tiny)
_GREATEST = 1.0 - float(np.finfo(np.float32).eps) / 2
_BOUNDS = (math.log(0.05), math.log(20.0))


def class_logits(probabilities: Floats) -> Floats:
    """Log-probabilities, from float32 ones that may have been rounded to 0."""
    return np.log(np.maximum(probabilities, _LEAST))


def label_logits(probabilities: Floats) -> Floats:
    """Log-odds, from float32 probabilities that may have been rounded to 0 or 1."""
    p = np.clip(probabilities, _LEAST, _GREATEST)
    return np.log(p) - np.log1p(-p)


def class_loss(logits: Floats, targets: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of class indices, shape (records,)."""
    return -float(log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


def label_loss(logits: Floats, targets: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of 0 and 1, shape (records, labels)."""
    return -float(log_expit(np.where(targets > 0, logits, -logits)).mean())


def fitted_temperature(logits: Floats, targets: NDArray[np.int64]) -> float:
    """The temperature with the least loss; above 1 the model was too sure.

    Args:
        logits: Shape (records, labels).
        targets: Class indices, shape (records,), or 0 and 1, shape (records, labels).

    Returns:
        A number from 0.05 to 20; 1 where every answer is right, since any sharper one would then fit better still.
    """
    several = targets.ndim == 2
    answers = (logits > 0) if several else logits.argmax(axis=1)
    if bool((answers == targets).all()):
        return 1.0
    loss = label_loss if several else class_loss
    found = minimize_scalar(
        lambda t: loss(logits / math.exp(t), targets), bounds=_BOUNDS, method="bounded", options={"xatol": 1e-6}
    )
    return math.exp(float(found.x))
