"""A shortened last block gives the logits and gradients of the whole one."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from pretune import features
from pretune.first_token import first_token_only, install

_SHAPE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
_TEXT = _SHAPE | {"vocab_size": 100, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
_MODELS: dict[str, tuple[Any, Any]] = {
    "bert": (BertForSequenceClassification, BertConfig(**_TEXT)),
    "electra": (ElectraForSequenceClassification, ElectraConfig(**_TEXT, embedding_size=64)),
    "roberta": (RobertaForSequenceClassification, RobertaConfig(**_TEXT, max_position_embeddings=50)),
    "vit": (ViTForImageClassification, ViTConfig(**_SHAPE, image_size=16, patch_size=4)),
}


def build(name: str, attention: str) -> PreTrainedModel:
    torch.manual_seed(0)
    cls, config = _MODELS[name]
    model: PreTrainedModel = cls(config)
    for parameter in model.parameters():  # biases too: zeros would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    model.set_attn_implementation(attention)
    install(model)
    return model


def batch_for(name: str) -> dict[str, torch.Tensor]:
    if name == "vit":
        return {"pixel_values": torch.randn(4, 3, 16, 16)}
    mask = torch.ones(4, 9, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": torch.randint(5, 100, (4, 9)), "attention_mask": mask}


def gradients(model: PreTrainedModel, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits.square().sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", _MODELS)
def test_the_short_block_equals_the_whole_one(name: str, attention: str) -> None:
    model, batch = build(name, attention), batch_for(name)
    whole = model(**batch).logits
    wanted = gradients(model, whole)
    short = features.logits(model, batch)
    found = gradients(model, short)
    torch.testing.assert_close(short, whole, rtol=1e-4, atol=1e-5)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-3 * float(value.abs().max()) + 1e-5)


@pytest.mark.parametrize("name", _MODELS)
def test_the_last_block_gives_one_position_inside_and_all_outside(name: str) -> None:
    model, batch = build(name, "eager"), batch_for(name)
    with first_token_only():
        assert model(**batch, output_hidden_states=True).hidden_states[-1].shape[1] == 1
    assert model(**batch, output_hidden_states=True).hidden_states[-1].shape[1] > 1


def test_a_copy_runs_its_own_block() -> None:
    model, batch = build("bert", "eager"), batch_for("bert")
    features.logits(model, batch)
    other = copy.deepcopy(model)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert features.logits(other, batch).abs().max() > 0


def test_threads_may_share_a_model() -> None:
    model, batch = build("bert", "eager"), batch_for("bert")
    whole = model(**batch).logits
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: features.logits(model, batch), range(40)))
    for logits in found:
        torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-5)
