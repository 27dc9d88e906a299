"""`pretrain` on images from Python: pictures, health lines, reference values, what is written and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoImageProcessor, AutoModel

import pretune
from pixel_stand_in import StandInCorpus
from pretune import machine
from pretune.cli import main
from pretune.errors import ConfigError, DataError
from pretune.image_config import image_config


@pytest.fixture(scope="module")
def images() -> list[dict[str, Any]]:
    """Dark and bright squares, with that as the label."""
    pixels = StandInCorpus(num_images=120, seed=1).images
    names = np.where(pixels.mean((1, 2, 3)) > 127, "bright", "dark")
    return [{"image": image, "label": str(name)} for image, name in zip(pixels, names, strict=True)]


def small(images: Any, out: Path, objective: Any, **options: Any) -> pretune.run.RunResult:  # type: ignore[name-defined]
    defaults = {"size": "tiny", "budget": "4steps", "batch_size": 8, "modality": "image"}
    return pretune.pretrain(images, out=str(out), objective=objective, **(defaults | options))


@pytest.mark.parametrize(
    ("objective", "family"), [("mae", None), ("autoencoder", "convnext"), ("gan", None), ("vae", None)]
)
def test_pretrains_images(
    images: list[dict[str, Any]], tmp_path: Path, objective: str, family: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small(images, tmp_path / "run", objective, family=family, probe=images)
    model = AutoModel.from_pretrained(run.path / "model")
    usual = {"mae": "vit", "vae": "resnet"}
    assert model.config.model_type == usual.get(objective, "convnextv2")
    AutoImageProcessor.from_pretrained(run.path / "model", backend="pil")
    pictures = {f.stem for f in (run.path / "pictures").glob("*.png")}
    assert pictures == (
        {"gan": {"samples", "real"}, "vae": {"samples", "reconstructions"}}.get(objective, {"reconstructions"})
    )
    facts = json.loads((run.path / "lineage.json").read_text())
    assert facts["floor"] > 0
    assert facts["tokens"] == 4 * 8, "images are counted"
    assert 1 <= run.metrics["effective_rank"] < 60
    assert 0.5 < run.metrics["knn_accuracy"] <= 1
    shown = capsys.readouterr().err
    assert "images in" in shown
    assert "collapsed: " in shown
    assert "learning more than" in shown


@pytest.mark.parametrize(
    ("modality", "objective"),
    [("text", "mlm"), ("dna", "mlm"), ("protein", "mlm"), ("image", "contrastive"), ("audio", "masked_audio")],
)
def test_the_usual_objective_is_that_of_the_modality(
    modality: str, objective: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "--modality", modality, "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["objective"]["name"] == objective
    with pytest.raises(DataError, match="nothing"):
        pretune.pretrain(str(tmp_path / "nothing"), out=str(tmp_path / "run"), modality=modality)


def test_pictures_are_learnt_from_by_a_resnet_that_contrasts_views(
    images: list[dict[str, Any]], tmp_path: Path
) -> None:
    run = pretune.pretrain(images, out=str(tmp_path), modality="image", size="tiny", budget="2steps", batch_size=8)
    assert AutoModel.from_pretrained(run.path / "model").config.model_type == "resnet"
    assert yaml.safe_load((run.path / "recipe.yaml").read_text())["objective"]["name"] == "contrastive"


@pytest.mark.parametrize(("family", "kind"), [("vit", "sdpa"), ("convnext", "eager"), ("resnet", "eager")])
def test_on_a_gpu_networks_without_attention_stay_as_they_are(
    family: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "device", lambda: torch.device("cuda"))
    model = AutoModel.from_config(
        image_config("tiny", family, image_size=32, num_channels=3), attn_implementation="eager"
    )
    machine.fast_attention(model)
    assert model.config._attn_implementation == kind


@pytest.mark.parametrize(("family", "moved"), [("vit", False), ("convnext", False), ("resnet", True)])
def test_on_a_cpu_overlapping_convolutions_have_channels_last_and_the_same_answers(family: str, moved: bool) -> None:
    model = AutoModel.from_config(image_config("tiny", family, image_size=32, num_channels=3)).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(images).last_hidden_state
        machine.fast_convolutions(model)
        after = model(images).last_hidden_state
    assert all(p.is_contiguous() for p in model.parameters()) is not moved
    assert after.is_contiguous(memory_format=torch.channels_last) or not moved
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_who_learnt_nothing_says_so_wherever_it_would_be_started_from(
    images: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, said = small(images, tmp_path / "run", "mae", budget="1steps", lr=1e-9).path, "no more than the mean patch"
    assert said in capsys.readouterr().err
    tuning: dict[str, Any] = {"modality": "image", "budget": "1steps", "valid_rate": 0.0, "from_": str(run)}
    pretune.finetune(images, out=str(tmp_path / "tuned"), **tuning)
    assert said in capsys.readouterr().err
    pretune.finetune(images, out=str(tmp_path / "control"), scratch=True, **tuning)
    assert said not in capsys.readouterr().err
    small(images, tmp_path / "learnt", "vae", family="resnet", budget="20steps")
    assert "no more than" not in capsys.readouterr().err


def test_a_budget_counts_images(images: list[dict[str, Any]], tmp_path: Path) -> None:
    run = small(images, tmp_path / "run", "autoencoder", budget="40images")
    assert run.fitted is not None
    assert run.fitted.steps == 5


def test_continues_from_an_earlier_run(images: list[dict[str, Any]], tmp_path: Path) -> None:
    first = small(images, tmp_path / "first", "mae")
    second = small(images, tmp_path / "second", "contrastive", size=None, from_=str(first.path))
    assert AutoModel.from_pretrained(second.path / "model").config.hidden_size == 128


@pytest.mark.parametrize(("objective", "options", "error"), [
    ("mae", {"family": "resnet"}, "needs a ViT"),
    ("mlm", {}, r"these fit: autoencoder, contrastive, distill, gan, mae, vae"),
    ({"name": "autoencoder", "delete_rate": 0.5}, {}, "delete_rate .*no effect on image data"),
])  # fmt: skip
def test_what_cannot_work_is_refused(
    images: list[dict[str, Any]], tmp_path: Path, objective: Any, options: dict[str, Any], error: str
) -> None:
    with pytest.raises(ConfigError, match=error):
        small(images, tmp_path / "run", objective, **options)


def test_a_probe_needs_labels_and_an_objective_with_vectors(images: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two labels"):
        small(images, tmp_path / "run", "mae", probe=[r | {"label": "one"} for r in images])
    with pytest.raises(ConfigError, match="--probe"):
        pretune.pretrain(["a b c"] * 40, out=str(tmp_path / "text"), probe=[{"text": "a", "label": "b"}])
