"""Word vectors from co-occurrence counts: an embedding matrix that costs seconds and then stays as it is.

A masked language model spends its first million tokens on learning word frequencies and then which words keep company.
The second is in the corpus's counts: the factorised positive pointwise mutual information of words within a window is
what skip-gram with negative sampling approaches (Levy & Goldberg 2014). The window is wide, so that the vectors tell
topics apart and not only parts of speech.

The vectors are frozen while pre-training: within a small budget, the masked-word loss turns them into vectors of word
frequency and syntax, and classifiers with few labels lose (docs/results.md). Fine-tuning moves them again.
"""

from __future__ import annotations

__all__ = ["counts", "initialise", "word_vectors"]

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from transformers import PreTrainedModel

_DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_PART = 1_000_000
_MOST_PARTS = 8
_SMOOTHING = 0.75
_POWER = 0.5


def word_vectors(
    corpus: Any, width: int, *, seed: int = 0, distances: Sequence[int] = _DISTANCES
) -> NDArray[np.float32]:
    """Vectors of all vocabulary entries from their neighbours.

    Args:
        corpus: A token stream: ``len``, ``slice``, ``vocab_size`` and ``special``, whose ``sep`` ends a document; no
            pair crosses it. At most 8 M tokens, spread evenly, are counted.
        width: Dimensions, below the vocabulary size.
        seed: Of the randomised factorisation.
        distances: To which tokens on each side pairs are counted, ascending; a pair counts 1 / distance, and the
            last of several distances stands for those that are left out before it.

    Returns:
        Shape (vocabulary, width), with zero rows for entries that never occur.
    """
    mutual = _positive_mutual_information(counts(corpus, distances))
    left, values, _ = randomized_svd(mutual, n_components=width, n_iter=3, random_state=seed)
    known = np.diff(mutual.indptr) > 0  # the factorisation leaves rounding noise in empty rows
    return np.where(known[:, None], left * values**_POWER, 0.0).astype(np.float32)


def counts(corpus: Any, distances: Sequence[int]) -> sparse.csr_matrix:
    """Symmetric weighted counts; part by part, so that memory follows the vocabulary and not the corpus."""
    size = corpus.vocab_size
    shares = [sum(1 / d for d in range(low + 1, high + 1)) for low, high in pairwise((0, *distances))]
    total = sparse.csr_matrix((size, size), dtype=np.float32)
    starts = range(0, len(corpus), _PART)
    for start in starts[:: -(-len(starts) // _MOST_PARTS)]:
        ids = np.asarray(corpus.slice(start, min(start + _PART, len(corpus))), dtype=np.int64)
        ends = ids == corpus.special["sep"]
        document = ends.cumsum()
        for distance, share in zip(distances, shares, strict=True):
            inside = (document[:-distance] == document[distance:]) & ~ends[:-distance]
            pairs = ids[:-distance][inside] * size + ids[distance:][inside]
            keys, number = np.unique(pairs, return_counts=True)
            weights = (number * share).astype(np.float32)
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
    """Gives every word that occurs its vector, of length 1, as input embedding, and freezes the embeddings.

    Length 1 lets a tied vocabulary head become certain: the logits are at most the length of its hidden states.

    Args:
        model: With random weights; the rows of entries that never occur keep theirs.
        corpus: See `word_vectors`.
        seed: Of the factorisation.
    """
    weight: Any = model.get_input_embeddings().weight
    width = min(weight.shape[1], len(weight) - 1)
    vectors = torch.from_numpy(word_vectors(corpus, width, seed=seed))
    seen = vectors.norm(dim=1) > 0
    with torch.no_grad():
        weight[seen] = 0.0
        weight[seen, :width] = vectors[seen] / vectors[seen].norm(dim=1, keepdim=True)
    weight.requires_grad_(False)
