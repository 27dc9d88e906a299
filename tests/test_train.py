from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pretune import machine
from pretune.batching import Order, permute
from pretune.budget import Budget, Plan
from pretune.checkpoint import RunDirectory
from pretune.errors import ConfigError, NumericsError, RunError
from pretune.evaluation import to_device
from pretune.objectives.base import Objective
from pretune.train import Interrupted, fit


class Regress(Objective):
    """Least squares with dropout noise and input noise: everything that must resume."""

    accepts = frozenset({"tokens"})

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 1))
        self.stop_at, self.calls = stop_at, 0

    def collate(self, examples: Any, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        x = np.stack([e["x"] for e in examples]) + 0.1 * rng.standard_normal((len(examples), 4))
        y = np.stack([e["y"] for e in examples])
        return {"input_values": torch.tensor(x).float(), "labels": torch.tensor(y).float()}

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        return {"examples": len(batch["labels"])}

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.calls += 1
        if self.stop_at == self.calls:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        loss = (self.net(batch["input_values"])[:, 0] - batch["labels"]).square().mean()
        return {"loss": loss * self.scale.get("examples", 1.0)}


def examples(number: int = 50) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((number, 4))
    return [{"x": row, "y": row.sum()} for row in x]


def train(tmp: Path, objective: Regress, **options: Any) -> dict[str, torch.Tensor]:
    run = RunDirectory(tmp)
    state = run.open({"verb": "test"})
    defaults: dict[str, Any] = {"budget": "40steps", "batch_size": 8, "lr": 1e-2, "seed": 3}
    fit(objective, examples(), run=run, state=state, **(defaults | options))
    return {n: p.detach().clone() for n, p in objective.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("stop_at", [1, 2, 17, 40])
@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"optimizer": "muon"}])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, stop_at: int, options: dict[str, Any]) -> None:
    whole = train(tmp_path / "whole", Regress(), **options)
    with pytest.raises(Interrupted, match=f"step {stop_at}"):
        train(tmp_path / "cut", Regress(stop_at), **options)
    assert same(whole, train(tmp_path / "cut", Regress(), **options))
    assert not same(whole, train(tmp_path / "other", Regress(), seed=4, **options))


def test_best_weights_and_patience_resume(tmp_path: Path) -> None:
    def options(objective: Regress) -> dict[str, Any]:
        batch = to_device(objective.collate(examples(20), np.random.default_rng(1)), machine.device())
        return {"validate": lambda: {"score": -float(objective.eval()(batch)["loss"])}, "primary": "score"}

    a, b, c = Regress(), Regress(25), Regress()
    whole = train(tmp_path / "a", a, **options(a), patience=3, lr=0.3)
    with pytest.raises(Interrupted):
        train(tmp_path / "b", b, **options(b), patience=3, lr=0.3)
    assert same(whole, train(tmp_path / "b", c, **options(c), patience=3, lr=0.3))


def test_micro_batches_equal_one_batch(tmp_path: Path) -> None:
    class Plain(Regress):
        def collate(self, examples: Any, rng: np.random.Generator) -> dict[str, torch.Tensor]:
            return super().collate(examples, np.random.default_rng(0))

        def __init__(self) -> None:
            super().__init__()
            self.net[1] = nn.Identity()

    class Noiseless(Plain):
        def collate(self, examples: Any, rng: np.random.Generator) -> dict[str, torch.Tensor]:
            batch = super().collate(examples, rng)
            batch["input_values"] = torch.tensor(np.stack([e["x"] for e in examples])).float()
            return batch

    one = train(tmp_path / "one", Noiseless(), precision="fp32")
    three = train(tmp_path / "three", Noiseless(), num_micro_batches=3, precision="fp32")
    for name in one:
        torch.testing.assert_close(one[name], three[name], atol=1e-6, rtol=1e-5)


def test_a_nan_names_the_step_and_saves_the_batch(tmp_path: Path) -> None:
    with pytest.raises(NumericsError, match=r"At step \d+ .*failed-step"):
        train(tmp_path, Regress(), lr=1e30, max_grad_norm=0)
    assert list(tmp_path.glob("failed-step-*.safetensors"))


def test_time_budget_ends_on_time_and_anneals(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    objective = Regress()
    result = fit(objective, examples(), run=run, state=run.open({}), budget="2s", batch_size=8, lr=1e-2, seed=0)
    assert 1.5 < result.seconds < 4.0
    assert run.metrics()[-1]["lr"] < 1e-3


def test_other_options_are_refused_in_an_unfinished_run(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, Regress(5))
    with pytest.raises(RunError, match="verb was test and is now other"):
        RunDirectory(tmp_path).open({"verb": "other"})


def test_damaged_half_checkpoint_is_ignored(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", Regress())
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", Regress(9))
    half = tmp_path / "cut" / "checkpoints" / "step-000000099.tmp"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    assert same(whole, train(tmp_path / "cut", Regress()))


@pytest.mark.parametrize(("text", "amount", "unit"), [
    ("20m", 1200, "seconds"), ("1.5h", 5400, "seconds"), ("2e8tok", 2e8, "tokens"),
    ("3epochs", 3, "epochs"), ("1epoch", 1, "epochs"), ("5000steps", 5000, "steps"),
])  # fmt: skip
def test_budget_units(text: str, amount: float, unit: str) -> None:
    assert Budget.parse(text) == Budget(amount, unit)


@pytest.mark.parametrize("text", ["", "20", "m", "-3m", "0s", "3 parsecs", "1..2m"])
def test_bad_budgets_say_what_is_expected(text: str) -> None:
    with pytest.raises(ConfigError, match="90s, 20m, 2h"):
        Budget.parse(text)


def test_plan_is_continuous_where_it_is_corrected() -> None:
    plan = Plan(100)
    before = plan.progress(40)
    plan.replan(40, 200)
    assert plan.progress(40) == pytest.approx(before)
    assert plan.progress(200) == 1.0
    assert all(plan.progress(s + 1) > plan.progress(s) for s in range(40, 199))


@pytest.mark.parametrize("number", [1, 2, 3, 17, 1000, 65537])
def test_permute_is_a_permutation(number: int) -> None:
    seen = permute(np.arange(number), number, seed=5)
    assert sorted(seen.tolist()) == list(range(number))
    parts = [permute(np.arange(a, b), number, seed=5) for a, b in itertools.pairwise((0, number // 2, number))]
    assert np.concatenate(parts).tolist() == seen.tolist()


def test_every_epoch_has_every_example_once() -> None:
    rng = np.random.default_rng(0)
    for lengths in (None, rng.integers(1, 50, 103).tolist()):
        order = Order(103, 10, seed=1, lengths=lengths)
        steps = 11 if lengths else 103
        epochs = 1 if lengths else 10
        seen = np.concatenate([order[s] for s in range(steps)])
        assert sorted(seen.tolist()) == sorted(list(range(103)) * epochs)[: len(seen)]


def test_bf16_is_the_default_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, seconds = torch.device("cpu"), {torch.float32: 2.0, torch.bfloat16: 1.0}
    monkeypatch.setattr(machine, "_seconds", lambda left, right: seconds[left.dtype])
    for able, faster, default in ((True, True, "bf16"), (True, False, "fp32"), (False, True, "fp32")):
        machine._bf16_pays.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able})
        seconds[torch.bfloat16] = 1.0 if faster else 2.5
        assert machine.precision_for(cpu, None) == default
        assert machine.precision_for(cpu, "bf16") == "bf16"
    machine._bf16_pays.cache_clear()
