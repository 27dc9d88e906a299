"""What k-mer statistics alone can predict of a sequence: the floor that a masked language model has to get below."""

from __future__ import annotations

__all__ = ["NeighbourModel", "neighbour_floor"]

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

_MOST_TOKENS, _MOST_CODES, _WIDEST, _SEEN = 20_000_000, 1 << 62, 5, 10
_WEIGHTS = (0.3, 1.0, 3.0, 10.0, 30.0)


class NeighbourModel:
    """Predicts a token from the tokens on each side, a Markov field of some order, smoothed towards lower orders.

    The probability of a token between its `reach` neighbours on either side is its count there plus `weight` times the
    probability between fewer neighbours, over their sum (Dirichlet smoothing, MacKay and Peto 1995); with none at
    all, its frequency.

    Args:
        ids: Tokens of a training stream, (tokens,).
        vocab_size: Ids are below it.
        reach: Most neighbours on each side.
    """

    def __init__(self, ids: Ids, *, vocab_size: int, reach: int) -> None:
        self.vocab_size, self.reach = vocab_size, reach
        self.frequency = (np.bincount(ids, minlength=vocab_size) + 1.0) / (len(ids) + vocab_size)
        self._pairs, self._contexts = [], []
        for near in range(1, reach + 1):
            contexts, tokens = self._codes(ids, near)
            self._contexts.append(np.unique(contexts, return_counts=True))
            self._pairs.append(np.unique(contexts * vocab_size + tokens, return_counts=True))

    def _codes(self, ids: Ids, near: int, margin: int | None = None) -> tuple[Ids, Ids]:
        """A number for the `near` neighbours on each side of each token that has them, and the token."""
        edge = near if margin is None else margin
        contexts, stop = np.zeros(len(ids) - 2 * edge, np.int64), len(ids) - edge
        for distance in (*range(-near, 0), *range(1, near + 1)):
            contexts = contexts * self.vocab_size + ids[edge + distance : stop + distance]
        return contexts, ids[edge:stop]

    def losses(self, ids: Ids, weight: float) -> list[float]:
        """Cross-entropy in nats of other tokens, with 0, 1 ... `reach` neighbours on each side."""
        tokens = ids[self.reach : len(ids) - self.reach]
        found = self.frequency[tokens]
        losses = [-float(np.log(found).mean())]
        for near in range(1, self.reach + 1):
            contexts, _ = self._codes(ids, near, self.reach)
            seen = _counts(self._contexts[near - 1], contexts)
            together = _counts(self._pairs[near - 1], contexts * self.vocab_size + tokens)
            found = (together + weight * found) / (seen + weight)
            losses.append(-float(np.log(found).mean()))
        return losses


def _counts(table: tuple[Ids, Ids], wanted: Ids) -> Ids:
    codes, counts = table
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[place] == wanted, counts[place], 0)


def neighbour_floor(train: Any, held_out: Any) -> tuple[float, int]:
    """The best cross-entropy, in nats a token, that counted neighbours reach on held-out sequences, and their number.

    Counted in the training stream (its first 20 million tokens), chosen on the held-out one among 0 to 5 neighbours on
    each side and five smoothing weights. There are as many neighbours as leave every combination about ten times in
    training (1 of some million residues, 4 of bases): more would remember near copies. A masked model's own task is
    harder, as it does not see all neighbours.

    Args:
        train: A token stream.
        held_out: Another.
    """
    seen, other = (np.asarray(s.slice(0, min(len(s), _MOST_TOKENS)), np.int64) for s in (train, held_out))
    reach = _reach(seen, len(other), train.vocab_size)
    model = NeighbourModel(seen, vocab_size=train.vocab_size, reach=reach)
    tried = [(loss, near) for weight in _WEIGHTS for near, loss in enumerate(model.losses(other, weight))]
    return min(tried)


def _reach(train: Ids, num_held_out: int, vocab_size: int) -> int:
    """As many neighbours as leave each combination ten times in training: statistics, and no memory of near copies."""
    usual = int((np.bincount(train) > len(train) / 1000).sum())
    fits = [
        n
        for n in range(_WIDEST + 1)
        if _SEEN * usual ** (2 * n + 1) <= len(train) and vocab_size ** (2 * n + 1) < _MOST_CODES
    ]
    return max((n for n in fits if num_held_out > 4 * n), default=0)
