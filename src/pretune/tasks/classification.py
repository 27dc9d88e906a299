"""One label, or several, for each record: topics, sentiment, entailment, what a picture shows."""

from __future__ import annotations

__all__ = ["Classification"]

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.preprocessing import MultiLabelBinarizer
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from pretune import features
from pretune.conformity import Conformity, OfClass, OfLabels
from pretune.errors import ConfigError, DataError, did_you_mean, shortened
from pretune.label_doubts import Doubt, class_doubts
from pretune.modalities.base import Batch, Example, Modality
from pretune.targets import class_target, label_mistake
from pretune.tasks.base import Prediction, Reliability, Target, Task

_AUTO = {
    "tokens": AutoModelForSequenceClassification,
    "pixels": AutoModelForImageClassification,
    "waveform": AutoModelForAudioClassification,
}


class Classification(Task):
    """Classification with cross-entropy, or binary cross-entropy a label when a record may have several.

    Args:
        multi_label: A record has any number of labels: a list, or one string with `separator` between them.
        separator: Between the labels of one string; for `multi_label`.
        label_smoothing: Share of the target that is spread evenly over all classes.
        class_weights: ``balanced`` weighs each class by the inverse of its frequency (multi-label:
            positives by the ratio of negatives to positives); ``none`` weighs all records the same.
        layer_weights: Sound: the head reads a learnt mean of the states of all layers (SUPERB, Yang et al. 2021).
    """

    accepts: ClassVar[frozenset[str]] = frozenset(_AUTO)
    label_columns: ClassVar[Sequence[str]] = (
        "label",
        "labels",
        "class",
        "category",
        "target",
        "sentiment",
        "y",
    )
    primary: ClassVar[str] = "accuracy"
    can_doubt: ClassVar[bool] = True

    def __init__(
        self,
        *,
        multi_label: bool = False,
        separator: str = ";",
        label_smoothing: float = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        layer_weights: bool = False,
    ) -> None:
        super().__init__()
        if not separator.strip():
            raise ConfigError("separator is what stands between the labels of one string, and is empty; leave it out.")
        if separator != ";" and not multi_label:
            raise ConfigError("separator is for multi_label=True; with one label a record it has no effect.")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, found {label_smoothing}.")
        if class_weights not in ("none", "balanced"):
            raise ConfigError(f'class_weights is "none" or "balanced", found "{class_weights}".')
        self.multi_label = multi_label
        if multi_label:
            self._several()
        self.separator = separator
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.layer_weights = layer_weights
        self.labels: list[str] = []
        self._weights: Tensor | None = None

    def _several(self) -> None:
        """What differs when a record may have several labels: no stratified split, no single right answer."""
        self.stratified = False  # type: ignore[misc]
        self.primary = "micro_f1"  # type: ignore[misc]

    # -- labels ----------------------------------------------------------------------------------------------

    def read_label(self, record: Mapping[str, Any], column: str) -> Any:
        """The label as a string, or a sorted list of them.

        Raises:
            DataError: A missing label, or one that is not a name, an integer or a truth value.
        """
        value, where = record[column], _where(record)
        if not self.multi_label:
            return _name(value, where)
        if isinstance(value, str):
            if value.lstrip()[:1] + value.rstrip()[-1:] == "[]":
                raise DataError(
                    f"{where} has a printed list as its labels ({value!r}); join their names with "
                    f'"{self.separator}", or give a list in .jsonl.'
                )
            value = [part.strip() for part in value.split(self.separator) if part.strip()]
        if not isinstance(value, list | tuple | set | np.ndarray):
            value = [value]
        names = [_name(part, where) for part in value]
        if len(names) > len(set(names)):
            twice = next(n for n, times in Counter(names).items() if times > 1)
            raise DataError(
                f'{where} has the label "{twice}" twice ({shortened(value)}); give each once, and of a vector of 0 and '
                "1 the names of the classes that are 1."
            )
        return sorted(names)

    def learn_labels(self, labels: Sequence[Any]) -> None:
        """Learns the sorted label set, and class weights.

        Raises:
            DataError: Fewer than two classes.
        """
        rows = [self.read_label({"label": label}, "label") for label in labels]
        counts = Counter(name for row in rows for name in (row if self.multi_label else [row]))
        names = sorted(counts, key=_numbers_first)
        if len(names) < (1 if self.multi_label else 2):
            found = f'only "{names[0]}"' if names else "none"
            raise DataError(f"Classification needs at least two classes, found {found} in {len(rows)} records.")
        self.labels = names
        if self.class_weights == "balanced":
            self._weights = _balanced(np.array([counts[n] for n in names]), len(rows), self.multi_label)

    def config_overrides(self) -> dict[str, Any]:
        """Label names and the problem type."""
        return {
            "id2label": dict(enumerate(self.labels)),
            "label2id": {name: i for i, name in enumerate(self.labels)},
            "problem_type": f"{'multi' if self.multi_label else 'single'}_label_classification",
            **({"use_weighted_layer_sum": True} if self.layer_weights else {}),
        }

    def auto_class_for(self, kind: str) -> Any:
        """The sequence, image or audio classifier."""
        return _AUTO[kind]

    def check(self, modality: Modality) -> None:
        """Finds layer_weights where heads cannot have them.

        Raises:
            ConfigError: It was given and has no effect.
        """
        if self.layer_weights and modality.kind != "waveform":
            raise ConfigError(f"task.layer_weights is for sound and has no effect on {modality.name}; leave it out.")

    def restore(self, model: PreTrainedModel, modality: Modality) -> None:
        """Takes label names and whether there may be several from the model's config."""
        super().restore(model, modality)
        names = cast(dict[int, str], model.config.id2label)
        self.labels = [names[i] for i in range(len(names))]
        self.multi_label = model.config.problem_type == "multi_label_classification"
        if self.multi_label:
            self._several()

    def labelled(self, example: Example, label: Any) -> Example:
        """Adds the class index, or a 0/1 vector."""
        index = {name: i for i, name in enumerate(self.labels)}
        label = self.read_label({"label": label}, "label")
        names = label if self.multi_label else [label]
        for name in names:
            if name not in index:
                known = ", ".join(self.labels[:10]) + (" ..." if len(self.labels) > 10 else "")
                raise DataError(
                    f'Label "{name}" does not occur in the training data, which has: {known}.'
                    f"{did_you_mean(str(name), self.labels)}"
                )
        if not self.multi_label:
            return example | {"labels": index[label]}
        return example | {"labels": [float(name in label) for name in self.labels]}

    # -- a step ----------------------------------------------------------------------------------------------

    def collate(self, examples: Sequence[Example], rng: np.random.Generator | None = None) -> Batch:
        """Pads inputs; ``labels`` have shape (batch,), or (batch, labels) for several."""
        batch = self.inputs(examples, rng)
        if "labels" in examples[0]:
            batch["labels"] = torch.tensor([e["labels"] for e in examples])
        return batch

    def counts(self, batch: Batch) -> dict[str, float]:
        """Examples, or the sum of their class weights, that the mean loss is over."""
        labels = batch["labels"]
        if self._weights is None or self.multi_label:
            return {"examples": float(len(labels))}
        return {"examples": float(self._weights[labels].sum())}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``logits`` (batch, labels), and ``loss`` when there are labels."""
        logits = features.logits(self.model, batch)
        if "labels" not in batch:
            return {"logits": logits}
        loss = self._loss(logits.float(), batch["labels"]) * self.scale.get("examples", 1.0)
        return {"loss": loss, "logits": logits}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = None if self._weights is None else self._weights.to(logits.device)
        if not self.multi_label:
            return F.cross_entropy(logits, labels, weight=weights, label_smoothing=self.label_smoothing)
        smooth = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, smooth, pos_weight=weights)

    # -- results ---------------------------------------------------------------------------------------------

    def decode(self, logits: Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """``label`` (or ``labels``, those with probability 0.5 or more) and ``probabilities`` by name."""
        scores = logits.detach().float()
        p = (scores.sigmoid() if self.multi_label else scores.softmax(-1)).cpu().numpy()
        named = [dict(zip(self.labels, row, strict=True)) for row in p.tolist()]
        if not self.multi_label:
            best = p.argmax(1).tolist()
            return [{"label": self.labels[i], "probabilities": d} for i, d in zip(best, named, strict=True)]
        return [{"labels": [n for n, v in d.items() if v >= 0.5], "probabilities": d} for d in named]

    def lead(self, logits: Tensor) -> Tensor:
        """As `Task.lead`; of several labels each is decided at 0."""
        return logits.abs().amin(-1) if self.multi_label else super().lead(logits)

    def moved(self, rough: Tensor, exact: Tensor) -> Tensor:
        """As `Task.moved`."""
        return (rough - exact).abs().amax(-1) if self.multi_label else super().moved(rough, exact)

    def uncertainty(self, logits: Tensor, batch: Batch, found: Sequence[Prediction]) -> list[float]:
        """1 minus the gap between the two most probable labels; of several labels the mean nearness to 0.5."""
        if self.multi_label:
            return (1 - (2 * logits.float().sigmoid() - 1).abs()).mean(-1).tolist()
        best = logits.float().softmax(-1).topk(2, dim=-1).values
        return (1 - best[:, 0] + best[:, 1]).tolist()

    def metrics(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> dict[str, float]:
        """``accuracy`` (multi-label: of the whole set) and ``macro_f1``; multi-label also ``micro_f1``.

        Of sound, with one label a record, also ``uar``: unweighted average recall over the classes that occur.
        """
        labels = [self.read_label({"label": label}, "label") for label in labels]
        if not self.multi_label:
            guess, truth = [p["label"] for p in predictions], labels
            found = {"accuracy": accuracy_score(truth, guess), "macro_f1": _f1(truth, guess, "macro")}
            heard = hasattr(self, "modality") and self.modality.kind == "waveform"
            return found | ({"uar": _recall(truth, guess)} if heard else {})
        names = sorted(set(self.labels).union(*labels))
        binary = MultiLabelBinarizer(classes=names)
        guess, truth = binary.fit_transform([p["labels"] for p in predictions]), binary.transform(labels)
        scores = {f"{a}_f1": _f1(truth, guess, a) for a in ("micro", "macro")}
        return {"accuracy": accuracy_score(truth, guess), **scores}

    def blind(self, labels: Sequence[Any]) -> tuple[str, list[Prediction]]:
        """Always the most common label, or set of labels."""
        read = [self.read_label({"label": label}, "label") for label in labels]
        if not self.multi_label:
            most = Counter(map(str, read)).most_common(1)[0][0]
            return f"always answering {most}", [{"label": most}] * len(labels)
        names = list(Counter(tuple(sorted(row)) for row in read).most_common(1)[0][0])
        return f"always answering {', '.join(names) or 'nothing'}", [{"labels": names}] * len(labels)

    def reliability(self, predictions: Sequence[Prediction], labels: Sequence[Any]) -> Reliability | None:
        """Of each of several labels, whether it is there or not."""
        if not self.multi_label:
            return None
        found = OfLabels().reliability(predictions, [self.read_label({"label": label}, "label") for label in labels])
        return "labels, there or not", *found

    def conformity(self) -> Conformity:
        """Least-ambiguous sets of one label, or what is sure and what possible of several."""
        return OfLabels() if self.multi_label else OfClass()

    def doubts(self, found: Sequence[Prediction], labels: Sequence[Any]) -> list[Doubt]:
        """Labels whose record looks more like another class than records of that class usually do."""
        separator = self.separator if self.multi_label else None
        return class_doubts(found, labels, self.labels, separator=separator)

    def targets(self, prediction: Prediction, of: Any = None) -> list[Target]:
        """The predicted class, or the one that `of` names."""
        return [class_target(prediction, of)]

    def mistake(self, prediction: Prediction, label: Any) -> tuple[str, Any] | None:
        """Of several labels the one that is most surely wrong."""
        return label_mistake(prediction, self.read_label({"label": label}, "label")) if self.multi_label else None

    def target(self, logits: Tensor, batch: Batch, *, of: Any = None) -> Tensor:
        """The logit of class `of` (name or index), or of each record's predicted class."""
        if of is None:
            return logits.max(-1).values
        if isinstance(of, str):
            if of not in self.labels:
                raise ConfigError(f'There is no label "{of}".{did_you_mean(of, self.labels)}')
            of = self.labels.index(of)
        return logits[:, int(of)]


def _name(value: Any, where: str) -> str:
    """A label as a string; ``1.0``, which pandas makes of integers beside empty cells, becomes ``1``."""
    if isinstance(value, str | np.str_) and value.strip():
        return value.strip()
    if isinstance(value, bool | np.bool_ | int | np.integer):
        return str(value)
    if isinstance(value, float | np.floating) and math.isfinite(value):
        if float(value).is_integer():
            return str(int(value))
        raise DataError(f"{where} has the label {value}; classes are names or integers. For numbers use regression.")
    if isinstance(value, list | tuple):
        raise DataError(f"{where} has several labels ({shortened(value)}); that needs --task.multi_label true.")
    raise DataError(f"{where} has no usable label (found {value!r}); fill it in or remove the row.")


def _where(record: Mapping[str, Any]) -> str:
    return f"{record['_file']}, row {record['_row']}," if record.get("_file") else "A record"


def _numbers_first(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.lstrip("-").isdecimal() else (1, 0, name)


def _balanced(counts: NDArray[np.int64], num_records: int, multi_label: bool) -> Tensor:
    weights = (num_records - counts) / counts if multi_label else num_records / (len(counts) * counts)
    return torch.tensor(weights, dtype=torch.float32)


def _recall(truth: Any, guess: Any) -> float:
    present = sorted(set(truth))
    return float(recall_score(truth, guess, labels=present, average="macro", zero_division=0.0))


def _f1(truth: Any, guess: Any, average: str) -> float:
    return float(f1_score(truth, guess, average=average, zero_division=0.0))
