"""The nearest of many vectors, exactly."""

from __future__ import annotations

__all__ = ["Nearest"]

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

_PART = 1024
"""Queries that are answered together: memory is theirs, whatever their number."""


class Nearest:
    """Unit vectors to look among.

    Brute force by scikit-learn: of 200,000 vectors of width 384 a query takes some milliseconds and nothing has to be
    built, so an approximate index would only save what the encoder then costs tenfold (docs/neighbours.md).

    Args:
        vectors: Each of length 1, shape (number, width).
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self._search = NearestNeighbors(algorithm="brute", metric="euclidean").fit(vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def find(self, queries: NDArray[np.float32], number: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Cosine similarities and positions of the nearest, both (queries, number), the most similar first.

        Args:
            queries: Unit vectors, shape (queries, width).
            number: How many; at most all there are.
        """
        number = min(number, len(self.vectors))
        similar = np.empty((len(queries), number))
        places = np.empty((len(queries), number), dtype=np.int64)
        for start in range(0, len(queries), _PART):
            part = slice(start, start + _PART)
            distances, places[part] = self._search.kneighbors(queries[part], number)
            similar[part] = 1 - np.square(distances, dtype=np.float64) / 2
        return similar, places
