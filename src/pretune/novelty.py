"""Is a record unlike all that a pool holds? Distance to its k-th neighbour, as a p-value against held-out records."""

from __future__ import annotations

__all__ = ["Novelty", "kth_distances"]

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.nearest import Nearest


def kth_distances(pool: Nearest, vectors: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Cosine distance (0 to 2) of each vector to its k-th nearest of the pool, shape (vectors,).

    Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors": no class and no density is assumed.
    """
    return 1 - pool.find(vectors, k)[0][:, -1]


@dataclass(frozen=True)
class Novelty:
    """What held-out records of the pool say about a distance.

    Attributes:
        held: Distances of records of the pool that are not among the neighbours, in rising order.
        k: Which neighbour is measured.
        share: Share of records like the pool's that is not to be flagged.
    """

    held: NDArray[np.float64]
    k: int
    share: float

    def p_values(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many of the held-out records, and the record itself, lie at least as far out, as a share.

        For a record that is drawn as the pool was, P(p <= a) <= a for every a, whatever the encoder (conformal
        anomaly detection; Bates et al. 2023, "Testing for outliers with conformal p-values").
        """
        at_least = len(self.held) - np.searchsorted(self.held, distances, side="left")
        found: NDArray[np.float64] = (1 + at_least) / (1 + len(self.held))
        return found

    @property
    def threshold(self) -> float:
        """The distance from which on a record is flagged; infinite where the held-out records are too few for that."""
        allowed = int(np.ceil((1 - self.share) * (1 + len(self.held)) - 1e-9)) - 2
        return float(np.nextafter(self.held[-1 - allowed], np.inf)) if allowed >= 0 else float("inf")

    def judge(self, distances: NDArray[np.float64]) -> list[dict[str, Any]]:
        """For each distance ``distance``, ``p``, and whether it is ``flagged``: p below 1 - share."""
        found = zip(distances.tolist(), self.p_values(distances).tolist(), strict=True)
        level = 1 - self.share
        return [{"distance": round(d, 4), "p": round(p, 4), "flagged": p < level - 1e-12} for d, p in found]
