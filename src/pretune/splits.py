"""Holding out records, once or in folds, stratified by label or by whole groups, the same for the same seed."""

from __future__ import annotations

__all__ = ["folds", "split"]

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, StratifiedGroupKFold, StratifiedKFold

from pretune.errors import ConfigError, DataError

_MAX_CLASSES = 0.5
"""With more classes than this share of the rows, labels are taken as measured values and not stratified."""


def split(
    records: Dataset, *, rate: float, seed: int, label: str | None = None, group: str | None = None
) -> tuple[Dataset, Dataset]:
    """Splits records into a part to train on and a part to validate with; both keep the order of the input.

    Args:
        records: At least two rows.
        rate: Share of the rows to hold out, between 0 and 1.
        seed: The same seed and records give the same split.
        label: Column to stratify by: every class keeps at least one row in train, a class of one row stays
            there. Floating-point labels are not stratified.
        group: Column whose equal values stay on the same side; the held-out share is then approximate.

    Raises:
        ConfigError: `rate` is not between 0 and 1.
        DataError: Too few rows or groups to hold any out.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"The share to hold out must be between 0 and 1, found {rate}.")
    if len(records) < 2:
        raise DataError(f"Found {len(records)} row(s), which cannot be split; give more rows or validation data.")
    classes = None if label is None else _classes(records[label][:])
    if group is not None:
        held = _grouped(_codes(records[group][:]), classes, rate, seed)
    else:
        held = _stratified(np.zeros(len(records), np.int64) if classes is None else classes, rate, seed)
    kept = np.setdiff1d(np.arange(len(records)), held)
    return records.select(kept), records.select(np.sort(held))


def folds(
    records: Dataset, *, num: int, seed: int, label: str | None = None, group: str | None = None
) -> list[NDArray[np.int64]]:
    """The row numbers that each fold of a cross-validation holds out; every row is held out once.

    Args:
        records: At least `num` rows.
        num: Number of folds.
        seed: The same seed and records give the same folds.
        label: Column to stratify by, as in `split`.
        group: Column whose equal values stay in the same fold.

    Raises:
        DataError: Fewer rows, or groups, than folds.
    """
    groups = np.arange(len(records)) if group is None else _codes(records[group][:])
    num_groups = len(set(groups.tolist()))
    if num_groups < num:
        what = "records" if group is None else "groups"
        raise DataError(
            f"{num} folds need at least {num} {what}, found {num_groups}; use fewer folds or give more data."
        )
    classes = None if label is None else _classes(records[label][:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "the least populated class has fewer members than folds"
        parts = list(_folder(num, seed, classes, group).split(groups, classes, groups))
    return [np.asarray(held, np.int64) for _, held in parts if len(held)]


def _folder(num: int, seed: int, classes: NDArray[np.int64] | None, group: str | None) -> Any:
    """What fits of scikit-learn; its stratified folds refuse classes that are all rarer than folds."""
    if group is not None:
        kind = GroupKFold if classes is None else StratifiedGroupKFold
    else:
        kind = KFold if classes is None or np.bincount(classes).max() < num else StratifiedKFold
    return kind(num, shuffle=True, random_state=seed)


def _codes(values: Sequence[Any]) -> NDArray[np.int64]:
    """Equal values as equal numbers, numbered by first appearance; lists (multi-label) count as sets."""
    keys = [json.dumps(sorted(v, key=str) if isinstance(v, list) else v, default=str) for v in values]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _classes(values: Sequence[Any]) -> NDArray[np.int64] | None:
    codes = _codes(values)
    measured = any(isinstance(v, float) for v in values)
    return None if measured or codes.max() + 1 > _MAX_CLASSES * len(codes) else codes


def _stratified(classes: NDArray[np.int64], rate: float, seed: int) -> NDArray[np.int64]:
    """Row numbers to hold out; scikit-learn's split refuses classes of one row."""
    rng = np.random.default_rng(seed)
    sizes = np.bincount(classes)
    wanted = max(1, round(rate * len(classes)))
    quota = np.minimum(np.floor(sizes * rate).astype(np.int64), sizes - 1)
    remainder = sizes * rate - quota + rng.random(len(sizes)) * 1e-6
    for number in np.argsort(-remainder):
        quota[number] += int(quota.sum() < wanted and quota[number] < sizes[number] - 1)
    held = [rng.permutation(np.flatnonzero(classes == c))[:n] for c, n in enumerate(quota)]
    return np.concatenate(held)


def _grouped(groups: NDArray[np.int64], classes: NDArray[np.int64] | None, rate: float, seed: int) -> NDArray[np.int64]:
    num_groups = int(groups.max()) + 1
    if num_groups < 2:
        raise DataError("All rows have the same group, so none can be held out; give validation data.")
    if classes is None:
        chooser = GroupShuffleSplit(n_splits=1, test_size=rate, random_state=seed)
        return np.asarray(next(chooser.split(groups, groups=groups))[1], np.int64)
    folds = StratifiedGroupKFold(min(max(2, round(1 / rate)), num_groups), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "the least populated class has fewer members than folds"
        parts = [held for kept, held in folds.split(groups, classes, groups) if len(kept) and len(held)]

    def badness(held: NDArray[np.int64]) -> tuple[int, float]:
        lost = len(np.setdiff1d(classes, np.delete(classes, held)))
        return lost, abs(len(held) - rate * len(classes))

    return min(parts, key=badness)
