"""Heat maps show the square that decides, sum as they should, and are told apart from random ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForImageClassification

import pictures
from pretune import encoder, registry
from pretune.errors import ConfigError, ModelError
from pretune.explainers.attention import Attention
from pretune.explainers.integrated_gradients import IntegratedGradients
from pretune.explainers.occlusion import Occlusion
from pretune.explaining import explain_records
from pretune.explanation import page
from pretune.faithfulness import faithfulness
from pretune.heat_map import write_picture
from pretune.modalities.image import Image
from pretune.picture_pieces import patches_of
from pretune.predicting import Predictor
from pretune.tasks.classification import Classification

ROWS = pictures.planted(8, seed=9)


def trained(family: str, steps: int) -> Predictor:
    torch.manual_seed(0)
    rows = pictures.planted(64)
    modality = Image(augmentation="none")
    modality.learn([r["image"] for r in rows])
    task = Classification()
    task.learn_labels([r["label"] for r in rows])
    task.setup_from(modality.config("tiny", family), modality)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    examples = modality.process_many(rows)
    batch = task.collate([task.labelled(e, r["label"]) for e, r in zip(examples, rows, strict=True)])
    task.train()
    for _ in range(steps):
        optimizer.zero_grad()
        task(batch)["loss"].backward()
        optimizer.step()
    return Predictor(task)


@pytest.fixture(scope="module")
def vit():
    return trained("vit", 120)


@pytest.fixture(scope="module")
def convnext():
    return trained("convnext", 20)


def share(found, label):
    """Part of the positive scores that lies in the two places where a square can be."""
    mask = np.zeros((16, 16), dtype=bool)
    for y, x in pictures.PLACES.values():
        mask[y - 1 : y + 5, x - 1 : x + 5] = True
    positive = np.maximum(found.scores, 0)
    return positive[mask].sum() / positive.sum()


@pytest.mark.parametrize("explainer", [IntegratedGradients(n_steps=16), Occlusion(window=1)], ids=lambda e: e.name)
@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_the_square_stands_out(family, explainer, request):
    found = explain_records(request.getfixturevalue(family), ROWS[:4], explainer=explainer, num_random=0)
    assert [e.target for e in found] == [r["label"] for r in ROWS[:4]]
    assert all(e.scores.shape == (16, 16) for e in found)
    assert np.mean([share(e, r["label"]) for e, r in zip(found, ROWS, strict=False)]) > 1.4 * 72 / 256


def test_gradients_sum_to_the_gain_over_the_mean_colour(convnext):
    (found,) = explain_records(convnext, ROWS[:1], explainer=IntegratedGradients(n_steps=200), num_random=0)
    task = convnext.task
    batch = task.collate(task.process(ROWS[:1]))
    with torch.no_grad():
        gain = task(batch)["logits"] - task({"pixel_values": torch.zeros_like(batch["pixel_values"])})["logits"]
    index = task.labels.index(found.target)
    assert found.total == pytest.approx(float(gain[0, index]), rel=0.05, abs=0.02)


def test_occlusion_equals_hiding_by_hand(vit):
    (found,) = explain_records(vit, ROWS[:1], explainer=Occlusion(window=8), num_random=0)  # the whole picture at once
    task = vit.task
    batch = task.collate(task.process(ROWS[:1]))
    index = task.labels.index(found.target)
    with torch.no_grad():
        whole = task(batch)["logits"][0, index]
        none = task({"pixel_values": torch.zeros_like(batch["pixel_values"])})["logits"][0, index]
    assert found.scores[0, 0] == pytest.approx(float(whole - none) / 256, rel=1e-3)


def test_rollout_by_hand(vit):
    task = vit.task
    batch = task.collate(task.process(ROWS[:1]))
    scores = Attention().scores(task, batch)
    before = task.model.config._attn_implementation
    task.model.set_attn_implementation("eager")
    with torch.no_grad():
        layers = [x[0].mean(0) for x in task.model(**batch, output_attentions=True).attentions]
    task.model.set_attn_implementation(before)
    flow = torch.eye(65)
    for layer in layers:
        flow = 0.5 * (layer + torch.eye(65)) @ flow
    grid = flow[0, 1:].reshape(8, 8)
    assert torch.allclose(scores.reshape(8, 2, 8, 2).sum((1, 3)), grid, atol=1e-5)


def test_no_attention_in_a_convolutional_network(convnext):
    with pytest.raises(ModelError, match="no attention weights"):
        explain_records(convnext, ROWS[:1], explainer="attention")


def test_right_patches_beat_random_ones_and_wrong_ones_do_not(vit):
    task = vit.task
    (found,) = explain_records(vit, ROWS[:1], num_random=0)
    patches = patches_of(task, ROWS[0], task.process(ROWS[:1])[0])
    assert len(patches) == 64
    assert sum(patches.merged(torch.from_numpy(found.scores))) == pytest.approx(found.total)
    of = task.labels.index(found.target)
    effects = patches.answers(task, [frozenset(), *(frozenset({i}) for i in range(64))], of)
    right = [effects[0] - e for e in effects[1:]]
    good = faithfulness(task, patches, right, of=of, num_random=200)
    bad = faithfulness(task, patches, [-x for x in right], of=of, num_random=200)
    assert good.comprehensiveness > good.random_comprehensiveness.high
    assert bad.comprehensiveness < bad.random_comprehensiveness.low
    assert "No better than random" in bad.verdict


def test_hidden_patches_are_the_mean_colour(vit):
    task = vit.task
    patches = patches_of(task, ROWS[0], task.process(ROWS[:1])[0])
    hidden = patches.hiding(task, [frozenset({0, 9})])[0]
    whole = patches.batch["pixel_values"][0]
    assert (hidden[:, :2, :2] == 0).all()
    assert (hidden[:, 2:4, 2:4] == 0).all()
    changed = (hidden != whole).any(0)
    assert changed.sum() == 8
    assert np.array_equal(patches.image, ROWS[0]["image"])


def test_renders_everywhere(vit, tmp_path):
    found = explain_records(vit, ROWS[:2], explainer="occlusion", num_random=2)
    console = Console(record=True, width=100, force_terminal=True)
    for one in found:
        console.print(one.render())
        assert np.allclose(json.loads(json.dumps(one.to_dict()))["scores"], one.scores)
    assert "comprehensiveness" in console.export_text()
    html = page(found)
    assert html.count("data:image/png;base64,") == 4
    assert "http" not in html
    assert write_picture(found, tmp_path / "deep" / "why.png").is_file()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["why.png"]


def test_a_class_may_be_chosen_and_wrong_ones_are_named(vit):
    other = "right" if ROWS[0]["label"] == "left" else "left"
    (found,) = explain_records(vit, ROWS[:1], of=other, num_random=0)
    assert found.target == other
    assert found.answer < 0.5
    with pytest.raises(ConfigError, match=r'no label "lift".*Did you mean "left"'):
        explain_records(vit, ROWS[:1], of="lift")


def test_a_grid_of_patches_fits_the_model():
    modality = Image(image_size=28, channels=1)
    modality.learn([np.zeros((28, 28), np.uint8)])
    model, _ = encoder.make(AutoModelForImageClassification, modality.config("tiny", "vit"))
    assert model.config.patch_size == 4


@pytest.mark.parametrize(("name", "of"), [("detection", "a"), ("segmentation", None)])
def test_no_attention_in_a_dense_model(name, of):
    rows = [
        {
            "image": np.zeros((24, 24, 3), np.uint8),
            "objects": [{"label": "a", "box": [4, 4, 8, 8]}],
            "mask": np.eye(24, dtype=np.uint8),
        }
        for _ in range(2)
    ]
    task = registry.build("task", {"name": name, "width": 16})
    task.modality = Image(image_size=24)
    task.modality.learn([r["image"] for r in rows])
    task.process(rows)
    task.learn_labels([task.read_label(r, "objects" if name == "detection" else "mask") for r in rows])
    task.setup_from(task.modality.config("tiny", "vit"), task.modality)
    with pytest.raises(ModelError, match="attention"):
        explain_records(Predictor(task), [{"image": rows[0]["image"]}], explainer="attention", of=of)
