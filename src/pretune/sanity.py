"""Does an explanation depend on what the model learnt? Compared with that of the same model with random weights."""

from __future__ import annotations

__all__ = ["Sanity", "random_weights", "sanity_check"]

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from pretune.evaluation import to_device
from pretune.explainers.base import Explainer
from pretune.faithfulness import FEWEST
from pretune.pieces import Pieces
from pretune.tasks.base import Task

_HIGH = 0.5
_ORDERS, _LEVEL = 1000, 0.95
_EQUAL = 1e-9  # of the largest score: what rounding leaves of equal ones


@dataclass(frozen=True)
class Sanity:
    """The model parameter randomisation test (Adebayo et al. 2018), all weights at once.

    Attributes:
        similarity: Mean strength of Spearman's rank correlation between the scores of the trained model and of models
            with random weights, whatever its sign; None where there is nothing to compare.
        magnitudes: The same of the scores without their signs; here a negative correlation is no similarity.
        chance: What 95% of random orders of the same scores stay below in `similarity`.
        chance_magnitudes: The same in `magnitudes`.
        num_models: Models with random weights.
        num_pieces: Words, patches or cells of the record.
        noun: ``words``, ``patches`` or ``cells``.
    """

    similarity: float | None
    magnitudes: float | None
    chance: float | None
    chance_magnitudes: float | None
    num_models: int
    num_pieces: int
    noun: str = "words"

    @property
    def passed(self) -> bool | None:
        """Whether neither correlation is above 0.5 and above chance; None where that cannot be told."""
        if self.num_pieces < FEWEST or None in (self.similarity, self.chance):
            return None
        high = [
            found > max(_HIGH, chance)
            for found, chance in ((self.similarity, self.chance), (self.magnitudes, self.chance_magnitudes))
            if found is not None and chance is not None
        ]
        return not any(high)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, with ``passed`` and ``verdict``."""
        return asdict(self) | {"passed": self.passed, "verdict": self.verdict}

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        if self.num_pieces < FEWEST:
            return f"Sanity check: too few {self.noun} ({self.num_pieces}) to compare with random weights."
        if self.passed is None:
            return "Sanity check: scores are all equal, or not finite; there is nothing to compare with random weights."
        found = f"rank correlation with random weights {self.similarity:.2f} (random orders up to {self.chance:.2f})"
        if self.magnitudes is not None:
            found += f", of magnitudes {self.magnitudes:.2f} ({self.chance_magnitudes:.2f})"
        if self.passed:
            return f"Passes the sanity check: {found}."
        return f"Fails the sanity check: {found}. It does not depend on what was learnt: do not rely on it."


def sanity_check(
    task: Task,
    pieces: Pieces,
    scores: Sequence[float],
    method: Explainer,
    *,
    of: object,
    num_models: int = 2,
    seed: int = 0,
) -> Sanity:
    """Explains the same target of the same record with random weights, and compares the ranks of the pieces.

    Args:
        task: In eval mode; its weights are the same bits afterwards, whatever happens.
        pieces: Of the record.
        scores: Those of the trained model, one a piece.
        method: What gave them; its own state stays.
        of: The target, as `Task.target` takes it.
        num_models: Models with random weights, at least 1.
        seed: Of the first of them, and of the random orders.
    """
    trained, found = np.asarray(scores, np.float64), []
    if len(pieces) >= FEWEST:
        found = [_of_random(task, pieces, method, of, seed + i) for i in range(num_models)]
    signed = _compared(trained, found, np.abs, seed)
    unsigned = _compared(np.abs(trained), [np.abs(f) for f in found], np.asarray, seed)
    if signed[0] is None:
        unsigned = None, None
    return Sanity(signed[0], unsigned[0], signed[1], unsigned[1], num_models, len(pieces), pieces.noun)


def _of_random(task: Task, pieces: Pieces, method: Explainer, of: object, seed: int) -> NDArray[np.float64]:
    with random_weights(task.model, seed):
        found = copy.copy(method).scores(task, to_device(pieces.batch, task.device), of=of)
    return np.asarray(pieces.merged(found), np.float64)


@contextlib.contextmanager
def random_weights(model: nn.Module, seed: int) -> Iterator[None]:
    """Inside, each tensor of weights is drawn anew, normal and of the size that it has.

    Matrices get mean 0, as they are initialised; vectors (scales of norms, biases) keep mean and deviation.
    Parameters point to other storage meanwhile, so that the trained numbers are never written to.
    """
    generator = torch.Generator().manual_seed(seed)
    trained = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for parameter, numbers in trained:
            parameter.data = _drawn(numbers, generator)
        yield
    finally:
        for parameter, numbers in trained:
            parameter.data = numbers


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    numbers = like.float()
    mean = float(numbers.mean()) if like.ndim < 2 else 0.0
    deviation = float((numbers - mean).square().mean().sqrt())
    drawn = torch.empty(like.shape).normal_(mean, deviation, generator=generator)
    return drawn.to(like.device, like.dtype)


def _compared(
    trained: NDArray[np.float64], found: Sequence[NDArray[np.float64]], sign: Any, seed: int
) -> tuple[float | None, float | None]:
    """Mean rank correlation under `sign`, and what random orders reach; None where scores are equal or not finite."""
    usable = [f for f in found if np.isfinite(f).all() and not _equal(f)]
    if not usable or not np.isfinite(trained).all() or _equal(trained):
        return None, None
    own = _ranks(trained)
    ranks = np.array([_ranks(f) for f in usable])
    rng = np.random.default_rng(seed)
    drawn = np.array([[own @ rng.permutation(r) for r in ranks] for _ in range(_ORDERS)])
    return float(sign(ranks @ own).mean()), float(np.quantile(sign(drawn).mean(1), _LEVEL))


def _equal(scores: NDArray[np.float64]) -> bool:
    return bool(np.ptp(scores) <= _EQUAL * max(float(np.abs(scores).max()), 1e-30))


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks with mean 0 and length 1, so that a product of two is Spearman's correlation."""
    ranks = stats.rankdata(scores)
    centred = ranks - ranks.mean()
    found: NDArray[np.float64] = centred / np.linalg.norm(centred)
    return found
