"""The convolutions of speech encoders as matrix products, against those of transformers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from pretune import encoder

SMALL = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 10, "num_conv_pos_embedding_groups": 4, "mask_time_prob": 0.0,
}  # fmt: skip
CASES = [
    ("wav2vec2", {}),
    ("wav2vec2", {"feat_extract_norm": "layer", "conv_bias": True}),
    ("wav2vec2", {"conv_bias": True, "num_conv_pos_embeddings": 7}),
    ("wav2vec2", {"conv_stride": [5, 2, 2, 3, 2, 2, 4], "conv_kernel": [11, 5, 3, 3, 3, 2, 2]}),
    ("wav2vec2", {"feat_extract_activation": "relu", "hidden_act": "relu"}),
    ("hubert", {"feat_proj_layer_norm": False}),
    ("wavlm", {}),
]
every = pytest.mark.parametrize(("family", "options"), CASES, ids=[f"{f}-{'-'.join(o)}".rstrip("-") for f, o in CASES])
LENGTHS = [(1, 8_000), (3, 8_177), (2, 40_003)]


def pair(family: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The same weights, with the convolutions of transformers and with ours."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SMALL | options)
    theirs = AutoModel.from_config(config).eval()
    for name, parameter in theirs.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=float("norm.weight" in name), std=0.3)
    ours, _ = encoder.make(AutoModel, copy.deepcopy(config))
    ours.eval().load_state_dict(theirs.state_dict())
    assert {"forward" in vars(m.feature_extractor) for m in (theirs, ours)} == {False, True}
    assert "forward" in vars(ours.encoder.pos_conv_embed)
    return theirs, ours


def waves(number: int, samples: int, **more: Any) -> Tensor:
    """Noise whose second half is silent in the last row."""
    found = torch.randn(number, samples, generator=torch.Generator().manual_seed(1)) + 0.1
    found[-1, samples // 2 :] = 0
    return found.requires_grad_(**more) if more else found


@every
@pytest.mark.parametrize(("number", "samples"), LENGTHS)
def test_frames_and_states_equal_those_of_transformers(family, options, number, samples):
    theirs, ours = pair(family, options)
    given = waves(number, samples)
    with torch.no_grad():
        expected = theirs.feature_extractor(given)
        torch.testing.assert_close(ours.feature_extractor(given), expected, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(ours(given)[0], theirs(given)[0], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(ours.feature_extractor(given), expected, atol=2e-5, rtol=1e-4)


@every
def test_gradients_equal_those_of_transformers(family, options):
    theirs, ours = pair(family, options)
    found = []
    for model in (theirs, ours):
        given = waves(3, 8_177, requires_grad=True)
        states = model.feature_extractor(given)
        (states * torch.linspace(-1, 1, states.numel()).view(states.shape)).sum().backward()
        found.append([given.grad, *(p.grad for p in model.feature_extractor.parameters())])
    for mine, other in zip(*reversed(found), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5 + 1e-4 * float(other.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("family", ["data2vec-audio", "sew"])
def test_relatives_that_do_more_are_left_to_transformers(family):
    torch.manual_seed(0)
    more = {"squeeze_factor": 2} if family == "sew" else {"num_conv_pos_embeddings": 2}
    config = AutoConfig.for_model(
        family, **SMALL | more | {"conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_kernel": [10, *[3] * 6]}
    )
    theirs = AutoModel.from_config(config).eval()
    ours, _ = encoder.make(AutoModel, copy.deepcopy(config))
    ours.eval().load_state_dict(theirs.state_dict())
    given = waves(2, 9_000)
    with torch.no_grad():
        torch.testing.assert_close(ours(given)[0], theirs(given)[0], atol=1e-4, rtol=1e-3)


def test_silence_and_copies():
    theirs, ours = pair("wav2vec2", {})
    silent = torch.zeros(2, 4_000)
    with torch.no_grad():
        expected = theirs.feature_extractor(silent)
        again = copy.deepcopy(ours)
        torch.nn.init.zeros_(ours.feature_extractor.conv_layers[1].conv.weight)
        torch.testing.assert_close(again.feature_extractor(silent), expected)
        assert ours.feature_extractor(silent).abs().max() == 0


@pytest.mark.parametrize("grad", [True, False])
def test_bfloat16_rounds_as_that_of_transformers(grad):
    theirs, ours = pair("wav2vec2", {})
    given = waves(3, 8_177)
    exact = theirs.feature_extractor(given)
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(grad):
        peer, mine = (m.feature_extractor(given).float() for m in (theirs, ours))
    assert (mine - exact).abs().max() < 2 * (peer - exact).abs().max()
    if grad:
        mine.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.feature_extractor.parameters())
