"""What every dense task must do with every encoder and strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ConvNextV2Config, ResNetConfig, ViTConfig

from planted_images import VOID, boxed, masked
from pretune import registry
from pretune.dense_task import DenseTask
from pretune.modalities.image import Image
from pretune.tuning import ready_to_train
from task_contract import (
    DECIDING,
    assert_cached_features_give_the_same_bits,
    assert_micro_batches_equal_one_batch,
    checkpoint,
    decided,
    learnt,
    leaves_a_model_that_loads,
)

TASKS = {"detection": ({}, boxed, "objects"), "segmentation": ({"ignore_index": VOID}, masked, "mask")}
ENCODERS = {
    "vit": ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=24, patch_size=6
    ),
    "convnext": ConvNextV2Config(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], patch_size=2),
    "resnet": ResNetConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], embedding_size=8, layer_type="basic"),
}
STRATEGIES = registry.names("strategy")
OF_STAGES = [
    ("convnext", "lora"),
    ("convnext", "freeze"),
    ("resnet", "lora"),
    ("resnet", "freeze"),
    ("convnext", "unfreeze"),
]
CASES = [(t, "vit", s) for t in TASKS for s in STRATEGIES] + [(t, *pair) for t in TASKS for pair in OF_STAGES]


def test_every_dense_task_is_tested() -> None:
    found = {n for n in registry.names("task") if issubclass(registry.find("task", n), DenseTask)}
    assert found == set(TASKS)


def ready(name: str, family: str, root: Path) -> tuple[Any, list[Any], list[str]]:
    options, make, role = TASKS[name]
    records = make(8)
    task = registry.build("task", {"name": name, "width": 16, **options})
    task.modality = Image(image_size=24)
    task.modality.learn([r["image"] for r in records])
    examples = learnt(task, records, role)
    torch.manual_seed(0)
    report = task.setup_from(checkpoint(ENCODERS[family], root / family), task.modality)
    assert all(n.startswith(("decoder.", "outputs.")) for n in report.new)
    return task, examples, report.new


@pytest.mark.parametrize(
    ("family", "strategy", "rate"),
    [("vit", "full", 4 * 0.04), ("vit", "l2sp", 4 * 0.04), ("vit", "freeze", 30 * 0.04), ("resnet", "full", 4 * 0.25)],
)
def test_default_rates(family: str, strategy: str, rate: float, root: Path) -> None:
    for name in TASKS:
        task, _, _ = ready(name, family, root)
        folder = checkpoint(ENCODERS[family], root / family)
        chosen = registry.build_all("strategy", strategy)
        assert ready_to_train(task, task.modality, chosen, folder, None, 0).lr == pytest.approx(rate / 16)


@pytest.mark.parametrize(("name", "family", "method"), CASES)
def test_strategies_train_the_head_and_leave_a_model_that_loads(name, family, method, root, tmp_path):
    task, examples, new = ready(name, family, root)
    leaves_a_model_that_loads(task, examples, new, method, tmp_path)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("family", ["vit", "resnet"])
@pytest.mark.parametrize("method", DECIDING)
def test_strategies_that_decide_by_scores(name, family, method, root, tmp_path):
    task, examples, _ = ready(name, family, root)
    _, make, role = TASKS[name]
    labels = [task.read_label(r, role) for r in make(8)]
    decided(task, examples, labels, root / family, method, tmp_path)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("layers", [None, 1, 2])
def test_cached_features_give_the_same_bits(name, family, layers, root):
    task, examples, new = ready(name, family, root)
    assert_cached_features_give_the_same_bits(task, examples, new, layers)


@pytest.mark.parametrize("name", TASKS)
def test_micro_batches_equal_one_batch(name, root):
    task, examples, _ = ready(name, "vit", root)
    assert_micro_batches_equal_one_batch(task, examples)


@pytest.mark.parametrize("name", TASKS)
def test_augmentation_follows_the_generator_and_images_of_any_size_are_predicted(name, root):
    task, examples, _ = ready(name, "vit", root)
    one, two, other = (task.collate(examples, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not torch.equal(one["pixel_values"], other["pixel_values"])
    odd = [{"image": np.full((h, w, 3), 90, np.uint8)} for h, w in ((33, 101), (7, 5), (200, 64))]
    found = task.process(odd)
    batch = task.collate(found)
    task.eval()
    with torch.no_grad():
        assert len(task.decode(task(batch)["logits"], batch, found)) == 3


@pytest.mark.parametrize("name", TASKS)
def test_targets_reach_the_pixels(name, root):
    task, examples, _ = ready(name, "vit", root)
    batch = task.collate(examples[:1])
    pixels = batch["pixel_values"].requires_grad_()
    task.eval()
    logits = task(batch)["logits"]
    for of in (None, task.labels[1], str(task.labels[0])):
        value = task.target(logits, batch, of=of)
        assert value.shape == (1,)
        (gradient,) = torch.autograd.grad(value.sum(), pixels, retain_graph=True)
        assert gradient.abs().sum() > 0
    assert task.target(logits.detach().expand(3, -1, -1, -1), batch).shape == (3,)
