"""What every objective on tokens must do; a new file in objectives/ is tested without a line here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel

from objective_contract import steps, whole_and_parts
from pretune import encoder, registry
from pretune.errors import ConfigError
from pretune.objectives.base import Objective
from token_stand_in import StandInCorpus, config, modality

FAMILIES = ("bert", "modernbert", "electra")


def _accepts_tokens(name: str) -> bool:
    cls = registry.find("objective", name)
    return issubclass(cls, Objective) and "tokens" in cls.accepts


NAMES = [n for n in registry.names("objective") if _accepts_tokens(n)]


def make(name: str, family: str = "bert", **options) -> Objective:
    torch.manual_seed(0)
    objective = registry.build("objective", {"name": name, **options})
    try:
        auto_class = objective.auto_class(family)
    except ConfigError as error:
        pytest.skip(str(error))
    model, _ = encoder.make(auto_class, config(family))
    objective.setup(model, modality())
    return objective.train()


def batch_of(objective: Objective, num: int = 8, seed: int = 0):
    view = objective.examples(StandInCorpus(), seed=0)
    return objective.collate([view[i] for i in range(num)], np.random.default_rng(seed))


CASES = [(name, family) for name in NAMES for family in FAMILIES]


@pytest.mark.parametrize(("name", "family"), CASES)
def test_loss_falls_and_reaches_the_encoder(name, family):
    objective = make(name, family)
    batch = batch_of(objective)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    losses = []
    for step, logs in steps(objective, batch, optimizer, 20):
        if step == 0:
            absent = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
            assert not absent, f"no gradient (breaks DDP): {absent}"
            blocks = [p for n, p in objective.model.named_parameters() if ".layer" in n or "layers." in n]
            assert blocks
            assert all(p.grad.abs().sum() > 0 for p in blocks if p.dim() > 1)
        losses.append(logs["loss"].item())
    assert np.mean(losses[-3:]) < losses[0] - 0.01, losses


@pytest.mark.parametrize(("name", "family"), CASES)
def test_export_reloads_with_the_same_hidden_states(name, family, tmp_path):
    objective = make(name, family)
    standard = config(family).to_dict()
    objective.export().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    for key in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        assert getattr(again.config, key, None) == standard.get(key)
    ids = torch.randint(5, 120, (2, 16))
    with torch.no_grad():
        before = objective.export().eval().base_model(input_ids=ids).last_hidden_state
        assert torch.equal(before, again(input_ids=ids).last_hidden_state)


@pytest.mark.parametrize("name", NAMES)
def test_collate_depends_on_examples_and_rng_alone(name):
    objective = make(name)
    torch.manual_seed(1)
    first = batch_of(objective, seed=5)
    np.random.seed(3)
    torch.manual_seed(2)
    second, other = batch_of(objective, seed=5), batch_of(objective, seed=6)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(first[k].shape != other[k].shape or not torch.equal(first[k], other[k]) for k in first)
    assert all(len(v) == 8 for v in first.values()), "every tensor has a leading batch dimension"


@pytest.mark.parametrize("name", NAMES)
def test_scaled_halves_equal_the_whole(name, monkeypatch):
    objective = make(name).eval()
    if name == "electra":  # its samples are random: take the likeliest token, so that both runs draw the same
        monkeypatch.setattr("pretune.objectives.electra._sample", lambda logits: logits.argmax(-1))
    batch = batch_of(objective)
    gradients = whole_and_parts(objective, batch, 3)
    if gradients is None:
        pytest.skip("no counts: its micro-batches weigh the same")
    whole, parts = gradients
    for name_, gradient in whole.items():
        assert torch.allclose(gradient, parts[name_], atol=1e-5, rtol=1e-4), name_


@pytest.mark.parametrize("name", NAMES)
def test_options_are_what_was_given(name):
    objective = make(name)
    assert registry.build("objective", objective.spec()).options() == objective.options()


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_loss_is_finite(name):
    floor = make(name).floor(StandInCorpus())
    assert floor is None or np.isfinite(floor.value)
