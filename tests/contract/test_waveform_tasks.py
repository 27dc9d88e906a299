"""What every task on sound must do with every encoder and strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from planted_sounds import classed, small_config, spoken, valued
from pretune import audio_config, encoder, registry
from pretune.features import cached, logits
from pretune.modalities.audio import Audio
from pretune.sound_frames import frame_counts, inside
from task_contract import DECIDING, assert_micro_batches_equal_one_batch, checkpoint, decided, learnt, tuned

TASKS: dict[str, tuple[dict[str, Any], Any]] = {
    "classification": ({}, classed),
    "regression": ({}, valued),
    "ctc": ({}, spoken),
}
LAYERED = ("classification", {"layer_weights": True})
STRATEGIES = registry.names("strategy")
FAMILIES = list(audio_config.FAMILIES)
CASES = [(t, "wav2vec2-bert", s) for t in TASKS for s in STRATEGIES] + [
    (t, f, s) for t in TASKS for f in ("wav2vec2", "hubert") for s in ("freeze", "lora", "unfreeze", "layer_decay")
]


def test_every_task_on_sound_is_tested() -> None:
    assert {c.__module__.rpartition(".")[2] for c in registry.classes("task") if "waveform" in c.accepts} == set(TASKS)


def ready(name: str, family: str, root: Path, **options: Any) -> tuple[Any, list[Any], list[str]]:
    records = TASKS[name][1](8)
    task = registry.build("task", {"name": name, **options})
    task.modality = Audio()
    task.modality.config("tiny", family)
    examples = learnt(task, records, task.label_role)
    torch.manual_seed(0)
    report = task.setup_from(checkpoint(small_config(family), root / family), task.modality)
    assert all(n.startswith(("classifier.", "projector.", "lm_head.", "layer_weights")) for n in report.new)
    return task, examples, report.new


@pytest.mark.parametrize(("name", "family", "method"), CASES)
def test_strategies_train_the_head_and_leave_a_model_that_loads(name, family, method, root, tmp_path):
    task, examples, new = ready(name, family, root)
    assert tuned(task, examples, new, method, steps=6, lr=1e-2)
    exported = task.export().eval()
    exported.save_pretrained(tmp_path)
    task.modality.save(tmp_path)
    task.save(tmp_path)
    model, report = encoder.make(task.auto_class_for("waveform"), tmp_path)
    assert not report.new
    again = registry.build("task", name)
    again.restore(model, Audio().load(str(tmp_path)))
    batch = task.collate(examples)
    with torch.no_grad():
        assert torch.equal(again.eval()(batch)["logits"], logits(exported, batch))
    plain = AutoModel.from_pretrained(tmp_path)
    trunk = dict(task.model.base_model.named_parameters())
    assert all(torch.equal(p, trunk[n]) for n, p in plain.named_parameters())


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("method", DECIDING)
def test_strategies_that_decide_by_scores(name, method, root, tmp_path):
    task, examples, _ = ready(name, "wav2vec2-bert", root)
    labels = [task.read_label(r, task.label_role) for r in TASKS[name][1](8)]
    decided(task, examples, labels, root / "wav2vec2-bert", method, tmp_path)


@pytest.mark.parametrize(("name", "options"), [*((n, {}) for n in TASKS), LAYERED])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [None, 1, 2])
def test_cached_features_give_the_same_bits(name, options, family, layers, root):
    task, examples, new = ready(name, family, root, **options)
    strategy = registry.build("strategy", {"name": "freeze", "layers": layers})
    task.model = strategy.setup(task.model, new)
    task.eval()
    with cached(task, [strategy], examples) as (stored,), torch.no_grad():
        whole, replayed = task(task.collate(examples)), task(task.collate(list(stored)))
        part = [stored[i] for i in (1, 4)]
        task.decode(task(task.collate(part))["logits"], task.collate(part), part)
    kept = [v["logits"] for v in (whole, replayed)]
    if name == "ctc":  # nothing reads the frames beyond the end of a recording
        counts = frame_counts(task.model, task.collate(examples))
        kept = [v[inside(counts, v.shape[1])] for v in kept]
    assert torch.equal(*kept)
    assert torch.equal(whole["loss"], replayed["loss"])


@pytest.mark.parametrize("name", TASKS)
def test_micro_batches_equal_one_batch(name, root):
    task, examples, _ = ready(name, "wav2vec2-bert", root)
    assert_micro_batches_equal_one_batch(task, examples)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_augmentation_follows_the_generator_and_very_short_sounds_are_predicted(name, family, root):
    task, examples, _ = ready(name, family, root)
    one, two, other = (task.collate(examples, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    main = task.modality.main_input
    assert not torch.equal(one[main], other[main])
    short = [{"audio": {"array": np.full(n, 0.1, np.float32), "sampling_rate": 16_000}} for n in (1, 100, 900)]
    found = task.process(short)
    batch = task.collate(found)
    task.eval()
    with torch.no_grad():
        given = task(batch)["logits"]
        assert bool(torch.isfinite(given).all())
        assert len(task.decode(given, batch, found)) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_answer_but_that_of_group_norm(family, root):
    task, examples, _ = ready("classification", family, root)
    task.eval()
    with torch.no_grad():
        alone = torch.cat([task(task.collate([e]))["logits"] for e in examples])
        together = task(task.collate(examples))["logits"]
    torch.testing.assert_close(alone, together, rtol=0.05 if family != "wav2vec2-bert" else 1e-4, atol=2e-2)


def test_a_model_that_has_predicted_can_be_trained(root):
    task, examples, _ = ready("classification", "wav2vec2-bert", root)
    with torch.inference_mode():
        task(task.collate(examples))
    task.train()
    task(task.collate(examples))["loss"].backward()
