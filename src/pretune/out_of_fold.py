"""Probabilities of every labelled record by a model that has not seen it: cross-validated probes, or baselines."""

from __future__ import annotations

__all__ = ["by_baseline", "by_probe", "by_training", "parts_of"]

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pretune import machine, registry
from pretune.baselines import logistic
from pretune.checkpoint import RunDirectory
from pretune.classical import Classical
from pretune.embedding import Embedder
from pretune.errors import ConfigError
from pretune.evaluation import held_out
from pretune.modalities.base import Example, Modality
from pretune.progress import hushed, say
from pretune.tasks.base import Prediction, Task
from pretune.tasks.classification import Classification
from pretune.temperature import Floats, class_logits, label_logits
from pretune.tuning import ready_to_train, train


def parts_of(labels: Sequence[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each record, shape (records,): at random, each class spread evenly over all of them."""
    rng = np.random.default_rng(seed)
    names = [str(label) for label in labels]
    found = np.zeros(len(names), np.int64)
    start = 0
    for name in sorted(set(names)):
        members = rng.permutation([i for i, other in enumerate(names) if other == name])
        found[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    return found


def by_probe(
    task: Classification,
    modality: Modality,
    examples: Sequence[Example],
    parts: NDArray[np.int64],
    weights: str,
    seed: int,
) -> list[Prediction]:
    """Predictions of each fold by logistic regression on the encoder's mean states; the encoder runs once a record.

    Args:
        task: Has learnt its labels.
        modality: Loaded from `weights`.
        examples: With encoded labels.
        parts: Fold of each, from `parts_of`.
        weights: A run, model directory or Hub name.
        seed: Of the folds that choose the penalty.
    """
    task.setup_from(weights, modality)
    task.to(machine.device())
    # not what the head would read: the first token of an encoder without a trained head says little
    rows = StandardScaler().fit_transform(Embedder.of(task).examples(examples)) / 10
    targets = np.array([e["labels"] for e in examples])

    def predicted(seen: list[int], held: list[int]) -> list[Prediction]:
        if task.multi_label:
            logits = label_logits(_several(rows[seen], targets[seen], rows[held]))
        else:
            logits = class_logits(_one(rows[seen], targets[seen], rows[held], len(task.labels), seed))
        return task.decode(torch.from_numpy(logits), {}, [])

    return _each_fold(parts, predicted)


def by_training(
    task: Task,
    modality: Modality,
    examples: Sequence[Example],
    parts: NDArray[np.int64],
    weights: str,
    budget: str,
    seed: int,
) -> list[Prediction]:
    """`Task.held_out` of each fold, by a model that was fine-tuned (`full`) on the others.

    Args:
        task: With its labels learnt; a fresh model is built in it for each fold.
        modality: As `weights` have it.
        examples: Labelled.
        parts: Numbers of the folds, one an example.
        weights: What each training starts from.
        budget: Of each training.
        seed: Of head, order and dropout.
    """

    def predicted(seen: list[int], held: list[int]) -> list[Prediction]:
        with tempfile.TemporaryDirectory(prefix="pretune-folds-") as folder, hushed():
            run = RunDirectory(f"{folder}/run")
            run.open({"verb": "suspects"})
            ready = ready_to_train(task, modality, registry.build_all("strategy", "full"), weights, None, seed)
            train(
                ready, [examples[i] for i in seen], [], [], run=run, state=None, budget=budget, min_steps=None,
                batch_size=16, seed=seed, checkpoint_every="1000h",
            )  # fmt: skip
        return held_out(task, [examples[i] for i in held])

    return _each_fold(parts, predicted)


def _each_fold(
    parts: NDArray[np.int64], predicted: Callable[[list[int], list[int]], list[Prediction]]
) -> list[Prediction]:
    """What was predicted of each record, by what has seen the other folds.

    Args:
        parts: Fold of each record.
        predicted: Takes the records that are seen and those that are held out; gives predictions of the latter.
    """
    found: list[Prediction] = [{}] * len(parts)
    for k in range(int(parts.max()) + 1):
        say(f"fold {k + 1} of {int(parts.max()) + 1}")
        seen, held = (np.flatnonzero(m).tolist() for m in (parts != k, parts == k))
        for i, prediction in zip(held, predicted(seen, held), strict=True):
            found[i] = prediction
    return found


def _one(seen: Floats, targets: NDArray[np.int64], held: Floats, num_labels: int, seed: int) -> Floats:
    """Probabilities of each class, shape (held, classes); 0 for one that is not among the targets."""
    found = np.zeros((len(held), num_labels))
    for row, prediction in zip(found, logistic([_Rows()], list(seen), targets.tolist(), list(held), seed), strict=True):
        for number, p in prediction["probabilities"].items():
            row[number] = p
    return found


def _several(seen: Floats, targets: NDArray[np.float64], held: Floats) -> Floats:
    """A logistic regression a label; a label that all or none of the records have keeps that share."""
    found = np.zeros((len(held), targets.shape[1]))
    for j, column in enumerate(targets.T):
        if len(np.unique(column)) < 2:
            found[:, j] = column[0]
        else:
            found[:, j] = LogisticRegression(C=10.0, max_iter=1000).fit(seen, column).predict_proba(held)[:, 1]
    return found


class _Rows:
    """Vectors as they are."""

    def fit(self, rows: Sequence[Any]) -> Any:
        return np.stack(rows)

    def transform(self, rows: Sequence[Any]) -> Any:
        return np.stack(rows)


def by_baseline(
    modality: Modality,
    records: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    parts: NDArray[np.int64],
    seed: int,
) -> list[Prediction]:
    """Predictions of each fold by the classical baseline of the modality, trained on the others.

    Of sound, whose baseline gives no probabilities, logistic regression on the same MFCCs.

    Args:
        modality: Of the records; need not have learnt anything.
        records: Columns named by role.
        labels: One a record.
        parts: Fold of each, from `parts_of`.
        seed: Of the search for the penalty.
    """
    classical = _of_sound() if modality.kind == "waveform" else modality.baseline(Classification())
    if classical is None:
        raise ConfigError(f"There is no baseline for {modality.name}; give a model with --from.")

    def predicted(seen: list[int], held: list[int]) -> list[Prediction]:
        known, names = [records[i] for i in seen], [labels[i] for i in seen]
        return classical.predict(known, names, [records[i] for i in held], seed)

    return _each_fold(parts, predicted)


def _of_sound() -> Classical:
    from pretune import audio_reading
    from pretune.mfcc import mfcc_statistics
    from pretune.modalities.audio import RATE

    def rows(records: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [mfcc_statistics(audio_reading.samples(r["audio"], RATE), RATE) for r in records]

    return Classical(
        "MFCC + logistic regression",
        lambda known, names, asked, seed: logistic([_Scaled()], rows(known), names, rows(asked), seed),
    )


class _Scaled:
    """Vectors with mean 0 and deviation 1, over 10 so that the penalties of TF-IDF suit them."""

    def fit(self, rows: Sequence[Any]) -> Any:
        self.scaler = StandardScaler().fit(np.stack(rows))
        return self.transform(rows)

    def transform(self, rows: Sequence[Any]) -> Any:
        return self.scaler.transform(np.stack(rows)) / 10
