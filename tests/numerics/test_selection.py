"""What strategies decide after training: wise equals its formula at both ends, a greedy soup never validates worse."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel

import planted
import pretune
from pretune import registry, tuning
from pretune.checkpoint import RunDirectory
from pretune.errors import ConfigError
from pretune.loop import Loop
from pretune.modalities.text import Text
from pretune.strategies.wise import middle_of_best
from pretune.tasks.classification import Classification
from pretune.train import FitResult, Interrupted
from pretune.tuning import check_strategies, ready_to_train, train

LR = 3e-3


class Place:
    """An encoder that has begun to learn, labelled examples, and fine-tuning from one on the other."""

    def __init__(self, folder: Path) -> None:
        task = planted.trained(Classification(), planted.reviews(256, seed=7), "label", 40)
        self.encoder, self.folder, self.num = folder / "encoder", folder, 0
        task.export().base_model.save_pretrained(self.encoder)
        assert isinstance(task.modality, Text)
        self.text = task.modality

    def tuned(self, strategies: Any, out: Path | None = None, **more: Any) -> tuple[Classification, FitResult]:
        task, rows = Classification(), planted.reviews(64)
        labels = [r["label"] for r in rows]
        task.modality = self.text
        task.learn_labels(labels)
        examples = [task.labelled(e, y) for e, y in zip(task.process(rows), labels, strict=True)]
        self.num += 1
        run = RunDirectory(out or self.folder / f"run-{self.num}")
        built = registry.build_all("strategy", strategies)
        ready = ready_to_train(task, self.text, built, str(self.encoder), LR, 0)
        options = {"budget": "12steps", "min_steps": None, "batch_size": 8, "seed": 0, "precision": "fp32"} | more
        state = run.open({"verb": "finetune"})
        fitted = train(ready, examples[:48], examples[48:], labels[48:], run=run, state=state, **options)
        return task, fitted

    def pretrained(self) -> dict[str, Tensor]:
        return {f"bert.{n}": p for n, p in AutoModel.from_pretrained(self.encoder).named_parameters()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("selection"))


@pytest.fixture(scope="module")
def full(place: Place) -> tuple[dict[str, Tensor], FitResult]:
    task, fitted = place.tuned("full")
    return weights(task), fitted


def weights(task: Classification) -> dict[str, Tensor]:
    return {n: p.detach().cpu().clone() for n, p in task.model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


# -- wise ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_wise_is_the_formula_tensor_by_tensor(place: Place, full: Any, share: float) -> None:
    start, (end, _) = place.pretrained(), full
    task, fitted = place.tuned({"name": "wise", "share": share})
    mixed = weights(task)
    assert fitted.selection == {"wise": {"share": share}}
    assert len(start) + 2 == len(mixed)
    for name, got in mixed.items():
        if name not in start:
            assert torch.equal(got, end[name])  # the head
        elif share in (0.0, 1.0):
            assert torch.equal(got, (start, end)[int(share)][name])
        else:
            torch.testing.assert_close(got, (1 - share) * start[name] + share * end[name])
    assert any(not torch.equal(start[n], end[n]) for n in start)


def test_wise_takes_a_share_that_validates_best_and_says_every_score(place: Place, full: Any) -> None:
    start, (end, plain) = place.pretrained(), full
    task, fitted = place.tuned("wise")
    told = fitted.selection["wise"]
    assert list(map(float, told["scores"])) == [k / 10 for k in range(11)]
    assert told["scores"]["1"] == plain.best["accuracy"]
    assert told["scores"][f"{told['share']:g}"] == max(told["scores"].values()) == fitted.best["accuracy"]
    for name, got in weights(task).items():
        expected = (1 - told["share"]) * start[name] + told["share"] * end[name] if name in start else end[name]
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["lora+wise", "wise+lora"])
def test_wise_mixes_merged_updates(place: Place, name: str) -> None:
    start, end = place.pretrained(), weights(place.tuned("lora")[0])
    mixed = weights(place.tuned({"name": name, "share": 0.4})[0])
    assert mixed.keys() == end.keys()
    for n in start:
        torch.testing.assert_close(mixed[n], 0.6 * start[n] + 0.4 * end[n])
    moved = [n for n in start if not torch.equal(mixed[n], start[n])]
    assert moved
    assert all(".layer." in n for n in moved)


def test_the_middle_of_the_best_shares() -> None:
    assert middle_of_best({0.0: 0.1, 0.5: 0.9, 1.0: 0.8}) == 0.5
    assert middle_of_best({0.0: 0.1, 0.2: 0.9, 0.4: 0.9, 0.6: 0.9, 0.8: 0.1}) == 0.4
    assert middle_of_best({0.0: 0.9, 1.0: 0.9}) == 0.0
    assert middle_of_best({0.0: math.nan, 0.5: -0.2, 1.0: math.nan}) == 0.5


# -- soup ----------------------------------------------------------------------------------------------------------


def members(place: Place, num: int) -> list[dict[str, Tensor]]:
    folder = place.folder / f"run-{place.num}" / "checkpoints" / "soup"
    found = [load_file(folder / f"member-{k}.safetensors") for k in range(num)]
    return [{n.removeprefix("model."): t for n, t in one.items() if not n.endswith("_ids")} for one in found]


def test_a_soup_of_one_is_plain_fine_tuning(place: Place, full: Any) -> None:
    task, fitted = place.tuned({"name": "soup", "members": 1})
    assert same(weights(task), full[0])
    assert fitted.best == full[1].best
    assert fitted.steps == 12


def test_a_greedy_soup_is_the_mean_of_its_members_and_validates_no_worse_than_the_best(place: Place) -> None:
    task, fitted = place.tuned({"name": "soup", "members": 4, "lr_range": 6.0})
    told = fitted.selection["soup"]["members"]
    own = members(place, 4)
    taken = [w for w, m in zip(own, told, strict=True) if m["taken"]]
    for name, got in weights(task).items():
        torch.testing.assert_close(got, torch.stack([w[name] for w in taken]).mean(0))
    assert fitted.best["accuracy"] >= max(m["score"] for m in told)
    assert fitted.best["accuracy"] == fitted.selection["soup"]["score"]
    assert len({m["lr"] for m in told}) == 4
    assert all(LR / 6 <= m["lr"] <= LR * 6 for m in told)
    assert told[0]["lr"] == LR
    assert fitted.steps == 48


def test_members_may_have_strategies_in_turn(place: Place) -> None:
    task, fitted = place.tuned({"name": "soup", "members": 3, "among": "freeze,lora+l2sp"})
    assert [m["strategy"] for m in fitted.selection["soup"]["members"]] == ["freeze", "lora+l2sp", "freeze"]
    start, own = place.pretrained(), members(place, 3)
    assert all(torch.equal(own[0][n], start[n]) for n in start)
    assert not same({n: own[1][n] for n in start}, start)
    assert weights(task).keys() == own[0].keys()


def test_a_soup_can_be_mixed_with_the_pretrained_weights(place: Place) -> None:
    start = place.pretrained()
    soup = weights(place.tuned({"name": "l2sp+soup", "members": 2})[0])
    mixed = weights(place.tuned({"name": "l2sp+soup+wise", "members": 2, "share": 0.5})[0])
    for name in mixed:
        torch.testing.assert_close(mixed[name], (start.get(name, soup[name]) + soup[name]) / 2)


def test_an_interrupted_soup_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = {"name": "soup", "members": 3}
    whole = weights(place.tuned(spec)[0])
    interrupt_at_step(monkeypatch, 17)  # in the second member
    with pytest.raises(Interrupted, match="Run the same command again"):
        place.tuned(spec, tmp_path / "run")
    kept = tmp_path / "run" / "checkpoints" / "soup"
    assert json.loads((kept / "member-0.json").read_text())["steps"] == 12
    assert list((kept / "1" / "checkpoints").glob("step-*"))
    assert same(weights(place.tuned(spec, tmp_path / "run")[0]), whole)


def interrupt_at_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C during the given optimiser step, counted over all trainings from now on; once."""
    plain, seen = Loop.train_step, [0]

    def step(loop: Loop, batches: Any, factor: float) -> Any:
        seen[0] += 1
        if seen[0] == number:
            signal.raise_signal(signal.SIGINT)
        return plain(loop, batches, factor)

    monkeypatch.setattr(Loop, "train_step", step)


# -- choose --------------------------------------------------------------------------------------------------------

SPACE = {"among": "freeze,l2sp,lora", "folds": 2, "time": "1h"}


def search(place: Place, out: Path, **options: Any) -> tuple[Classification, dict[str, Any]]:
    labels = [r["label"] for r in planted.reviews(64)][:48]
    spec = {"name": "choose", **SPACE, **options}
    folds = [torch.arange(48)[k :: spec["folds"]].numpy() for k in range(spec["folds"])]
    task, fitted = place.tuned(spec, out, labels=labels, folds=folds, num_validations=2)
    return task, fitted.selection["choose"]


def told(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """All of the trials but the time that they took."""
    return [(t["params"], t["scores"], t["state"], t["lr"]) for t in found["trials"]]


def test_held_out_folds_are_never_trained_on(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain, trained = tuning.fit, []

    def fit(objective: Any, examples: Sequence[Any], **more: Any) -> FitResult:
        trained.append({str(examples[i]["input_ids"]) for i in range(len(examples))})
        return plain(objective, examples, **more)

    monkeypatch.setattr(tuning, "fit", fit)
    _, found = search(place, tmp_path / "run", trials=3, folds=3, among="l2sp")
    num_folds = sum(len(t["scores"]) for t in found["trials"])
    assert len(trained) == num_folds + 1
    every = trained[-1]  # the final training
    assert len(every) == 48
    for k in range(3):
        held = [every - trained[3 * t + k] for t in range(2)]
        assert held[0] == held[1]  # the same folds for every trial
        assert len(held[0]) == 16
    assert not (every - trained[0]) & (every - trained[1])


def test_an_interrupted_search_goes_on_with_the_same_trials(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task, whole = search(place, tmp_path / "whole", trials=6)
    assert [t["params"]["strategy"] for t in whole["trials"][:4]] == ["full", "freeze", "l2sp", "lora"]
    assert all(t["params"]["lr_factor"] == 1.0 for t in whole["trials"][:4])
    assert all(t["params"]["lr_factor"] != 1.0 for t in whole["trials"][4:])
    for number in (20, 90):  # in the second fold of trial 1, later in a fold of trial 5
        with monkeypatch.context() as patch:
            interrupt_at_step(patch, number)
            with pytest.raises(Interrupted, match="Run the same command again"):
                search(place, tmp_path / "run", trials=6)
    again, resumed = search(place, tmp_path / "run", trials=6)
    assert told(resumed) == told(whole)
    assert resumed["winner"] == whole["winner"]
    assert same(weights(again), weights(task))


def test_choose_finds_a_strategy_that_is_clearly_better(tmp_path: Path) -> None:
    """The encoder tells the classes apart already, and the rate is so large that moving it destroys that."""
    knowing = planted.trained(Classification(), planted.reviews(256), "label", 150)
    knowing.export().base_model.save_pretrained(tmp_path / "encoder")
    knowing.modality.save(tmp_path / "encoder")
    rows = planted.reviews(60, seed=3)
    run = pretune.finetune(
        rows, out=str(tmp_path / "run"), from_=str(tmp_path / "encoder"), budget="10steps", lr=0.1, valid_rate=0.0,
        strategy={"name": "choose", "among": "freeze", "trials": 2, "folds": 4}, test=planted.reviews(80, seed=9),
    )  # fmt: skip
    found = json.loads((run.path / "lineage.json").read_text())["selection"]["choose"]
    assert found["strategy"] == [{"name": "freeze"}]
    assert found["clearly_better"] is True
    assert found["against_default"]["low"] > 0
    assert run.metrics["test_accuracy"] > 0.9


# -- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "lora+wise", "merge": False}, "leaves its updates beside them; merge"),
        ("freeze+lora", '"freeze" computes that once; use one'),
        ("lora+freeze", '"freeze" computes that once; use one'),
        ({"name": "lora+soup", "merge": False}, "leaves its updates beside them; merge"),
        ("freeze+wise", 'no effect with "freeze"'),
        ("soup+choose", "each decide what is trained"),
        ("choose+l2sp", "--strategy.among l2sp,full"),
        ({"name": "choose", "among": "choose"}, "cannot choose itself"),
        ({"name": "soup", "among": "soup"}, "trained once each"),
        ({"name": "l2sp+soup", "among": "full"}, "given twice"),
        ({"name": "choose", "among": "full,l2ps"}, 'Did you mean "l2sp"'),
        ({"name": "choose", "among": ""}, 'no strategy ""'),
    ],
)
def test_what_cannot_be_joined(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_strategies(registry.build_all("strategy", spec), validation=True)


@pytest.mark.parametrize("name", ["wise", "soup", "l2sp+wise"])
def test_validation_data_are_needed(name: str) -> None:
    strategies = registry.build_all("strategy", name)
    assert any(s.needs_validation for s in strategies)
    with pytest.raises(ConfigError, match="by validation data, and there is none; give --valid"):
        check_strategies(strategies, validation=False)
    check_strategies(registry.build_all("strategy", {"name": "wise", "share": 0.5}), validation=False)


@pytest.mark.parametrize("name", registry.names("strategy"))
def test_searched_options_have_their_default_inside_and_both_ends_work(name: str) -> None:
    cls: Any = registry.find("strategy", name)
    for option, values in cls.searched.items():
        default = cls.default(option)
        assert values.low <= default <= values.high
        for end in (values.low, values.high):
            assert type(registry.build("strategy", {"name": name, option: end}).options()[option]) is type(default)
