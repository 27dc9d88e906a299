"""What the contract tests of tasks of several kinds do: encoders to start from, training with a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from pretune import encoder, evaluation, registry
from pretune.checkpoint import RunDirectory
from pretune.features import FrozenFeatures, cached
from pretune.tuning import check_strategies, ready_to_train, train

DECIDING = [s.__module__.rpartition(".")[2] for s in registry.classes("strategy") if s.selects or s.repeats]
"""Strategies that do something after training, or train several times."""

FEW: dict[str, dict[str, Any]] = {"choose": {"trials": 2, "folds": 2, "among": "l2sp"}, "soup": {"members": 2}}
"""Options with which a strategy that trains several times does so only a few times."""


def checkpoint(config: Any, folder: Path) -> Path:
    """The folder with a random encoder of this config; it is written once."""
    if not folder.exists():
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    return folder


def learnt(task: Any, records: Sequence[Any], role: str) -> list[Any]:
    """Examples with labels, of a task that learns its labels from them."""
    labels = [task.read_label(r, role) for r in records]
    task.learn_labels(labels)
    return [task.labelled(e, y) for e, y in zip(task.process(records), labels, strict=True)]


def tuned(task: Any, examples: Any, new: Sequence[str], method: str, *, steps: int, lr: float) -> set[str]:
    """Trains with a strategy: the loss must fall, and only the head move if frozen; names of `new` that moved."""
    before = {n: p.detach().clone() for n, p in task.model.named_parameters()}
    strategy = registry.build("strategy", method)
    task.model = strategy.setup(task.model, new)
    with cached(task, [strategy], examples) as (stored,):
        assert isinstance(stored, FrozenFeatures) is (method == "freeze")
        losses = _trained(task, stored, strategy, steps, lr)
    task.model = strategy.finish(task.model)
    assert losses[-1] < losses[0]
    after = dict(task.model.named_parameters())
    if method == "freeze":
        assert all(torch.equal(before[n], after[n]) for n in before if n not in new)
    return {n for n in new if not torch.equal(before[n], after[n])}


def _trained(task: Any, examples: Any, strategy: Any, steps: int, lr: float) -> list[float]:
    optimizer = torch.optim.AdamW(task.parameters(), lr)
    task.train()
    losses = []
    for step in range(steps):
        strategy.thaw(task.model, step / steps)
        logs = task(task.collate([examples[i] for i in range(len(examples))]))
        losses.append(float(logs["loss"].detach()))
        optimizer.zero_grad()
        logs["loss"].backward()
        strategy.before_step(task.model, 3e-3)
        optimizer.step()
    return losses


def assert_micro_batches_equal_one_batch(task: Any, examples: Sequence[Any]) -> None:
    task.eval()
    whole = task(task.collate(examples))["loss"]
    batches = [task.collate(examples[:3]), task.collate(examples[3:])]
    key = next(iter(task.counts(batches[0])))
    total = sum(task.counts(b)[key] for b in batches)
    parts = torch.zeros(())
    for batch in batches:
        task.scale = {key: 2 * task.counts(batch)[key] / total}
        parts = parts + task(batch)["loss"] / 2
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def assert_cached_features_give_the_same_bits(task: Any, examples: Any, new: Sequence[str], layers: int | None) -> None:
    strategy = registry.build("strategy", {"name": "freeze", "layers": layers})
    task.model = strategy.setup(task.model, new)
    task.eval()
    with cached(task, [strategy], examples) as (stored,), torch.no_grad():
        whole, replayed = task(task.collate(examples)), task(task.collate(list(stored)))
    assert torch.equal(whole["logits"], replayed["logits"])
    assert torch.equal(whole["loss"], replayed["loss"])


def decided(task: Any, examples: Sequence[Any], labels: Sequence[Any], start: Path, method: str, run: Path) -> None:
    """Trains with a strategy that decides by scores: it says what it did, and the best weights stay in the task."""
    strategies = registry.build_all("strategy", {"name": method, **FEW.get(method, {})})
    check_strategies(strategies, validation=True)
    ready = ready_to_train(task, task.modality, strategies, str(start), 1e-3, 0)
    out, num_folds = RunDirectory(run), max(s.num_folds for s in strategies)
    fitted = train(
        ready, examples, examples, labels, run=out, state=out.open({"verb": "finetune"}), budget="2steps",
        min_steps=None, batch_size=4, seed=0, num_validations=1, labels=labels,
        folds=np.array_split(np.arange(len(examples)), num_folds) if num_folds else (),
    )  # fmt: skip
    assert fitted.selection[method]
    found = task.metrics(evaluation.predictions(task, examples), labels)
    assert found == fitted.best
    task.export().save_pretrained(run / "model")
    _, report = encoder.make(task.auto_class_for(task.modality.kind), run / "model")
    assert not report.new


def leaves_a_model_that_loads(task: Any, examples: Any, new: Any, method: str, folder: Any) -> None:
    """Trains with a strategy; the head alone is new, and the model and its encoder load again with the same bits."""
    assert tuned(task, examples, new, method, steps=4, lr=3e-3) == set(new)
    task.export().save_pretrained(folder)
    model, report = encoder.make(task.auto_class_for(task.modality.kind), folder)
    assert not report.new
    again = registry.build("task", task.name)
    again.restore(model, task.modality)
    batch = task.collate(examples)
    with torch.no_grad():
        assert torch.equal(again.eval()(batch)["logits"], task.eval()(batch)["logits"])
    plain = AutoModel.from_pretrained(folder)
    trunk = dict(task.model.base_model.named_parameters())
    assert all(torch.equal(p, trunk[n]) for n, p in plain.named_parameters() if not n.startswith("pooler."))
