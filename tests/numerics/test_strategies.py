"""Strategies: what moves and how much; L2-SP against the penalty in the loss; LoRA against transformers."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

from pretune import encoder, registry
from pretune.errors import ConfigError
from pretune.strategies.freeze import Freeze
from pretune.strategies.full import Full
from pretune.strategies.l2sp import L2SP
from pretune.strategies.layer_decay import LayerDecay
from pretune.strategies.lora import LoRA
from pretune.strategies.probe_then_full import ProbeThenFull
from pretune.strategies.unfreeze import Unfreeze

NAMES = registry.names("strategy")


def config(**more: Any) -> BertConfig:
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    return BertConfig(**sizes, intermediate_size=24, max_position_embeddings=32, **more)


@pytest.fixture(params=[True, False], ids=["pooler", "new-pooler"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, list[str]]:
    """A classifier from a checkpoint with or without a pooler, and what is new in it."""
    torch.manual_seed(0)
    BertModel(config(), add_pooling_layer=request.param).save_pretrained(tmp_path / "pre")
    model, report = encoder.make(AutoModelForSequenceClassification, tmp_path / "pre", num_labels=3)
    assert ("bert.pooler.dense.weight" in report.new) is not request.param
    return model, report.new


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(5, 60, (4, 9), generator=generator),
        "labels": torch.tensor([0, 1, 2, 0]),
    }


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def train(model: Any, strategy: Any, steps: int = 10, start: float = 0.0) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for step in range(steps):
        strategy.thaw(model, start + (1 - start) * step / steps)
        optimizer.zero_grad()
        model(**batch()).loss.backward()
        strategy.before_step(model, 1e-2)
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_always_trained_and_exported(name: str, loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    strategy = registry.build("strategy", name)
    model = strategy.setup(model, new)
    strategy.thaw(model, 0.0)
    before = weights(model)
    assert all(p.requires_grad for n, p in model.named_parameters() if n in new)
    train(model, strategy)
    after = weights(model)
    assert all(not torch.equal(before[n], after[n]) for n in new)
    exported = weights(strategy.finish(model))
    assert all(torch.equal(exported[n], after[n]) for n in new)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "full"])
def test_from_scratch_is_an_error_where_it_means_nothing(name: str) -> None:
    model = BertForSequenceClassification(config())
    with pytest.raises(ConfigError, match="from scratch"):
        registry.build("strategy", name).setup(model, [n for n, _ in model.named_parameters()])


def test_freeze_leaves_the_encoder_bit_identical(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    before = weights(model)
    strategy = Freeze()
    train(strategy.setup(model, new), strategy)
    assert strategy.frozen_throughout
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters() if n not in new)


def test_freeze_lowest_layers(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    table, before = encoder.depths(model), weights(model)
    strategy = Freeze(layers=2)
    train(strategy.setup(model, new), strategy)
    moved = {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}
    assert {n for n in table if table[n] <= 2}.isdisjoint(moved)
    assert {n for n in table if table[n] == 3 and n.endswith("weight")} <= moved
    with pytest.raises(ConfigError, match="has 3 blocks"):
        Freeze(layers=4).setup(model, new)


def test_frozen_modules_run_without_dropout_until_the_end(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    strategy = Freeze(layers=1)
    model = strategy.setup(model.train(), new).train()
    assert not any(m.training for m in model.bert.embeddings.modules())
    assert not any(m.training for m in model.bert.encoder.layer[0].modules())
    assert all(m.training for m in model.bert.encoder.layer[1].modules())
    assert model.dropout.training
    copied = copy.deepcopy(model).train()
    assert not copied.bert.embeddings.training
    model = strategy.finish(model).train()
    assert all(m.training for m in model.modules())


def test_gradual_unfreezing_is_a_function_of_progress(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    table = encoder.depths(model)
    strategy = Unfreeze(until_rate=0.5)
    model = strategy.setup(model, new)
    seen = []
    for progress in (0.0, 0.124, 0.125, 0.25, 0.375, 0.5, 1.0):
        strategy.thaw(model, progress)
        assert not strategy.thaw(model, progress)
        moving = {n for n, p in model.named_parameters() if p.requires_grad}
        seen.append(min((table[n] for n in moving if n not in new), default=4))
        assert all(n in moving for n in table if n in new or table[n] >= seen[-1] < 4)
    assert seen == [4, 4, 3, 2, 1, 0, 0]
    strategy.thaw(model, 0.2)  # a resumed run may look back
    assert not any(p.requires_grad for n, p in model.named_parameters() if table[n] <= 2)


def test_unfreeze_never_thaws_what_another_strategy_froze(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    unfreeze = Unfreeze()
    model = unfreeze.setup(Freeze(layers=2).setup(model, new), new)
    unfreeze.thaw(model, 1.0)
    table = encoder.depths(model)
    assert {table[n] for n, p in model.named_parameters() if not p.requires_grad} == {0, 1, 2}


def test_probe_then_full(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    strategy = ProbeThenFull(probe_rate=0.3, full_lr_scale=0.1)
    model = strategy.setup(model, new)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(new)
    assert not strategy.thaw(model, 0.29)
    assert strategy.lr_factor(0.29) == 1.0
    assert strategy.thaw(model, 0.3)
    assert strategy.lr_factor(0.3) == 0.1
    assert all(p.requires_grad for p in model.parameters())
    assert model.train().bert.encoder.training


# a large eps, because Adam would blow rounding noise up where the true gradient is 0 (the keys' bias)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, partial(torch.optim.Adam, eps=1e-3)])
def test_l2sp_equals_the_penalty_in_the_loss(loaded: tuple[Any, list[str]], optimizer: Any) -> None:
    """To machine precision, over several steps."""
    model, new = loaded
    model = model.double().eval()
    other, start = copy.deepcopy(model), weights(model)
    alpha, beta = 0.3, 0.2
    strategy = L2SP(alpha=alpha, beta=beta)
    model = strategy.setup(model, new)
    mine, theirs = optimizer(model.parameters(), lr=0.05), optimizer(other.parameters(), lr=0.05)
    for _ in range(5):
        mine.zero_grad()
        model(**batch()).loss.backward()
        strategy.before_step(model, 0.05)
        mine.step()
        theirs.zero_grad()
        loss = other(**batch()).loss
        for name, p in other.named_parameters():
            loss = loss + (beta / 2 * p.square().sum() if name in new else 0.0)
            loss = loss + (alpha / 2 * (p - start[name]).square().sum() if name not in new else 0.0)
        loss.backward()
        theirs.step()
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=name)
    assert strategy.weight_decay_scale("bert.embeddings.word_embeddings.weight") == 0.0


def test_l2sp_keeps_weights_nearer_to_where_they_started(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    free, start = copy.deepcopy(model), weights(model)
    pulled = L2SP(alpha=1.0)
    train(pulled.setup(model, new), pulled, steps=30)
    full = Full()
    train(full.setup(free, new), full, steps=30)

    def distance(m: Any) -> float:
        return sum(float((p - start[n]).square().sum()) for n, p in weights(m).items() if n not in new)

    assert distance(model) < 0.5 * distance(free)


def test_layer_decay_by_depth(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    strategy = LayerDecay(decay=0.5)
    model = strategy.setup(model, new)
    scale = {n: strategy.lr_scale(n, p, model) for n, p in model.named_parameters()}
    assert scale["classifier.weight"] == scale["bert.pooler.dense.weight"] == 1.0
    layers = [scale[f"bert.encoder.layer.{i}.output.dense.weight"] for i in range(3)]
    assert layers == [0.125, 0.25, 0.5]
    assert scale["bert.embeddings.word_embeddings.weight"] == 0.0625


def test_encoder_lr_scale(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    strategy = Full(encoder_lr_scale=0.1)
    model = strategy.setup(model, new)
    assert {strategy.lr_scale(n, p, model) for n, p in model.named_parameters() if n in new} == {1.0}
    assert {strategy.lr_scale(n, p, model) for n, p in model.named_parameters() if n not in new} == {0.1}


def test_lora_merged_is_a_plain_model(loaded: tuple[Any, list[str]], tmp_path: Path) -> None:
    model, new = loaded
    before = weights(model)
    strategy = LoRA(rank=2)
    model = strategy.setup(model, new)
    moving = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in moving if "lora_" not in n} == set(new)
    train(model, strategy)
    expected = model.eval()(**batch()).logits
    merged = strategy.finish(model)
    merged.save_pretrained(tmp_path / "merged")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(plain(**batch()).logits, expected, rtol=1e-5, atol=1e-5)
    assert set(weights(plain)) == set(before)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.linalg.matrix_rank(weights(plain)[name] - before[name], atol=1e-5) == 2
    same = [n for n in before if n not in new and "encoder.layer" not in n]
    assert all(torch.equal(before[n], weights(plain)[n]) for n in same)


def test_lora_adapter_holds_the_head(loaded: tuple[Any, list[str]], tmp_path: Path) -> None:
    model, new = loaded
    strategy = LoRA(rank=2, alpha=4.0, merge=False)
    model = strategy.setup(model, new)
    train(model, strategy)
    expected = model.eval()(**batch()).logits
    wrapped = strategy.finish(model)
    torch.testing.assert_close(wrapped.eval()(**batch()).logits, expected)
    wrapped.save_pretrained(tmp_path / "adapter")
    torch.manual_seed(9)
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pre", num_labels=3)
    again = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(again(**batch()).logits, expected)


def test_lora_composes_with_layer_decay(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    for strategies in ([LoRA(rank=2), LayerDecay(decay=0.5)], [LayerDecay(decay=0.5), LoRA(rank=2)]):
        copied = copy.deepcopy(model)
        for strategy in strategies:
            copied = strategy.setup(copied, new)
        decay = next(s for s in strategies if isinstance(s, LayerDecay))
        scale = {n: decay.lr_scale(n, p, copied) for n, p in copied.named_parameters()}
        assert scale["bert.encoder.layer.2.attention.self.query.lora_A.default.weight"] == 0.5
        assert scale["bert.encoder.layer.0.output.dense.lora_B.default.weight"] == 0.125


def test_strategies_compose(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    for first, second in ((Unfreeze(), L2SP()), (ProbeThenFull(), L2SP()), (LoRA(rank=2), Freeze())):
        copied = copy.deepcopy(model)
        copied = second.setup(first.setup(copied, new), new)
        moving = {n for n, p in copied.named_parameters() if p.requires_grad}
        assert {n for n in moving if "lora_" not in n} == set(new)
        assert any("lora_" in n for n in moving) is isinstance(first, LoRA)
        first.thaw(copied, 1.0)
        copied(**batch()).loss.backward()
        second.before_step(copied, 0.1)


def test_lora_targets(loaded: tuple[Any, list[str]]) -> None:
    model, new = loaded
    with pytest.raises(ConfigError, match="nothing_like_it"):
        LoRA(target_modules=["nothing_like_it"]).setup(copy.deepcopy(model), new)
    model = LoRA(target_modules=["query"]).setup(model, new)
    assert len([n for n, _ in model.named_parameters() if "lora_A" in n]) == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("freeze", {"layers": -1}),
        ("full", {"encoder_lr_scale": 0}),
        ("l2sp", {"alpha": 0.0}),
        ("layer_decay", {"decay": 1.0}),
        ("lora", {"rank": 0}),
        ("probe_then_full", {"probe_rate": 1.0}),
        ("unfreeze", {"until_rate": 0.0}),
    ],
)
def test_options_that_cannot_work(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        registry.build("strategy", {"name": name, **options})
