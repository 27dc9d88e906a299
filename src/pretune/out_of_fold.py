"""Probabilities of every labelled record by a model that has not seen it: cross-validated probes, or baselines."""

from __future__ import annotations

__all__ = ["by_baseline", "by_probe", "parts_of"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from pretune import evaluation
from pretune.baselines import logistic, tfidf_logistic
from pretune.checkpoint import RunDirectory
from pretune.errors import ConfigError
from pretune.features import FrozenFeatures
from pretune.modalities.base import Example, Modality
from pretune.progress import say
from pretune.strategies.freeze import Freeze
from pretune.tasks.base import Prediction, Task
from pretune.train import fit
from pretune.tuning import MIN_STEPS, ready_to_train

_BUDGET, _BATCH = "10epochs", 16
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
    task: Task, modality: Modality, examples: Sequence[Example], parts: NDArray[np.int64], weights: str, seed: int
) -> list[Prediction]:
    """Predictions of each fold by a linear probe that was trained on the others; the encoder runs once a record.

    Args:
        task: Has learnt its labels.
        modality: Loaded from `weights`.
        examples: With encoded labels.
        parts: Fold of each, from `parts_of`.
        weights: A run, model directory or Hub name.
        seed: Of the heads and the order of the data.
    """
    ready = ready_to_train(task, modality, [Freeze()], weights, None, seed)
    head = {n: p.detach().clone() for n, p in task.model.named_parameters() if p.requires_grad}
    found: list[Prediction] = [{}] * len(examples)
    with TemporaryDirectory(prefix="pretune-folds-") as folder:
        store = FrozenFeatures(task, examples, folder=Path(folder))
        for k in range(int(parts.max()) + 1):
            say(f"fold {k + 1} of {int(parts.max()) + 1}")
            with torch.no_grad():
                for name, parameter in task.model.named_parameters():
                    if name in head:
                        parameter.copy_(head[name])
            seen = [store[i] for i in np.flatnonzero(parts != k).tolist()]
            run = RunDirectory(Path(folder) / str(k))
            run.open({"verb": "suspects"})
            fit(
                task, seen, run=run, budget=_BUDGET, min_steps=MIN_STEPS, batch_size=_BATCH, lr=ready.lr, seed=seed,
                strategies=ready.strategies, lengths=[modality.length(e) for e in seen],
            )  # fmt: skip
            held = np.flatnonzero(parts == k).tolist()
            for i, prediction in zip(held, evaluation.predictions(task, [store[i] for i in held]), strict=True):
                found[i] = prediction
        store.close()
    return found


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
    return np.asarray(small, np.float32).ravel() / 255


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
