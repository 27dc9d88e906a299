"""Which of many unlabelled records to label: such that the model is unsure of, and that are unlike each other."""

from __future__ import annotations

__all__ = ["choose"]

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

Vectors = NDArray[np.float32]

FACTOR = 10
"""The least sure records that are clustered, for each one that is chosen."""


def choose(vectors: Vectors, uncertainty: NDArray[np.float64] | None, number: int, *, seed: int) -> NDArray[np.int64]:
    """Places of the chosen records, best first.

    Zhdanov 2019, "Diverse mini-batch active learning": the records of which the model is least sure, ten for each one
    wanted, are put into as many clusters as are wanted (k-means, weighted by uncertainty), and of each the one nearest
    to the centre is taken. Without uncertainty all records are clustered, and weigh the same. The clusters that hold
    most of the uncertainty come first, so that whoever labels fewer than `number` has the best of them.

    Args:
        vectors: Unit vectors, shape (records, width).
        uncertainty: One a record, 0 (sure) to 1; None where a task has none.
        number: How many to choose; all there are if there are fewer.
        seed: Of the clusters.
    """
    number = min(number, len(vectors))
    weights = np.ones(len(vectors)) if uncertainty is None else np.maximum(uncertainty, 1e-6)
    order = np.argsort(-weights, kind="stable")
    near = order if uncertainty is None else order[: FACTOR * number]
    if len(near) == number:
        return near
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different vectors than clusters: see below
        clusters = KMeans(number, n_init=1, random_state=seed).fit(vectors[near], sample_weight=weights[near])
    gaps = np.linalg.norm(vectors[near] - clusters.cluster_centers_[clusters.labels_], axis=1)
    return near[_representatives(clusters.labels_, gaps, weights[near], number)]


def _representatives(
    labels: NDArray[np.int32], gaps: NDArray[np.float64], weights: NDArray[np.float64], number: int
) -> NDArray[np.int64]:
    """Of each cluster the nearest to its centre, heavy clusters first; then, for empty clusters, the heaviest left."""
    mass = np.bincount(labels, weights, minlength=number)
    by_gap = np.argsort(gaps, kind="stable")
    first = {int(labels[i]): int(i) for i in by_gap[::-1]}
    chosen = [first[c] for c in np.argsort(-mass, kind="stable") if int(c) in first]
    rest = [int(i) for i in np.argsort(-weights, kind="stable") if int(i) not in set(chosen)]
    return np.array((chosen + rest)[:number], dtype=np.int64)
