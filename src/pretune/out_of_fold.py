"""Probabilities of every labelled record by a model that has not seen it: cross-validated probes, or baselines."""

from __future__ import annotations

__all__ = ["by_baseline", "by_probe", "parts_of"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pretune import evaluation, machine
from pretune.baselines import logistic, tfidf_logistic
from pretune.errors import ConfigError
from pretune.features import model_inputs, state_counts
from pretune.modalities.base import Example, Modality
from pretune.progress import say
from pretune.tasks.base import Prediction, Task
from pretune.tasks.classification import Classification
from pretune.temperature import Floats, class_logits, label_logits

_THUMBNAIL = 16


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
    rows = StandardScaler().fit_transform(mean_states(task, examples)) / 10
    targets = np.array([e["labels"] for e in examples])
    found: list[Prediction] = [{}] * len(examples)
    for k in range(int(parts.max()) + 1):
        say(f"fold {k + 1} of {int(parts.max()) + 1}")
        seen, held = parts != k, np.flatnonzero(parts == k)
        if task.multi_label:
            logits = label_logits(_several(rows[seen], targets[seen], rows[held]))
        else:
            logits = class_logits(_one(rows[seen], targets[seen], rows[held], len(task.labels), seed))
        for i, prediction in zip(held.tolist(), task.decode(torch.from_numpy(logits), {}, []), strict=True):
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


def mean_states(task: Task, examples: Sequence[Example], batch_size: int = 64) -> Floats:
    """The mean of the encoder's last states over the elements of each example, shape (examples, width).

    Not what its classification head would read: the first token of an encoder without a trained head says little.
    """
    order = sorted(range(len(examples)), key=lambda i: -task.modality.length(examples[i]))
    found: list[Any] = [None] * len(examples)
    with evaluation.evaluating(task), torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = evaluation.to_device(task.collate([examples[i] for i in chosen]), task.device)
            states = task.model.base_model(**model_inputs(task.model, batch)).last_hidden_state.float()
            counts = state_counts(task.model, batch, len(states))
            states = states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
            for i, row, count in zip(chosen, states, counts, strict=True):
                found[i] = row[:count].mean(0).cpu().numpy()
    return np.stack(found).astype(np.float64)


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

    TF-IDF of texts, k-mers of sequences, MFCCs of sound and thumbnails of pictures, each with logistic regression.

    Args:
        modality: Of the records; need not have learnt anything.
        records: Columns named by role.
        labels: One a record.
        parts: Fold of each, from `parts_of`.
        seed: Of the search for the penalty.
    """
    inputs = _inputs(modality, records)
    found: list[Prediction] = [{}] * len(records)
    for k in range(int(parts.max()) + 1):
        say(f"fold {k + 1} of {int(parts.max()) + 1}")
        seen, held = (np.flatnonzero(m).tolist() for m in (parts != k, parts == k))
        known, asked, names = [inputs[i] for i in seen], [inputs[i] for i in held], [labels[i] for i in seen]
        for i, prediction in zip(held, _fitted(modality, known, names, asked, seed), strict=True):
            found[i] = prediction
    return found


def _inputs(modality: Modality, records: Sequence[Mapping[str, Any]]) -> list[Any]:
    if modality.words:
        return [(r["text"], r["text_pair"]) if r.get("text_pair") is not None else r["text"] for r in records]
    if modality.kind == "waveform":
        from pretune import audio_reading
        from pretune.mfcc import mfcc_statistics
        from pretune.modalities.audio import RATE

        return [mfcc_statistics(audio_reading.samples(r["audio"], RATE), RATE) for r in records]
    if modality.kind == "pixels":
        return [_thumbnail(r["image"]) for r in records]
    alphabet: Any = getattr(modality, "alphabet", None)
    if alphabet is None:
        raise ConfigError(f"There is no baseline for {modality.name}; give a model with --from.")
    return [alphabet.clean(r["sequence"]) for r in records]


def _thumbnail(value: Any) -> NDArray[np.float32]:
    from pretune import image_reading

    small = image_reading.picture(value).convert("RGB").resize((_THUMBNAIL, _THUMBNAIL))
    return (np.asarray(small).ravel() / 255).astype(np.float32)


def _fitted(
    modality: Modality, seen: Sequence[Any], labels: Sequence[str], held: Sequence[Any], seed: int
) -> list[Prediction]:
    if modality.words:
        return tfidf_logistic(seen, labels, held, seed)
    if modality.kind == "tokens":
        from pretune.sequence_baselines import kmer_logistic

        return kmer_logistic(seen, labels, held, seed)
    return logistic([_Scaled()], seen, labels, held, seed)


class _Scaled:
    """Vectors with mean 0 and deviation 1, over 10 so that the penalties of TF-IDF suit them."""

    def fit(self, rows: Sequence[Any]) -> Any:
        self.scaler = StandardScaler().fit(np.stack(rows))
        return self.transform(rows)

    def transform(self, rows: Sequence[Any]) -> Any:
        return self.scaler.transform(np.stack(rows)) / 10
