"""ESM's hastened blocks give the outputs and gradients of transformers' own."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertConfig, BertModel, EsmConfig, EsmForMaskedLM

from pretune import encoder
from pretune.esm import hasten

_SHAPE = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}


def config(positions: str = "rotary", dropout: float = 0.0) -> EsmConfig:
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return EsmConfig(
        vocab_size=40, pad_token_id=1, mask_token_id=32, position_embedding_type=positions, **rates, **_SHAPE
    )


def both(attention: str = "eager", positions: str = "rotary", dropout: float = 0.0) -> list[EsmForMaskedLM]:
    torch.manual_seed(0)
    plain = EsmForMaskedLM(config(positions, dropout))
    for parameter in plain.parameters():  # biases too: zeros would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    plain.set_attn_implementation(attention)
    return [plain, hasten(copy.deepcopy(plain))]


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(4, 9, dtype=torch.long)
    mask[1, 5:] = 0
    ids = torch.randint(4, 33, (4, 9))
    return {"input_ids": torch.where(mask > 0, ids, 1), "attention_mask": mask}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("positions", ["rotary", "absolute"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_logits_and_gradients_are_those_of_transformers(attention: str, positions: str, dropout: float) -> None:
    results = []
    for model in both(attention, positions, dropout):
        model.train()
        torch.manual_seed(2)  # the same elements are dropped
        logits = model(**batch()).logits
        logits.square().sum().backward()
        results.append((logits, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (wanted, slopes), (logits, found) = results
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    assert found.keys() == slopes.keys()
    for name, value in slopes.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3 * float(value.abs().max()) + 1e-5)


def test_bfloat16_is_as_near() -> None:
    plain, fast = (model.eval() for model in both())
    exact = plain(**batch()).logits
    with torch.autocast("cpu", torch.bfloat16):
        rounded, found = plain(**batch()).logits, fast(**batch()).logits
    assert found.dtype == rounded.dtype
    assert (found - exact).abs().max() < 2 * (rounded - exact).abs().max()


def test_every_esm_that_is_built_or_loaded_is_hastened_and_no_other(tmp_path: object) -> None:
    built, _ = encoder.make(AutoModelForMaskedLM, config())
    built.save_pretrained(str(tmp_path))
    loaded, _ = encoder.make(AutoModelForMaskedLM, str(tmp_path))
    for model in (built, loaded):
        assert {type(m).__module__ for m in model.modules() if "Intermediate" in type(m).__name__} == {"pretune.esm"}
    other = BertModel(BertConfig(vocab_size=40, **_SHAPE))
    assert not any(type(m).__module__ == "pretune.esm" for m in hasten(other).modules())
