"""Classical baselines on DNA and proteins: linear models of k-mers, of letters by place, of windows."""

from __future__ import annotations

__all__ = ["blosum62", "for_task", "kmer_logistic", "kmer_ridge", "window_logistic"]

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from pretune import baselines
from pretune.alphabets import PROTEIN, Alphabet
from pretune.classical import Classical, valued
from pretune.errors import ConfigError
from pretune.tasks.base import Prediction, Task

_KMERS = ((1, 2), (1, 3), (1, 4), (1, 6))
_PLACES = 400
"""One letter a place is tried on sequences of one length up to this many letters."""


def for_task(task: Task, alphabet: Alphabet) -> Classical | None:
    """The baseline of a task on sequences of an alphabet; None where there is none."""

    def letters(rows: Sequence[Mapping[str, Any]]) -> list[str]:
        return [alphabet.clean(r["sequence"]).upper() for r in rows]

    if task.name == "classification" and not getattr(task, "multi_label", False):
        return Classical(
            "k-mers + logistic regression",
            lambda rows, labels, test, seed: kmer_logistic(letters(rows), labels, letters(test), seed),
        )
    if task.name == "regression":
        return Classical(
            "k-mers + ridge regression",
            lambda rows, values, test, seed: valued(kmer_ridge(letters(rows), values, letters(test), seed)),
        )
    if task.name == "tagging" and alphabet is PROTEIN:
        return Classical(
            "windows of BLOSUM62 + logistic regression",
            lambda rows, tags, test, _: _tagged(
                window_logistic(letters(rows), tags, letters(test), letters="blosum62")
            ),
        )
    return None


def _tagged(tags: Sequence[Sequence[str]]) -> list[Prediction]:
    """As `tagging` gives them: a string where each tag is one letter."""
    return [{"tags": "".join(row) if all(len(tag) == 1 for tag in row) else list(row)} for row in tags]


def kmer_logistic(train: Sequence[str], labels: Sequence[Any], test: Sequence[str], seed: int = 0) -> list[Prediction]:
    """Logistic regression on k-mers, or on the letter at each place where all sequences are equally long.

    Cross-validation on the training labels chooses between k-mers of up to 2, 3, 4 and 6 letters (weighted as TF-IDF)
    and, for one length of at most 400 letters, one-hot letters; and the penalty.

    Args:
        train: Sequences in capital letters.
        labels: One a sequence.
        test: Other sequences.
        seed: Of the folds.

    Returns:
        ``{"label", "probabilities": {label: p}}`` for each test sequence.

    Raises:
        DataError: Fewer than two labels, or not as many labels as sequences.
    """
    return baselines.logistic(_candidates(train, test), train, labels, test, seed)


def kmer_ridge(train: Sequence[str], values: Sequence[float], test: Sequence[str], seed: int = 0) -> list[float]:
    """Ridge regression on the same features, chosen by cross-validated squared error; one value a test sequence."""
    return baselines.ridge(_candidates(train, test), train, values, test, seed)


def _candidates(train: Sequence[str], test: Sequence[str]) -> list[Any]:
    lengths = {len(s) for s in [*train, *test]}
    placed = [_Places()] if len(lengths) == 1 and max(lengths) <= _PLACES else []
    return [*placed, *(_Kmers(*span) for span in _KMERS)]


class _Kmers:
    """TF-IDF of the strings of some lengths."""

    def __init__(self, shortest: int, longest: int) -> None:
        self.vectors = TfidfVectorizer(
            analyzer="char", ngram_range=(shortest, longest), lowercase=False, sublinear_tf=True, max_features=50_000
        )

    def fit(self, sequences: Sequence[str]) -> Any:
        return self.vectors.fit_transform(sequences).tocsr()

    def transform(self, sequences: Sequence[str]) -> Any:
        return self.vectors.transform(sequences).tocsr()


class _Places:
    """The letter at each place, one-hot."""

    def fit(self, sequences: Sequence[str]) -> Any:
        self.letters = sorted(set("".join(sequences)))
        return self.transform(sequences)

    def transform(self, sequences: Sequence[str]) -> Any:
        codes = np.array([list(s) for s in sequences])
        return sparse.csr_matrix((codes[:, :, None] == np.array(self.letters)).reshape(len(codes), -1), dtype=float)


def window_logistic(
    train: Sequence[str],
    tags: Sequence[Sequence[str]],
    test: Sequence[str],
    *,
    letters: str = "one_hot",
    reach: int = 7,
) -> list[list[str]]:
    """A tag for each residue from the residues around it, by logistic regression (as Qian and Sejnowski 1988).

    Args:
        train: Protein sequences in capital letters.
        tags: One tag a residue of each.
        test: Other sequences.
        letters: What a residue is to the model: ``one_hot``, or its row of ``blosum62`` (Henikoff 1992).
        reach: Residues on each side.

    Raises:
        ConfigError: Another word for `letters`.
    """
    if letters not in ("one_hot", "blosum62"):
        raise ConfigError(f'There are no features "{letters}"; there are: one_hot, blosum62.')
    table = np.eye(len(PROTEIN.standard)) if letters == "one_hot" else blosum62() / 4
    x = np.concatenate([_windows(s, table, reach) for s in train])
    y = np.array(list(itertools.chain.from_iterable(tags)))
    model = LogisticRegression(max_iter=300, C=0.1).fit(x, y)
    return [model.predict(_windows(s, table, reach)).tolist() for s in test]


def _windows(sequence: str, table: NDArray[np.float64], reach: int) -> NDArray[np.float32]:
    """Features of the residues around each, (residues, (2 reach + 1) x width); zeros outside and for other letters."""
    rows = np.zeros((len(sequence) + 2 * reach, table.shape[1]), np.float32)
    for place, letter in enumerate(sequence):
        if (index := PROTEIN.standard.find(letter)) >= 0:
            rows[place + reach] = table[index]
    return np.lib.stride_tricks.sliding_window_view(rows, 2 * reach + 1, axis=0).reshape(len(sequence), -1)


def blosum62() -> NDArray[np.float64]:
    """Scores of replacing one standard amino acid by another, (20, 20), in the order of `PROTEIN`."""
    from biotite.sequence.align import SubstitutionMatrix

    matrix = SubstitutionMatrix.std_protein_matrix()
    return np.array([[matrix.get_score(a, b) for b in PROTEIN.standard] for a in PROTEIN.standard], np.float64)
