"""`study`: paired cells, what is kept, when it stops, what it says."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted_images
import pretune
from planted_sounds import classed, spoken
from pretune import study_cells, study_course
from pretune.cli import main
from pretune.differences import Difference
from pretune.errors import ConfigError, DataError, ModelError, RunError
from pretune.intervals import RESAMPLES
from pretune.study_arms import Arm, arms_of
from pretune.study_conclusions import Comparison, conclude
from pretune.study_verdict import verdicts
from pretune.studying import Study

QUICK: dict[str, Any] = {"budget": "3steps", "seeds": 2, "max_seeds": 2, "labels": "4,8"}


def topics(number: int, seed: int = 0) -> list[dict[str, str]]:
    rng = random.Random(seed)
    words = {"pets": "cat dog fur paw tail bark", "money": "stock bond rate bank fund yield"}
    names = list(words)
    return [{"text": " ".join(rng.choices(words[n].split(), k=8)), "label": n} for n in (names * number)[:number]]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("study") / "pre"
    modality = {"name": "text", "vocab_size": 256}
    texts = [r["text"] for r in topics(200, seed=1)]
    pretune.pretrain(texts, out=str(folder), size="tiny", budget="4steps", batch_size=4, modality=modality)
    return str(folder)


def run(own: str, out: Path, data: Any = None, **options: Any) -> Study:
    given = {"test": topics(30, seed=2), "strategies": "full,freeze"} | QUICK | options
    return pretune.study(topics(40) if data is None else data, from_=own, out=str(out), **given)


def cells(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "cells.jsonl").read_text().splitlines()]


def test_every_arm_has_every_cell(own: str, tmp_path: Path) -> None:
    found = run(own, tmp_path / "s")
    names = ["baseline", "scratch", "own", "own+freeze"]
    assert [a.name for a in found.arms] == names
    rows = cells(tmp_path / "s")
    assert {(r["arm"], r["labels"], r["seed"]) for r in rows} == {
        (a, n, s) for a in names for n in (4, 8) for s in (0, 1)
    }
    assert {r["steps"] for r in rows if r["arm"] != "baseline"} == {3}
    assert {len(r["draws"]) for r in rows} == {RESAMPLES}
    facts = json.loads((tmp_path / "s" / "study.json").read_text())
    assert facts["verdict"] == found.verdict
    assert facts["missing"] == 0
    assert {(c["question"], c["labels"]) for c in facts["comparisons"]} == {
        (q, n) for q in ("pre-training", "baseline", "strategy") for n in (4, 8)
    }
    assert all((tmp_path / "s" / name).stat().st_size > 5000 for name in facts["pictures"])
    assert not list((tmp_path / "s").glob("working-*"))


def test_scores_are_those_of_finetune(own: str, tmp_path: Path) -> None:
    pool, test = topics(40), topics(30, seed=2)
    run(own, tmp_path / "s", labels="all", strategies="full", baseline=False)
    cell = next(r for r in cells(tmp_path / "s") if (r["arm"], r["seed"]) == ("own", 1))
    alone = pretune.finetune(
        [pool[i] for i in study_cells.drawn([r["label"] for r in pool], 1)],
        out=str(tmp_path / "ft"), from_=own, test=test, valid_rate=0.0, budget="3steps", seed=1,
    )  # fmt: skip
    assert cell["metrics"]["accuracy"] == alone.metrics["test_accuracy"]


def test_shared_features_give_what_features_of_one_cell_give(own: str, tmp_path: Path) -> None:
    pool, test = topics(40), topics(30, seed=2)
    run(own, tmp_path / "s", labels="8", strategies="freeze", baseline=False)
    cell = next(r for r in cells(tmp_path / "s") if (r["arm"], r["seed"]) == ("own", 1))
    alone = pretune.finetune(
        [pool[i] for i in study_cells.drawn([r["label"] for r in pool], 1)[:8]],
        out=str(tmp_path / "ft"), from_=own, test=test, valid_rate=0.0, budget="3steps", seed=1, strategy="freeze",
    )  # fmt: skip
    assert cell["metrics"]["accuracy"] == pytest.approx(alone.metrics["test_accuracy"], abs=1 / 30)


def test_going_on_adds_only_what_is_missing(own: str, tmp_path: Path) -> None:
    run(own, tmp_path / "s", labels="4")
    before = (tmp_path / "s" / "cells.jsonl").read_text()
    run(own, tmp_path / "s", labels="4,8", strategies="full,freeze,l2sp")
    after = (tmp_path / "s" / "cells.jsonl").read_text()
    assert after.startswith(before)
    assert len(cells(tmp_path / "s")) == 2 * 2 * 5
    # of a kill in the middle of a line
    (tmp_path / "s" / "cells.jsonl").write_text(after[:-40])
    run(own, tmp_path / "s", labels="4,8", strategies="full,freeze,l2sp")
    again = cells(tmp_path / "s")
    last = json.loads(after.splitlines()[-1])
    assert again[-1]["score"] == last["score"]
    assert len(again) == 2 * 2 * 5


def test_what_pre_training_cost_counts_every_stage_of_it(own: str, tmp_path: Path) -> None:
    texts = [r["text"] for r in topics(200, seed=1)]
    pretune.pretrain(texts, out=str(tmp_path / "second"), from_=own, budget="3steps", batch_size=4)
    run(str(tmp_path / "second"), tmp_path / "s", labels="4", strategies="full", baseline=False, level=0.9)
    (cost,) = json.loads((tmp_path / "s" / "study.json").read_text())["pretraining"]
    stages = [json.loads((Path(r) / "lineage.json").read_text()) for r in (own, tmp_path / "second")]
    assert cost["verbs"] == ["pretrain", "pretrain"]
    assert cost["steps"] == 4 + 3
    assert cost["seconds"] == pytest.approx(sum(s["seconds"] for s in stages))
    assert cost["seen"] == sum(s["tokens"] for s in stages)
    page = pretune.report(str(tmp_path / "s")).read_text()
    assert f"saw {cost['seen']:,} tokens" in page
    assert "90% interval" in page
    assert "95% interval" not in page


def test_an_interval_over_seeds_stays_where_shares_are(own: str, tmp_path: Path) -> None:
    test = topics(3, seed=2)
    found = pretune.finetune(
        topics(12), from_=own, out=str(tmp_path / "ft"), test=test, budget="1steps", seeds=2, valid_rate=0.0
    )
    assert found.metrics["test_accuracy_low"] >= 0
    assert found.metrics["test_accuracy_high"] <= 1


def test_another_measure_is_refused(own: str, tmp_path: Path) -> None:
    run(own, tmp_path / "s", labels="4")
    with pytest.raises(RunError, match="batch_size was 16 and is now 8"):
        run(own, tmp_path / "s", labels="4", batch_size=8)
    with pytest.raises(RunError, match="content was"):
        run(own, tmp_path / "s", labels="4", test=topics(30, seed=3))
    run(own, tmp_path / "s", labels="4", batch_size=8, overwrite=True)
    assert len(cells(tmp_path / "s")) == 8
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not a study"):
        run(own, tmp_path / "mine", overwrite=True)


def test_cells_of_an_arm_are_those_of_its_weights(own: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    pretune.pretrain([r["text"] for r in topics(90)], out=other, budget="1steps", from_=own)
    run(own, tmp_path / "s", labels="4", also=f"m={own}", strategies="full")
    run(own, tmp_path / "s", labels="4", strategies="full")
    with pytest.raises(RunError, match="arm m was"):
        run(own, tmp_path / "s", labels="4", also=f"m={other}", strategies="full")


def test_what_is_refused_late_leaves_an_earlier_study(own: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no metric"):
        run(own, tmp_path / "s", labels="4", metric="auc")
    before = run(own, tmp_path / "s", labels=4).facts
    with pytest.raises(ConfigError, match="no metric"):
        run(own, tmp_path / "s", labels="4", metric="auc", overwrite=True)
    again = run(own, tmp_path / "s", labels="4", margin=0.02)
    assert again.facts["means"] == before["means"]


def test_records_of_the_training_data_are_said(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(own, tmp_path / "s", labels="4", test=[*topics(30, seed=2), *topics(10)])
    assert "10 of 40 test records (25%) are training records, too, by their text" in capsys.readouterr().err
    run(own, tmp_path / "t", labels="4", data=topics(40) * 3, test=None)
    assert re.search(r"\d+ of 36 held-out records \(\d+%\) are training records, too", capsys.readouterr().err)


def test_a_recipe_of_a_study_can_be_given_again(own: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 2)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, topics(40, seed=seed))))
    options = {"data": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "b.jsonl"), "labels": "4"}
    run(own, tmp_path / "s", **options)
    assert main(["study", "--config", str(tmp_path / "s/recipe.yaml"), "--out", str(tmp_path / "again")]) == 0
    scores = [[r["score"] for r in cells(tmp_path / name)] for name in ("s", "again")]
    assert scores[0] == scores[1]


def test_it_stops_in_time_and_goes_on(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 4))
    monkeypatch.setattr(study_course.time, "monotonic", lambda: float(next(now)))
    found = run(own, tmp_path / "s", max_time="30s")
    assert 0 < found.missing < 16
    assert found.facts["missing"] == found.missing
    assert len(cells(tmp_path / "s")) == 16 - found.missing
    monkeypatch.undo()
    assert run(own, tmp_path / "s").missing == 0


def test_more_seeds_only_where_it_is_open(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Any, arm: Arm, number: int, seed: int) -> dict[str, Any]:
        gain = 0.3 if number == 4 and arm.name == "own" else 0.0
        noise = np.random.default_rng([len(arm.name), number, seed]).normal(0, 0.02 if number == 4 else 0.2)
        score = 0.5 + gain + noise
        draws = np.random.default_rng(0).normal(score, 0.01, 50).tolist()
        return {"metric": "accuracy", "metrics": {}, "score": score, "draws": draws, "seconds": 1.0, "steps": 3}

    monkeypatch.setattr(study_cells.Bench, "measure", measure)
    found = run(own, tmp_path / "s", seeds=5, max_seeds=9, strategies="full", baseline=False)
    seeds = {n: {r["seed"] for r in cells(tmp_path / "s") if r["labels"] == n} for n in (4, 8)}
    assert seeds == {4: set(range(5)), 8: set(range(9))}
    clear = {c.labels: c.clear for c in found.conclusions.comparisons}
    assert clear == {4: True, 8: False}
    assert "helps with 4 labels: +29.6 [" in found.verdict
    assert "no clear difference with 8" in found.verdict


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": "4,500"}, ConfigError, "fewer than the 500 asked for"),
        ({"labels": "four"}, ConfigError, 'found "four"'),
        ({"strategies": "full,full"}, ConfigError, 'names "full" twice'),
        ({"strategies": ""}, ConfigError, "at least one name"),
        ({"strategies": "ful"}, ConfigError, 'Did you mean "full"'),
        ({"also": "nowhere"}, ModelError, "nowhere"),
        ({"seeds": 1}, ConfigError, "2 seeds or more"),
        ({"seeds": 5, "max_seeds": 3}, ConfigError, "found 5 and 3"),
        ({"metric": "wer"}, ConfigError, "choose another metric than wer"),
        ({"metric": "f2"}, ConfigError, 'no metric "f2"; there are: accuracy'),
        ({"test_rate": 0.2}, ConfigError, "no effect with --test"),
        ({"min_steps": 5}, ConfigError, "with 3steps it has no effect"),
        ({"max_time": "5steps"}, ConfigError, "max_time is a time"),
        ({"test": topics(1)}, DataError, "needs test records, found 1"),
        ({"margin": 2.0}, ConfigError, "margin"),
        ({"budget": "10s"}, ConfigError, "in epochs or steps, so that every arm gets the same; found 10s"),
        (
            {"test": [*topics(30, seed=2), {"text": "a", "label": "art"}]},
            DataError,
            'row 31: Label "art" does not occur',
        ),
    ],
)
def test_wrong_inputs(own: str, tmp_path: Path, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(own, tmp_path / "s", **options)


def test_arms_have_names_that_say_what_they_are(own: str) -> None:
    arms = arms_of(
        own, ["full", {"name": "l2sp", "alpha": 0.1}, "l2sp+layer_decay"], [f"other={own}"], None, baseline=True
    )
    assert [a.name for a in arms] == ["scratch", "own", "own+l2sp(alpha=0.1)", "own+l2sp+layer_decay", "other"]


# -- sentences ---------------------------------------------------------------------------------------------------------

ARMS = [Arm("baseline", "baseline", "TF-IDF"), Arm("scratch", "scratch", "scratch"), Arm("own", "own", "own, full")]


def answer(question: str, labels: int, value: float, half: float, clear: bool) -> Comparison:
    against = "baseline" if question == "baseline" else "scratch"
    return Comparison(
        question, "own", against, labels, Difference(value, value - half, value + half, 0.0, 5), 0.0, clear
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(16, 0.06, 0.01, True), (64, 0.04, 0.01, True)], "helps at every number of labels tried: +6.0 [5.0, 7.0] at"),
        ([(16, -0.06, 0.01, True), (64, -0.04, 0.01, True)], "hurts at every number of labels tried: -6.0 [-7.0, -5.0"),
        ([(16, 0.06, 0.01, True), (64, 0.01, 0.03, False)], "with 16 labels: +6.0 [5.0, 7.0] at 16 over scratch; no"),
        ([(16, 0.01, 0.03, False)], "No clear evidence that own pre-training helps or hurts: +1.0 [-2.0, 4.0] at 16"),
        ([(16, 0.0, 0.005, False)], "makes no difference of 1 points or more with 16"),
    ],
)  # fmt: skip
def test_the_verdict_says_what_is_clear_and_what_is_not(rows: list[Any], said: str) -> None:
    found = verdicts([answer("pre-training", *row) for row in rows], {}, ARMS, margin=0.01)
    assert said in found[0]


def test_a_baseline_that_is_ahead_is_named() -> None:
    rows = [answer("pre-training", 16, 0.06, 0.01, True), answer("baseline", 16, -0.05, 0.01, True)]
    assert "TF-IDF beats it with 16 (-5.0 [-6.0, -4.0] at 16)" in " ".join(verdicts(rows, {}, ARMS, margin=0.01))


def test_two_looks_cost_half_of_the_error_each() -> None:
    rng = np.random.default_rng(0)
    cells = {
        (arm, 16, s): {"score": v, "draws": (v + rng.normal(0, 0.01, 200)).tolist(), "seconds": 1.0}
        for arm, base in (("scratch", 0.5), ("own", 0.55))
        for s, v in enumerate(base + rng.normal(0, 0.02, 5))
    }
    one, two = (conclude(cells, ARMS[1:], level=0.95, looks=k, margin=0.01).comparisons[0] for k in (1, 2))
    assert two.adjusted_p == pytest.approx(2 * one.adjusted_p)
    assert two.found.high - two.found.low > one.found.high - one.found.low


# -- every kind of data ------------------------------------------------------------------------------------------------


def _pictures(number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(number)
    shades = [(k % 2) * 120 + rng.integers(0, 80, (16, 16), dtype=np.uint8) for k in range(number)]
    return [{"image": s.astype(np.uint8), "label": "bright" if k % 2 else "dark"} for k, s in enumerate(shades)]


def _dna(number: int) -> list[dict[str, Any]]:
    rng = random.Random(number)
    return [
        {"sequence": "".join(rng.choices("GC" if k % 2 else "AT", k=30)), "label": "gc" if k % 2 else "at"}
        for k in range(number)
    ]


def _residues(number: int) -> list[dict[str, Any]]:
    rng = random.Random(number)
    found = ["".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=24)) for _ in range(number)]
    return [{"sequence": s, "tags": "".join("H" if x in "AEKLM" else "C" for x in s)} for s in found]


def _values(number: int) -> list[dict[str, Any]]:
    return [{"text": r["text"], "label": float(len(set(r["text"].split())))} for r in topics(number)]


KINDS: dict[str, tuple[str, str, str, Any, dict[str, Any]]] = {
    "pictures": ("image", "autoencoder", "classification", _pictures, {}),
    "sounds": ("audio", "masked_audio", "classification", classed, {"budget": "2steps"}),
    "transcripts": ("audio", "masked_audio", "ctc", spoken, {"budget": "2steps"}),
    "dna": ("dna", "mlm", "classification", _dna, {}),
    "residues": ("protein", "mlm", "tagging", _residues, {}),
    "values": ("text", "mlm", "regression", _values, {}),
    "boxes": ("image", "autoencoder", "detection", planted_images.boxed, {}),
    "masks": ("image", "autoencoder", "segmentation", planted_images.masked, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_modality_has_its_study(kind: str, tmp_path: Path) -> None:
    modality, objective, task, make, more = KINDS[kind]
    data, pool = make(24), make(40)
    bare = [{k: v for k, v in r.items() if k in ("image", "audio", "sequence", "text")} for r in pool]
    spec: Any = {"name": "text", "vocab_size": 256} if modality == "text" else modality
    options = {"size": "tiny", "budget": "2steps", "batch_size": 4}
    pretune.pretrain(bare, out=str(tmp_path / "pre"), modality=spec, objective=objective, **options)
    found = pretune.study(
        data, test=pool, from_=str(tmp_path / "pre"), out=str(tmp_path / "s"), modality=modality, task=task,
        **QUICK | {"labels": "8", "strategies": "full,freeze"} | more,
    )  # fmt: skip
    assert found.missing == 0
    assert all(-1 <= s["score"] <= 1 for s in found.facts["scores"])
    assert ("baseline" in {a.name for a in found.arms}) == (task not in ("ctc", "detection", "segmentation"))
    assert found.verdict


def test_boxes_have_the_usual_size_that_finetune_gives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, pool = planted_images.boxed(24), planted_images.boxed(40, seed=1)
    options = {"size": "tiny", "budget": "2steps", "batch_size": 4, "modality": "image"}
    pretune.pretrain(
        [{"image": r["image"]} for r in pool], out=str(tmp_path / "pre"), objective="autoencoder", **options
    )
    train, units = study_cells.train, []

    def watched(ready: Any, *given: Any, **more: Any) -> Any:
        units.append(ready.method.model.config.dense["unit"])
        return train(ready, *given, **more)

    monkeypatch.setattr(study_cells, "train", watched)
    how = {"from_": str(tmp_path / "pre"), "task": "detection", "modality": "image", "test": pool}
    study = QUICK | {"labels": "all", "seeds": 2, "strategies": "full,freeze"}
    pretune.study(data, out=str(tmp_path / "s"), **how, **study)
    alone = pretune.finetune(data, out=str(tmp_path / "ft"), valid_rate=0.0, budget="2steps", batch_size=4, **how)
    config = json.loads((alone.path / "model" / "config.json").read_text())
    assert len(units) == 6
    assert units == pytest.approx([config["dense"]["unit"]] * 6)
