"""Word vectors from co-occurrence counts: a start for the embedding matrix that costs seconds.

A masked language model spends its first million tokens on learning word frequencies and then which words keep company.
The second is in the corpus's counts: the factorised positive pointwise mutual information of words within a window is
what skip-gram with negative sampling approaches (Levy & Goldberg 2014).
"""

from __future__ import annotations

__all__ = ["initialise", "word_vectors"]

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from transformers import PreTrainedModel

_WINDOW = 4
_MOST_TOKENS = 20_000_000
_PART = 1_000_000
_SMOOTHING = 0.75
_POWER = 0.5


def word_vectors(corpus: Any, width: int, *, seed: int = 0, window: int = _WINDOW) -> NDArray[np.float32]:
    """Vectors of all vocabulary entries from their neighbours.

    Args:
        corpus: A token stream: ``len``, ``slice`` and ``vocab_size``; at most the first 20 M tokens are counted.
        width: Dimensions, below the vocabulary size.
        seed: Of the randomised factorisation.
        window: Tokens to each side; nearer ones count more (1 / distance).

    Returns:
        Shape (vocabulary, width), with zero rows for entries that never occur.
    """
    counts = _counts(corpus, window)
    mutual = _positive_mutual_information(counts)
    left, values, _ = randomized_svd(mutual, n_components=width, n_iter=3, random_state=seed)
    known = np.diff(mutual.indptr) > 0  # the factorisation leaves rounding noise in empty rows
    return np.where(known[:, None], left * values**_POWER, 0.0).astype(np.float32)


def _counts(corpus: Any, window: int) -> sparse.csr_matrix:
    """Symmetric weighted counts; part by part, so that memory follows the vocabulary and not the corpus."""
    size = corpus.vocab_size
    total = sparse.csr_matrix((size, size), dtype=np.float32)
    for start in range(0, min(len(corpus), _MOST_TOKENS), _PART):
        ids = np.asarray(corpus.slice(start, min(start + _PART, len(corpus))), dtype=np.int64)
        for distance in range(1, window + 1):
            pairs = ids[:-distance] * size + ids[distance:]
            keys, number = np.unique(pairs, return_counts=True)
            weights = (number / distance).astype(np.float32)
            total = total + sparse.csr_matrix((weights, (keys // size, keys % size)), shape=(size, size))
    return total + total.T


def _positive_mutual_information(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    found = counts.tocoo()
    rows = np.asarray(counts.sum(1)).ravel()
    columns = rows**_SMOOTHING
    columns /= columns.sum()
    score = np.log(found.data / (rows[found.row] * columns[found.col]))
    keep = score > 0
    return sparse.csr_matrix((score[keep], (found.row[keep], found.col[keep])), shape=counts.shape)


def initialise(model: PreTrainedModel, corpus: Any, *, seed: int = 0) -> None:
    """Replaces the random input embeddings; scale and the rows of entries that never occur stay as they were.

    Args:
        model: With random weights.
        corpus: See `word_vectors`.
        seed: Of the factorisation.
    """
    weight: Any = model.get_input_embeddings().weight
    width = min(weight.shape[1], len(weight) - 1)
    vectors = torch.from_numpy(word_vectors(corpus, width, seed=seed))
    seen = vectors.norm(dim=1) > 0
    directions = vectors[seen] / vectors[seen].norm(dim=1, keepdim=True)
    with torch.no_grad():
        spread = weight[seen].norm(dim=1).mean()
        weight[seen, :width] = directions * spread
