"""Classical baselines that a pre-trained model has to beat: TF-IDF with a linear model, and the majority."""

from __future__ import annotations

__all__ = ["Text", "logistic", "majority", "ridge", "tfidf_logistic", "tfidf_ridge"]

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit
from sklearn.pipeline import FeatureUnion, make_union

from pretune.errors import DataError
from pretune.tasks.base import Prediction

Text: TypeAlias = str | tuple[str, str]
"""One text, or a pair of texts."""

_C = [1.0, 10.0, 100.0, 1000.0]
_ALPHA = [0.01, 0.1, 1.0, 10.0, 100.0]
_FOLDS_UP_TO = 2000  # above this one held-out fifth is as exact as five small ones were
_NEGATIONS = frozenset({"no", "not", "never", "nobody", "nothing", "none", "without", "n't", "cannot", "nor"})


def tfidf_logistic(
    train_texts: Sequence[Text], train_labels: Sequence[Any], test_texts: Sequence[Text], seed: int = 0
) -> list[Prediction]:
    """TF-IDF and multinomial logistic regression, tuned on the training labels alone.

    Cross-validated accuracy (ties: log-loss) chooses between words (1-2 grams) and words with character
    n-grams (2-5, inside words), and the inverse penalty C from 1 to 1000. A pair of texts becomes the
    differences and products of the two TF-IDF vectors and five overlap features.

    Args:
        train_texts: Texts, or pairs of texts.
        train_labels: One label a text.
        test_texts: Of the same form.
        seed: Of the folds.

    Returns:
        ``{"label", "probabilities": {label: p}}`` for each test text.

    Raises:
        DataError: Fewer than two labels, or as many texts as labels are not given.
    """
    return logistic(_of_texts(), train_texts, train_labels, test_texts, seed)


def logistic(
    candidates: Sequence[Any], train: Sequence[Any], train_labels: Sequence[Any], test: Sequence[Any], seed: int
) -> list[Prediction]:
    """Multinomial logistic regression on the features that cross-validate best, with the best penalty.

    Args:
        candidates: Features to choose from: ``fit(inputs)`` and ``transform(inputs)`` to a sparse matrix.
        train: Inputs.
        train_labels: One label an input.
        test: Other inputs.
        seed: Of the folds.

    Raises:
        DataError: Fewer than two labels, or not as many labels as inputs.
    """
    _require_same(train, train_labels)
    names = sorted(set(train_labels))
    if len(names) < 2:
        raise DataError(f"Logistic regression needs two labels or more, found {names}; add the others.")
    numbers = np.array([names.index(x) for x in train_labels])
    model = LogisticRegression(max_iter=1000, tol=1e-3)
    x, x_test = _fit_best(model, {"C": _C}, candidates, train, numbers, test, seed, stratified=True)
    probabilities = model.fit(x, numbers).predict_proba(x_test)
    return [_prediction(names, row) for row in probabilities]


def tfidf_ridge(
    train_texts: Sequence[Text], train_values: Sequence[float], test_texts: Sequence[Text], seed: int = 0
) -> list[float]:
    """TF-IDF and ridge regression, tuned on the training values alone by cross-validated squared error.

    Args:
        train_texts: Texts, or pairs of texts.
        train_values: One number a text.
        test_texts: Of the same form.
        seed: Of the folds.

    Returns:
        One value a test text, within the range of the training values.

    Raises:
        DataError: As many texts as values are not given, or fewer than two.
    """
    return ridge(_of_texts(), train_texts, train_values, test_texts, seed)


def ridge(
    candidates: Sequence[Any], train: Sequence[Any], train_values: Sequence[float], test: Sequence[Any], seed: int
) -> list[float]:
    """Ridge regression on the features that cross-validate best; arguments as of `logistic`, with values."""
    _require_same(train, train_values)
    values = np.asarray(train_values, dtype=np.float64)
    model = Ridge()
    x, x_test = _fit_best(model, {"alpha": _ALPHA}, candidates, train, values, test, seed, stratified=False)
    found = model.fit(x, values).predict(x_test)
    return [float(v) for v in np.clip(found, values.min(), values.max())]


def majority(train_labels: Sequence[Any], num_test: int) -> list[Prediction]:
    """The most frequent training label for each of `num_test` texts (the first in order of labels when tied).

    Raises:
        DataError: No labels.
    """
    if not len(train_labels):
        raise DataError("The majority baseline needs at least one training label, found none.")
    counts = Counter(train_labels)
    names = sorted(counts)
    shares = np.array([counts[n] / len(train_labels) for n in names])
    return [_prediction(names, shares) for _ in range(num_test)]


def _prediction(names: Sequence[Any], row: NDArray[np.float64]) -> Prediction:
    probabilities = {name: float(p) for name, p in zip(names, row, strict=True)}
    return {"label": names[int(row.argmax())], "probabilities": probabilities}


def _require_same(texts: Sequence[Text], targets: Sequence[Any]) -> None:
    if len(texts) != len(targets) or len(texts) < 2:
        raise DataError(
            f"A baseline needs two or more texts with one label each, found {len(texts)} texts and "
            f"{len(targets)} labels; check the columns."
        )


def _fit_best(
    model: Any,
    grid: dict[str, list[float]],
    candidates: Sequence[Any],
    train: Sequence[Any],
    targets: NDArray[Any],
    test: Sequence[Any],
    seed: int,
    *,
    stratified: bool,
) -> tuple[Any, Any]:
    """Sets the best of `grid` on `model`; returns the best features of train and test inputs.

    The candidates see all training inputs but no labels and no test input.
    """
    folds = _folds(targets, seed, stratified=stratified)
    scoring = ["accuracy", "neg_log_loss"] if stratified else ["neg_mean_squared_error"]
    best: tuple[tuple[float, ...], dict[str, float], Any] | None = None
    for features in candidates:
        x = features.fit(train)
        if folds is None:  # a class with a single text: nothing to validate on
            model.set_params(C=10.0)
            return x, features.transform(test)
        search = GridSearchCV(model, grid, scoring=scoring, cv=folds, refit=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            results = search.fit(x, targets).cv_results_
        for i, parameters in enumerate(results["params"]):
            score = tuple(float(results[f"mean_test_{s}"][i]) for s in scoring)
            if best is None or score > best[0]:
                best = (score, parameters, features)
    assert best is not None
    model.set_params(**best[1])
    return best[2].transform(train), best[2].transform(test)


def _folds(targets: NDArray[Any], seed: int, *, stratified: bool) -> Any:
    if not stratified:
        if len(targets) > _FOLDS_UP_TO:
            return ShuffleSplit(1, test_size=0.2, random_state=seed)
        return KFold(min(5, len(targets)), shuffle=True, random_state=seed)
    fewest = int(np.bincount(targets).min())
    if fewest < 2:
        return None
    if len(targets) > _FOLDS_UP_TO:
        return StratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
    return StratifiedKFold(min(5, fewest), shuffle=True, random_state=seed)


def _of_texts() -> list[_Features]:
    return [_Features(with_characters=False), _Features(with_characters=True)]


class _Features:
    """TF-IDF of texts; of pairs the differences, products and overlaps."""

    def __init__(self, *, with_characters: bool) -> None:
        parts = [TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")]
        if with_characters:
            parts.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2))
        self.union: FeatureUnion = make_union(*parts)

    def fit(self, texts: Sequence[Text]) -> Any:
        self.union.fit([t for text in texts for t in ([text] if isinstance(text, str) else text)])
        return self.transform(texts)

    def transform(self, texts: Sequence[Text]) -> Any:
        if all(isinstance(t, str) for t in texts):
            return self.union.transform(texts).tocsr()
        first = self.union.transform([t[0] for t in texts])
        second = self.union.transform([t[1] for t in texts])
        product = first.multiply(second)
        cosine = np.asarray(product.sum(axis=1)).reshape(-1, 1)
        overlaps = np.array([_overlaps(*t) for t in texts])
        return sparse.hstack([abs(first - second), product, cosine, overlaps], format="csr")


def _overlaps(first: str, second: str) -> list[float]:
    """Shares of common words, relative length, and whether only one side negates."""
    a, b = set(first.lower().split()), set(second.lower().split())
    common = len(a & b)
    negated = bool(a & _NEGATIONS) != bool(b & _NEGATIONS)
    longer = max(len(a), len(b), 1)
    return [common / max(len(b), 1), common / max(len(a), 1), common / max(len(a | b), 1),
            min(len(a), len(b)) / longer, float(negated)]  # fmt: skip
