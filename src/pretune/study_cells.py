"""One cell of a study: an arm trained on the labels that a seed draws, scored on the test records of all arms."""

from __future__ import annotations

__all__ = ["Bench", "Plan"]

import contextlib
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, TypeAlias

from datasets import Dataset

from pretune import encoder, evaluation, registry
from pretune.checkpoint import RunDirectory
from pretune.classical import Classical
from pretune.errors import ConfigError
from pretune.features import FrozenFeatures, can_replay
from pretune.label_draws import drawn
from pretune.labelled_examples import placed
from pretune.memory_rows import dataset_rows
from pretune.modalities.base import Example, Modality
from pretune.pretraining import prepare
from pretune.progress import hushed
from pretune.resampling import scored
from pretune.study_arms import BASELINE, SCRATCH, Arm
from pretune.tasks.base import Prediction, Task
from pretune.tuning import ready_to_train, train


@dataclass(frozen=True)
class Plan:
    """What all cells have in common.

    Attributes:
        task: Specification of the task.
        modality: Specification of the modality.
        used: Input roles of the records.
        pool: Labelled records to draw from.
        pool_labels: Their raw labels.
        test: Labelled records to score on.
        test_labels: Their raw labels.
        metric: What is compared.
        budget: Of each training.
        min_steps: Least steps of a budget in epochs.
        batch_size: Examples in an optimiser step.
        classical: The baseline, if there is one.
    """

    task: Any
    modality: Any
    used: Sequence[str]
    pool: Dataset
    pool_labels: Sequence[Any]
    test: Dataset
    test_labels: Sequence[Any]
    metric: str | None
    budget: str
    min_steps: int | None
    batch_size: int
    classical: Classical | None

    @property
    def draw_from(self) -> Sequence[Any]:
        """The labels, where classes are to be drawn; transcripts and the like are all different."""
        task: Task = registry.build("task", self.task)
        return self.pool_labels if task.stratified else [None] * len(self.pool_labels)

    def new_task(self, source: Modality) -> Task:
        """A fresh task for records as a source sees them."""
        method: Task = registry.build("task", self.task)
        method.check(source)
        method.modality = source
        method.used = self.used
        return method


@dataclass
class _Side:
    """The records as one checkpoint's tokenizer, or image or sound processor, sees them."""

    source: Modality
    fresh: Task
    """What learnt of all records how they are read (the working size of boxes and masks), and nothing else."""
    pool: Sequence[Example]
    test: Sequence[Example]
    frozen: dict[str, tuple[Sequence[Example], Sequence[Example]]] = field(default_factory=dict)
    """By arm: the same with the outputs of the frozen encoder."""


_Outcome: TypeAlias = tuple[Task, list[Prediction], dict[str, Any]]
"""A trained task, its predictions of the test records, and what the training cost."""


class Bench(contextlib.ExitStack):
    """Measures cells; what arms share (processed records, outputs of frozen encoders) is made once.

    Args:
        plan: What all cells have in common.
        working: A folder for what is removed at the end.
    """

    def __init__(self, plan: Plan, working: Path) -> None:
        super().__init__()
        self.plan = plan
        self.working = Path(self.enter_context(TemporaryDirectory(prefix="working-", dir=working)))
        self._sides: dict[str, _Side] = {}

    def measure(self, arm: Arm, number: int, seed: int) -> dict[str, Any]:
        """Trains and scores one cell.

        Returns:
            ``metric`` and its ``score``, all ``metrics``, the score on resampled test records (``draws``), ``seconds``
            of training and optimiser ``steps``.

        Raises:
            ConfigError: The task has no such metric.
        """
        plan = self.plan
        chosen = drawn(plan.draw_from, seed)[:number]
        with hushed():
            make = self._classical if arm.kind == BASELINE else self._tuned
            task, predicted, facts = make(arm, chosen, seed)
        metrics = task.metrics(predicted, plan.test_labels)
        name = plan.metric or task.primary
        if name not in metrics:
            raise ConfigError(f'{task.name} has no metric "{name}"; there are: {", ".join(metrics)}.')
        draws = scored(task, predicted, plan.test_labels, name).draws
        return {
            "metric": name,
            "score": float(metrics[name]),
            "metrics": {k: float(v) for k, v in metrics.items()},
            **facts,
            "draws": [round(float(v), 6) for v in draws],
        }

    def _classical(self, arm: Arm, chosen: Sequence[int], seed: int) -> _Outcome:
        plan, start = self.plan, time.monotonic()
        assert plan.classical is not None
        labels = [plan.pool_labels[i] for i in chosen]
        task = plan.new_task(registry.build("modality", plan.modality))
        task.learn_labels(labels)
        predicted = plan.classical.predict([plan.pool[i] for i in chosen], labels, list(plan.test), seed)
        return task, predicted, {"steps": 0, "seconds": time.monotonic() - start}

    def _side(self, source: str) -> _Side:
        """The records as a checkpoint sees them; kept in memory."""
        if source not in self._sides:
            modality: Modality = registry.build("modality", self.plan.modality)
            prepare(modality, self.plan.pool, source, None)
            task = self.plan.new_task(modality)
            pool, test = map(list, map(dataset_rows, (self.plan.pool, self.plan.test)))
            self._sides[source] = _Side(modality, task, task.process(pool), task.process(test))
        return self._sides[source]

    def _tuned(self, arm: Arm, chosen: Sequence[int], seed: int) -> _Outcome:
        assert arm.source is not None
        side, start = self._side(arm.source), time.monotonic()
        task = copy.deepcopy(side.fresh, {id(side.source): side.source})
        labels = [self.plan.pool_labels[i] for i in chosen]
        task.learn_labels(labels)
        # before the model is built: its outputs are scaled by what is learnt here (the usual side of a box)
        examples = [task.labelled(side.pool[i], label) for i, label in zip(chosen, labels, strict=True)]
        for i, example in zip(chosen, examples, strict=True):
            with placed(self.plan.pool[i]):
                task.check_learnable(example)
        weights = encoder.read_config(arm.source) if arm.kind == SCRATCH else arm.source
        ready = ready_to_train(task, side.source, arm.strategies(), weights, None, seed)
        pool, test, waited = self._replayed(arm, side, task, ready.strategies)
        if pool is not side.pool:
            examples = [task.labelled(pool[i], label) for i, label in zip(chosen, labels, strict=True)]
        with TemporaryDirectory(dir=self.working) as folder:
            fitted = train(
                ready, examples, [], [], run=RunDirectory(folder), state=None, budget=self.plan.budget,
                min_steps=self.plan.min_steps, batch_size=self.plan.batch_size, seed=seed, checkpoint_every="1000h",
            )  # fmt: skip
        seconds = time.monotonic() - start - waited
        return task, evaluation.predictions(task, test), {"steps": fitted.steps, "seconds": seconds}

    def _replayed(
        self, arm: Arm, side: _Side, task: Task, strategies: Sequence[Any]
    ) -> tuple[Sequence[Example], Sequence[Example], float]:
        """The examples, with the outputs of an encoder that stays frozen: the same for every seed, computed once.

        Also how many seconds that took, which are not those of one cell.
        """
        if not can_replay(task) or not any(s.frozen_throughout for s in strategies):
            return side.pool, side.test, 0.0
        start = time.monotonic()
        if arm.name not in side.frozen:
            stores = [
                FrozenFeatures(task, part, folder=Path(mkdtemp(dir=self.working))) for part in (side.pool, side.test)
            ]
            for store in stores:
                self.callback(store.close)
            side.frozen[arm.name] = (stores[0], stores[1])
        return *side.frozen[arm.name], time.monotonic() - start
