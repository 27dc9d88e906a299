"""Every architecture family can be looked into: states of all layers, blocks skipped, random weights made again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

import pixel_stand_in
import planted_images
import pretune
import token_stand_in
from planted_sounds import classed, small_config, spoken
from pretune import encoder
from pretune.drift import drift, layer_names
from pretune.features import model_inputs
from pretune.inspecting import inspect
from pretune.layer_states import layer_states
from pretune.modalities.audio import Audio
from pretune.modalities.image import Image
from pretune.usefulness import skipping
from pretune.weight_swap import encoder_weights, holding
from protein_stand_in import proteins

TOKENS = ("bert", "modernbert", "esm", "electra")
PIXELS = ("vit", "resnet", "convnext")
SOUND = ("wav2vec2-bert", "wav2vec2", "hubert")


def ready(family: str) -> tuple[Any, Any, list[Any]]:
    """A random encoder, its modality and eight examples of different lengths."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    if family in SOUND:
        audio = Audio()
        audio.config("tiny", family)
        return AutoModel.from_config(small_config(family)), audio, audio.process_many(classed(8))
    if family in PIXELS:
        image = Image(image_size=pixel_stand_in.SIZE)
        pictures = list(pixel_stand_in.StandInCorpus(num_images=8).images)
        image.learn(pictures)
        examples = image.process_many([{"image": p} for p in pictures])
        return AutoModel.from_config(pixel_stand_in.config(family)), image, examples
    examples = [{"input_ids": [2, *rng.integers(5, 128, k), 3]} for k in range(3, 19, 2)]
    return AutoModel.from_config(token_stand_in.config(family)), _Tokens(), examples


class _Tokens(SimpleNamespace):
    def length(self, example):
        return len(example["input_ids"])

    def pad(self, examples):
        width = max(len(e["input_ids"]) for e in examples)
        rows = [[*e["input_ids"], *[0] * (width - len(e["input_ids"]))] for e in examples]
        real = [[1] * len(e["input_ids"]) + [0] * (width - len(e["input_ids"])) for e in examples]
        return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(real)}


@pytest.mark.parametrize("family", [*TOKENS, *PIXELS, *SOUND])
def test_states_do_not_depend_on_padding_and_a_random_block_may_be_skipped(family):
    model, modality, examples = ready(family)
    model.eval()
    before = encoder_weights(model)
    states = layer_states(model, modality, modality.pad, examples)
    assert len(states) == len(layer_names(model)) == encoder.num_layers(model) + 1
    assert all(len(s) == 8 and np.isfinite(s).all() for s in states)
    alone = [np.concatenate(layer_states(model, modality, modality.pad, [e])[-1:]) for e in examples]
    if family not in ("wav2vec2", "hubert"):  # their first convolution is normalised over padding too
        assert states[-1] == pytest.approx(np.concatenate(alone), abs=1e-4)
    with holding(model, {n: torch.zeros_like(w) if w.is_floating_point() else w for n, w in before.items()}):
        assert layer_states(model, modality, modality.pad, examples)[-1] != pytest.approx(states[-1], abs=1e-4)
    again = layer_states(model, modality, modality.pad, examples)
    assert all(np.array_equal(a, b) for a, b in zip(states, again, strict=True))
    moved = drift(model, before, encoder_weights(model))
    assert set(moved.layers.values()) == {0.0}
    assert set(layer_names(model)) <= moved.layers.keys()


@pytest.mark.parametrize("family", [*TOKENS, "vit", *SOUND])
def test_a_skipped_block_gives_its_input(family):
    model, modality, examples = ready(family)
    model.eval()
    plain = layer_states(model, modality, modality.pad, examples)
    with skipping(encoder.blocks(model)[1][0]):
        skipped = _last(model, modality, examples)
    assert skipped.shape == _last(model, modality, examples).shape
    assert not torch.allclose(skipped, _last(model, modality, examples))
    assert len(plain) == 3


@torch.inference_mode()
def _last(model, modality, examples):
    return model(**model_inputs(model, modality.pad(examples))).last_hidden_state


# -- random weights that a run began with, made again ------------------------------------------------------------------

NOTHING = {"budget": "1steps", "lr": 1e-9, "batch_size": 4, "size": "tiny", "seed": 3}


def corpus(folder: Path, name: str) -> Any:
    if name == "text":
        import planted

        return [r["text"] for r in planted.reviews(80)]
    if name == "image":
        return list(pixel_stand_in.StandInCorpus(num_images=24).images)
    if name == "audio":
        return [r["audio"] for r in classed(16)]
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("ACGT"), 300)) for _ in range(40)]


CASES = [
    ("text", "mlm", {"modality": {"name": "text", "vocab_size": 256}}),
    ("text", "mlm", {"modality": {"name": "text", "vocab_size": 256}, "init": "random"}),
    ("text", "bert", {"modality": {"name": "text", "vocab_size": 256}}),
    ("text", "electra", {"modality": {"name": "text", "vocab_size": 256}}),
    ("image", "mae", {"modality": "image"}),
    ("image", "contrastive", {"modality": "image", "family": "resnet"}),
    ("image", "distill", {"modality": "image", "family": "convnext"}),
    ("audio", "masked_audio", {"modality": "audio"}),
    ("dna", "mlm", {"modality": "dna", "family": "esm"}),
]


@pytest.mark.parametrize(("name", "objective", "more"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_run_that_learnt_nothing_has_not_moved_from_its_first_weights(name, objective, more, tmp_path):
    pretune.pretrain(corpus(tmp_path, name), out=str(tmp_path / "run"), objective=objective, **NOTHING, **more)
    found = inspect(str(tmp_path / "run"))
    (one,) = found.compared
    assert one.start == "its random start (seed 3)"
    assert max(v for v in one.drift.layers.values() if v is not None) < 1e-3
    if name == "text":
        assert one.drift.layers["embeddings"] < 1e-6


# -- tasks whose labels no linear probe reads --------------------------------------------------------------------------


def scratch(data: Any, folder: Path, **options: Any) -> dict[str, Any]:
    pretune.finetune(data, out=str(folder), scratch=True, budget="2steps", batch_size=4, size="tiny", **options)
    return inspect(str(folder), data=data, num_records=12).to_dict()


def dense(root: Path, task: str) -> dict[str, Any]:
    records = {"detection": planted_images.boxed, "segmentation": planted_images.masked}[task](12)
    options = {"name": task, "width": 16}
    return scratch(records, root / "run", task=options, modality={"name": "image", "image_size": 24})


def words(root: Path, _: str) -> dict[str, Any]:
    return scratch(spoken(12), root / "run", task="ctc", modality="audio")


def pairs(root: Path, task: str) -> dict[str, Any]:
    options = {"name": task, "width": 8, "num_convolutions": 1}
    return scratch(proteins(12), root / "run", task=options, modality="protein", valid_rate=0.2)


@pytest.mark.parametrize(
    ("made", "task"),
    [(dense, "detection"), (dense, "segmentation"), (words, "ctc"), (pairs, "contacts"), (pairs, "structure")],
)
def test_without_probes_there_are_likeness_drift_and_usefulness(made, task, tmp_path):
    found = made(tmp_path, task)
    assert found["probes"] is None
    assert any(f"Labels of {task} are not one a record or word" in n for n in found["notes"])
    (one,) = found["compared"]
    assert len(one["cka"]) == len(found["layers"])
    assert 0 < one["drift"]["layers"][found["layers"][1]] < 0.5
    assert [b["layer"] for b in found["usefulness"]["blocks"]] == found["layers"][1:]
