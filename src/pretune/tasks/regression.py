"""One number for each record: a rating, a similarity, a measured property."""

from __future__ import annotations

__all__ = ["Regression"]

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pretune import features
from pretune.conformity import Conformity, OfValue
from pretune.errors import DataError, ModelError
from pretune.label_doubts import Doubt, value_doubts
from pretune.modalities.base import Batch, Example, Modality
from pretune.targets import value_target
from pretune.tasks.base import Prediction, Target, Task


class Regression(Task):
    """Regression with squared error on standardised targets.

    While training, the model gives standardised values; `export` folds mean and deviation into the last
    linear layer, so that the exported transformers model gives values in the units of the data.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"tokens", "pixels", "waveform"})
    label_columns: ClassVar[Sequence[str]] = (
        "label",
        "score",
        "value",
        "target",
        "rating",
        "similarity",
        "y",
    )
    stratified: ClassVar[bool] = False
    primary: ClassVar[str] = "pearson"
    can_doubt: ClassVar[bool] = True
    has_leads: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.mean = 0.0
        self.std = 1.0

    def read_label(self, record: Mapping[str, Any], column: str) -> float:
        """The label as a float.

        Raises:
            DataError: Not a finite number.
        """
        try:
            value = float(record[column])
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            where = f"{record['_file']}, row {record['_row']}," if record.get("_file") else "A record"
            raise DataError(
                f"{where} needs a number as its label, found {record[column]!r}; correct it, or name the column of "
                "numbers with --label_column."
            )
        return value

    def learn_labels(self, labels: Sequence[Any]) -> None:
        """Learns mean and standard deviation.

        Raises:
            DataError: All labels are the same, or one is not a number.
        """
        values = np.array([self.read_label({"label": label}, "label") for label in labels])
        if len(np.unique(values)) < 2:
            found = f"the value {values[0]} only" if len(values) else "no labels"
            raise DataError(f"Regression needs labels that differ, found {found} in {len(values)} records.")
        self.mean, self.std = float(values.mean()), float(values.std())

    def config_overrides(self) -> dict[str, Any]:
        """One output."""
        return {"id2label": {0: "value"}, "label2id": {"value": 0}, "problem_type": "regression"}

    def auto_class_for(self, kind: str) -> Any:
        """The classifier of the kind, with one output."""
        from pretune.tasks.classification import Classification

        return AutoModelForSequenceClassification if kind == "tokens" else Classification().auto_class_for(kind)

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes an exported model, which gives values in the units of the data.

        Raises:
            ModelError: It has more than one output.
        """
        super().restore(model, modality)
        if model.config.num_labels != 1:
            raise ModelError(f"Regression needs a model with one output, found {model.config.num_labels}.")
        self.mean, self.std = 0.0, 1.0

    def labelled(self, example: Example, label: Any) -> Example:
        """Adds the label, in the units of the data."""
        return example | {"labels": float(label)}

    def collate(self, examples: Sequence[Example], rng: np.random.Generator | None = None) -> Batch:
        """Pads inputs; ``labels`` have shape (batch,) and are standardised."""
        batch = self.inputs(examples, rng)
        if "labels" in examples[0]:
            batch["labels"] = torch.tensor([(e["labels"] - self.mean) / self.std for e in examples])
        return batch

    def counts(self, batch: Batch) -> dict[str, float]:
        """Examples."""
        return {"examples": float(len(batch["labels"]))}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``logits`` (batch, 1) in standard deviations from the mean, and ``loss`` when there are labels."""
        logits = features.logits(self.model, batch)
        if "labels" not in batch:
            return {"logits": logits}
        loss = F.mse_loss(logits.float().squeeze(-1), batch["labels"]) * self.scale.get("examples", 1.0)
        return {"loss": loss, "logits": logits}

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """``value``, in the units of the data."""
        values = logits.detach().cpu().double().squeeze(-1) * self.std + self.mean
        return [{"value": value} for value in values.tolist()]

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """``pearson``, ``spearman`` (0 for constant predictions), ``mae``, ``rmse`` and ``r2``."""
        guess = np.array([p["value"] for p in predictions])
        truth = np.array([float(label) for label in labels])
        return {
            "pearson": _correlation(pearsonr, guess, truth),
            "spearman": _correlation(spearmanr, guess, truth),
            "mae": float(mean_absolute_error(truth, guess)),
            "rmse": math.sqrt(mean_squared_error(truth, guess)),
            "r2": float(r2_score(truth, guess)) if len(truth) > 1 else 0.0,
        }

    def blind(self, labels: Sequence[Any]) -> tuple[str, list[Prediction]]:
        """Always the mean."""
        return "an answer that is always the mean", [{"value": float(np.mean([float(v) for v in labels]))}] * len(
            labels
        )

    def conformity(self) -> Conformity:
        """Intervals of one width."""
        return OfValue()

    def doubts(self, found: Sequence[Prediction], labels: Sequence[Any]) -> list[Doubt]:
        """Values far from what was predicted."""
        return value_doubts(np.array([p["value"] for p in found]), np.array([float(v) for v in labels]))

    def targets(self, prediction: Prediction, of: Any = None) -> list[Target]:
        """The value."""
        return [value_target(of)]

    def target(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """The value, in the units of the data; `of` has nothing to choose."""
        return logits[:, 0] * self.std + self.mean

    def export(self) -> PreTrainedModel:
        """A copy whose last layer gives the units of the data; the model in training is untouched."""
        exported = copy.deepcopy(self.model)
        last = [m for m in exported.modules() if isinstance(m, nn.Linear) and m.out_features == 1]
        if not last or last[-1].bias is None:
            raise ModelError(f"{type(self.model).__name__} has no linear output with a bias to fold the units into.")
        with torch.no_grad():
            last[-1].weight.mul_(self.std)
            last[-1].bias.mul_(self.std).add_(self.mean)
        return exported


def _correlation(function: Any, guess: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """A correlation, or 0 where it is not defined: fewer than two records, or constant values."""
    if len(guess) < 2 or _constant(guess) or _constant(truth):
        return 0.0
    return float(function(guess, truth).statistic)


def _constant(values: NDArray[np.float64]) -> bool:
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))
