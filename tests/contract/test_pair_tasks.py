"""What every task on pairs of residues must do with every encoder, head and strategy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretune import registry
from pretune.errors import ConfigError, DataError
from pretune.evaluation import predictions
from pretune.features import cached
from pretune.modalities.text import Text
from pretune.pair_task import PairTask
from protein_stand_in import ESM, MODERNBERT, Residues, proteins
from task_contract import (
    DECIDING,
    assert_cached_features_give_the_same_bits,
    assert_micro_batches_equal_one_batch,
    checkpoint,
    decided,
    learnt,
    leaves_a_model_that_loads,
)

TASKS: dict[str, dict[str, Any]] = {
    "contacts": {"width": 8, "num_convolutions": 2},
    "structure": {"width": 8, "num_bins": 10, "steps": 20},
}
ENCODERS = {"esm": ESM, "modernbert": MODERNBERT}
STRATEGIES = registry.names("strategy")
CASES = [(t, e, s) for t in TASKS for e in ENCODERS for s in STRATEGIES]


def test_every_pair_task_is_tested() -> None:
    found = {n for n in registry.names("task") if issubclass(registry.find("task", n), PairTask)}
    assert found == set(TASKS)


def ready(name: str, family: str, root: Path, **options: Any) -> tuple[Any, list[Any], list[str]]:
    task = registry.build("task", {"name": name, **TASKS[name], **options})
    task.modality = Residues()
    task.check(task.modality)
    examples = learnt(task, proteins(8), "structure")
    torch.manual_seed(0)
    report = task.setup_from(checkpoint(ENCODERS[family], root / family), task.modality)
    assert all(n.startswith("pair_head.") for n in report.new)
    return task, examples, report.new


@pytest.mark.parametrize(("name", "family", "method"), CASES)
def test_strategies_train_the_head_and_leave_a_model_that_loads(name, family, method, root, tmp_path):
    task, examples, new = ready(name, family, root)
    leaves_a_model_that_loads(task, examples, new, method, tmp_path)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("method", DECIDING)
def test_strategies_that_decide_by_scores(name, method, root, tmp_path):
    task, examples, _ = ready(name, "esm", root)
    labels = [task.read_label(r, "structure") for r in proteins(8)]
    decided(task, examples, labels, root / "esm", method, tmp_path)


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("method", ["full", "freeze", "lora"])
def test_attention_head_trains_and_is_not_cached(family, method, root):
    task, examples, new = ready("contacts", family, root, head="attention")
    strategy = registry.build("strategy", method)
    task.model = strategy.setup(task.model, new)
    with cached(task, [strategy], examples) as (kept,):
        assert kept is examples
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], 3e-2)
    losses = []
    for _ in range(5):
        loss = task(task.collate(examples))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    task.model.set_attn_implementation("sdpa")  # which gives no maps
    assert torch.isfinite(task(task.collate(examples))["loss"])


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("layers", [None, 1, 2])
def test_cached_features_give_the_same_bits(name, layers, root):
    task, examples, new = ready(name, "esm", root)
    assert_cached_features_give_the_same_bits(task, examples, new, layers)


@pytest.mark.parametrize("name", TASKS)
def test_micro_batches_equal_one_batch(name, root):
    task, examples, _ = ready(name, "esm", root)
    assert_micro_batches_equal_one_batch(task, examples)


@pytest.mark.parametrize(("name", "options"), [*((t, {}) for t in TASKS), ("contacts", {"head": "attention"})])
def test_maps_are_symmetric_and_padding_has_no_part_in_them(name, options, root):
    task, examples, _ = ready(name, "esm", root, **options)
    _moved(task)
    with torch.no_grad():
        together = task.maps(task(batch := task.collate(examples))["logits"], batch)
        for example, found in zip(examples, together, strict=True):
            alone = task.maps(task(batch := task.collate([example]))["logits"], batch)[0]
            torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found, found.transpose(0, 1), rtol=1e-4, atol=1e-5)


def _moved(task: Any) -> None:
    """Weights at which the head says something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in task.model.pair_head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    task.eval()


@pytest.mark.parametrize("name", TASKS)
def test_crops_follow_the_generator_and_windows_cover_the_sequence(name, root):
    task, examples, _ = ready(name, "esm", root, crop=20)
    one, two, other = (task.collate(examples, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) for k in one if k != "coordinates")
    assert not torch.equal(one["spans"], other["spans"])
    assert one["input_ids"].shape[1] == 22
    task.modality = Residues(max_length=22)
    found = predictions(task, task.process(proteins(3)))
    whole = predictions(task, task.process(proteins(3)[:1]))[0]
    assert [p["length"] for p in found] == [len(r["sequence"]) for r in proteins(3)]
    assert whole["num_unseen"] > 0
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", TASKS)
def test_targets_reach_the_states_and_are_named_by_pairs(name, root):
    task, examples, _ = ready(name, "esm", root)
    batch = task.collate(examples[:1])
    logits = task(batch)["logits"]
    for of in (None, (2, 20), "2-20"):
        value = task.target(logits, batch, of=of)
        assert value.shape == (1,)
        (gradient,) = torch.autograd.grad(
            value.sum(), task.model.base_model.embeddings.word_embeddings.weight, retain_graph=True
        )
        assert gradient.abs().sum() > 0
    assert 0 < float(task.answer(logits, batch, of="2-20").detach()) < 1
    found = predictions(task, examples[:1])[0]
    assert task.targets(found, "2-20")[0].of == (2, 20)
    assert task.targets(found)
    for bad in ("x", "3", (0, 2), "1-99"):
        with pytest.raises(ConfigError):
            task.target(logits, batch, of=bad)


@pytest.mark.parametrize("num_convolutions", [0, 1])
@pytest.mark.parametrize("name", TASKS)
def test_an_answer_for_one_pair_is_that_of_the_whole_map(name, num_convolutions, root):
    task, examples, _ = ready(name, "esm", root, num_convolutions=num_convolutions)
    batch = task.collate(examples[:1])
    task.eval()

    def answer(of: Any) -> tuple[torch.Tensor, torch.Size]:
        logits = task({k: v for k, v in batch.items() if k != "coordinates"})["logits"]
        return task.answer(logits, batch, of=of), logits.shape

    with torch.no_grad():
        for of in [(3, 19), "19-3"]:
            whole, shape = answer(of)
            with task.narrowed(of):
                alone, less = answer(of)
            torch.testing.assert_close(alone, whole)
            assert (less[1:3] == (2, 2)) == (num_convolutions == 0)
            assert answer(of)[1] == shape
        with task.narrowed(None):
            assert answer(None)[1] == shape


@pytest.mark.parametrize("name", TASKS)
def test_metrics_of_draws_are_means_over_the_proteins_and_the_primary_is_among_them(name, root):
    task, examples, _ = ready(name, "esm", root)
    labels = [task.read_label(r, "structure") for r in proteins(8)]
    found = predictions(task, examples)
    metrics = task.metrics(found, labels)
    assert task.primary in metrics
    assert all(np.isfinite(v) for v in metrics.values())
    again = task.rescored(found, labels)([0, 1, 1])
    once = [task.metrics(found[i : i + 1], labels[i : i + 1])[task.primary] for i in (0, 1, 1)]
    assert again[task.primary] == pytest.approx(np.mean(once))


@pytest.mark.parametrize("name", TASKS)
def test_what_cannot_be_used_is_said(name):
    task = registry.build("task", name)
    with pytest.raises(ConfigError, match="--modality protein"):
        task.check(Text())
    task.modality = Residues()
    with pytest.raises(DataError, match=r"a\.jsonl, row 3: expected a list of"):
        task.read_label({"structure": "abc", "_file": "a.jsonl", "_row": 3}, "structure")
    with pytest.raises(DataError, match="each of the 3 residues, found 2"):
        task.read_label({"structure": [[0, 0, 0]] * 2, "sequence": "AEK"}, "structure")
    with pytest.raises(DataError, match="nothing to learn"):
        task.learn_labels([np.full((30, 3), np.nan, np.float32)])
    with pytest.raises(DataError, match="sequence of residues was expected, found None"):
        task.process([{"sequence": None}])
