"""calibrate, predict --abstain, evaluate --abstain --shift, suspects: Python and shell, with wrong inputs."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import planted
import planted_images
import pretune
from pretune import shifts
from pretune.errors import ConfigError, DataError, RunError
from pretune.intervals import Interval
from pretune.label_doubts import box_doubts, doubtful, value_doubts
from pretune.resampling import scored
from pretune.tasks.classification import Classification
from pretune.tasks.regression import Regression
from pretune.tasks.tagging import Tagging
from shell import run


def noisy(num: int, seed: int) -> list[dict[str, str]]:
    """Reviews, a fifth of them with the other label."""
    rng = random.Random(seed)
    rows = planted.reviews(num, seed)
    return [r | {"label": rng.choice(["good", "bad"]) if rng.random() < 0.4 else r["label"]} for r in rows]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certainty")
    planted.written(planted.trained(Classification(), noisy(400, 0), "label", 60), folder / "ft")
    planted.written(planted.trained(Tagging(), planted.sentences(40), "tags", 0), folder / "tagger")
    values = [r | {"label": float(r["label"] == "good")} for r in planted.reviews(64)]
    planted.written(planted.trained(Regression(), values, "label", 20), folder / "numbers")
    for name, rows in (("train", noisy(400, 0)), ("held", noisy(300, 8)), ("test", noisy(200, 9))):
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    pd.DataFrame([r | {"label": float(r["label"] == "good")} for r in planted.reviews(99, 4)]).to_csv(
        folder / "values.csv", index=False
    )
    pretune.calibrate(str(folder / "ft"), str(folder / "held.csv"))
    pretune.calibrate(str(folder / "numbers"), str(folder / "values.csv"))
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_the_file_says_what_it_rests_on(place):
    facts = json.loads((place / "ft" / "calibration.json").read_text())
    assert facts["num_records"] == len(facts["scores"]) == 300
    assert facts["scores"] == sorted(facts["scores"])
    assert facts["folds"] == 5
    assert 0 <= facts["ece"]["after"] <= 1
    assert facts["temperature"] > 0
    numbers = json.loads((place / "numbers" / "calibration.json").read_text())
    assert numbers["temperature"] is None


def test_predictions_abstain(capsys):
    plain = [json.loads(line) for line in run("predict ft test.csv", capsys)[0].splitlines()]
    out, err = run("predict ft test.csv --abstain 0.9", capsys)
    sets = [json.loads(line) for line in out.splitlines()]
    silent = [s for s in sets if s["abstained"]]
    assert 0 < len(silent) <= len(sets) == len(plain)
    assert f"{len(silent)} of 200 records have no single answer at level 0.9" in err
    for before, after in zip(plain, sets, strict=True):
        assert after["label"] == (None if after["abstained"] else before["label"])
        assert (len(after["set"]) == 1) != after["abstained"]
    held = pretune.evaluate("ft", "test.csv", abstain=0.9).abstention
    assert held.abstained.value == pytest.approx(len(silent) / 200)
    # of this one calibration the coverage is a draw from a Beta distribution around 0.9; other tests hold its mean
    assert held.coverage.value > 0.8


def test_calibrated_probabilities_are_another_option(capsys):
    temperature = json.loads(Path("ft/calibration.json").read_text())["temperature"]
    predictor = pretune.load("ft", precision="fp32")
    plain, warm = predictor.predict("test.csv"), predictor.predict("test.csv", calibrated=True)
    for a, b in zip(plain, warm, strict=True):
        assert a["label"] == b["label"]
        odds = [np.log(p["probabilities"]["good"] / p["probabilities"]["bad"]) for p in (a, b)]
        assert odds[0] == pytest.approx(odds[1] * temperature, rel=1e-3, abs=1e-4)


def test_numbers_get_intervals_and_too_few_records_give_none(capsys):
    row = pretune.load("numbers").predict(["the superb film"], abstain=0.9)[0]
    assert row["low"] < row["value"] < row["high"]
    out, err = run("predict numbers values.csv --abstain 0.995", capsys)
    assert "99 calibration records cannot give 0.995 coverage (that takes 199)" in err
    assert json.loads(out.splitlines()[0])["low"] is None
    # 99 records are just enough for 0.99
    assert json.loads(run("predict numbers values.csv --abstain 0.99", capsys)[0].splitlines()[0])["low"] is not None


def test_evaluate_writes_what_it_prints(tmp_path, capsys):
    out, _ = run(f"evaluate ft test.csv --abstain 0.9 --shift --out {tmp_path}/ev", capsys)
    assert "accuracy of what is answered" in out
    assert "neighbouring keys" in out
    assert "with the run's temperature" in " ".join(out.split())
    names = {f.name for f in (tmp_path / "ev").iterdir()}
    assert names == {"evaluation.json", "confusion.png", "calibration.png", "abstention.png", "shift.png"}
    facts = json.loads((tmp_path / "ev" / "evaluation.json").read_text())
    rows = facts["shift"]["rows"]
    assert {r["severity"] for r in rows} == {1, 2, 3}
    # the deciding word is hit more often, the more letters are: this model reads that word alone
    lost = [r["value"] for r in rows if r["corruption"] == "neighbouring keys"]
    assert lost[0] > lost[2]
    strong = next(r for r in rows if r["corruption"] == "words lost" and r["severity"] == 3)
    assert strong["loss"]["low"] <= facts["shift"]["clean"] - strong["value"] <= strong["loss"]["high"]
    assert facts["abstention"]["risk"][-1]["kept"] == 1.0


def test_of_many_records_a_part_is_corrupted(capsys, monkeypatch):
    monkeypatch.setattr(shifts, "MOST", 40)
    out, said = run("evaluate ft test.csv --shift", capsys)
    found = pretune.evaluate("ft", "test.csv", shift=True).shift
    assert found is not None
    assert found.num_records == 40
    assert "robustness of 40 records" in " ".join(out.split())
    assert "shift: 40 of " in said


def test_a_paired_difference_is_0_for_the_same_predictions_and_narrower_than_two_others():
    task = pretune.load("ft").task
    labels = [r["label"] for r in noisy(150, 3)]
    first = [{"label": x} for x in labels]
    second = [{"label": "good" if i % 10 == 0 else x} for i, x in enumerate(labels)]
    one, other = (scored(task, p, labels, "accuracy", resamples=400) for p in (first, second))
    same = other.less(other)
    assert (same.low, same.value, same.high) == (0, 0, 0)
    found: Interval = one.less(other)
    wrong = sum(a["label"] != y for a, y in zip(second, labels, strict=True)) / 150
    assert found.value == pytest.approx(wrong)
    assert 0 <= found.low < wrong < found.high
    one, other = (scored(task, p, labels, "macro_f1", resamples=400) for p in (first, second))
    plain = one.less(other)
    assert plain.low < plain.value < plain.high


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_records_of_the_training_are_left_out_or_refused(place, tmp_path, capsys):
    own = planted.written(planted.trained(Classification(), noisy(40, 0), "label", 0), tmp_path / "own")
    recipe = yaml.safe_load((own / "recipe.yaml").read_text()) | {"data": "train.csv"}
    (own / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    content = pretune.calibrating.data_io.fingerprint("train.csv")
    (own / "lineage.json").write_text(json.dumps({"data": {"train": content}, "roles": ["text"]}))
    assert "records that the run was trained on" in run(f"calibrate {own} train.csv", capsys, 2)[1]
    assert not (own / "calibration.json").exists()
    both = [*noisy(400, 0)[:50], *noisy(300, 8)]
    pd.DataFrame(both).to_csv(tmp_path / "both.csv", index=False)
    err = run(f"calibrate {own} {tmp_path}/both.csv", capsys)[1]
    assert "50 of 350 records are also in the training data and were left out" in err
    pd.DataFrame(noisy(400, 0)[:50]).to_csv(tmp_path / "seen.csv", index=False)
    err = run(f"calibrate {own} {tmp_path}/seen.csv --overwrite", capsys, 2)[1]
    assert "All 50 records are among those that the run was trained on" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("calibrate ft held.csv", "is calibrated already; give --overwrite"),
        ("calibrate tagger held.csv", "Predictions of tagging cannot be calibrated"),
        ("calibrate nowhere held.csv", "does not exist"),
        ("predict tagger test.csv --abstain 0.9", "Predictions of tagging cannot be calibrated"),
        ("predict numbers values.csv --calibrated", "calibrated has no effect on regression"),
        ("predict ft test.csv --abstain 95", "abstain must be a number, above 0 and below 1; found 95"),
        ("predict ft test.csv --abstain 0.9 --precision bf16", "precision bf16 has no effect with abstain"),
        ("evaluate ft held.csv --abstain 0.9", "was calibrated on these records"),
        ("suspects train.csv --task tagging", "For tagging a model is fine-tuned in each fold; name one with --from"),
        ("suspects train.csv --budget 3steps", "--budget has no effect for classification"),
        (
            "suspects train.csv --modality audio --task ctc --from ft",
            "Labels of ctc cannot be looked through, only those of classification, detection, regression, tagging.",
        ),
        ("suspects train.csv --folds 1", "folds must be a whole number, at least 2"),
        ("suspects train.csv --out list.txt", "--out ends with .csv"),
        ("suspects train.csv --out held.csv", "exists; give another --out"),
        ("suspects train.csv --overwrite", "--overwrite is for --out"),
        ("suspects train.csv --task.multi_label true", "there is no baseline; give a model with --from"),
    ],
)
def test_wrong_inputs_get_one_sentence(words, sentence, capsys):
    out, err = run(words, capsys, 2)
    assert sentence in err
    assert out == ""


def test_a_run_that_is_not_calibrated_says_how(tmp_path):
    bare = planted.written(planted.trained_nothing(), tmp_path / "bare")
    with pytest.raises(RunError, match=r"pretune calibrate .*bare LABELLED"):
        pretune.load(bare).predict(["x"], abstain=0.9)
    (bare / "calibration.json").write_text("{}")
    with pytest.raises(RunError, match="is damaged"):
        pretune.load(bare).predict(["x"], calibrated=True)


# -- suspects ----------------------------------------------------------------------------------------------------------


def test_confident_joint_by_hand():
    # Thresholds (mean probability of a class over its own records): a 0.7, b 0.7. Of those given as a, only record 2
    # is confidently b (0.9 >= 0.7); of those given as b, none is confidently a (0.6 < 0.7).
    p = np.array([[0.9, 0.1], [0.95, 0.05], [0.1, 0.9], [0.85, 0.15], [0.1, 0.9], [0.2, 0.8], [0.6, 0.4]])
    from cleanlab.count import compute_confident_joint

    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    assert p[:4, 0].mean() == pytest.approx(0.7)
    assert p[4:, 1].mean() == pytest.approx(0.7)
    assert compute_confident_joint(labels, p, calibrate=False).tolist() == [[3, 1], [0, 2]]
    assert doubtful(["a"] * 4 + ["b"] * 3, ["a", "b"], p) == [2]


def test_planted_errors_are_found(tmp_path, capsys):
    rows = planted.reviews(300, 5)
    wrong = set(random.Random(1).sample(range(300), 30))
    flipped = {"good": "bad", "bad": "good"}
    given = [r | {"label": flipped[r["label"]] if i in wrong else r["label"]} for i, r in enumerate(rows)]
    pd.DataFrame(given).to_csv(tmp_path / "labels.csv", index=False)
    out, _ = run(f"suspects {tmp_path}/labels.csv --out {tmp_path}/s.csv --folds 3", capsys)
    with (tmp_path / "s.csv").open() as file:
        found = list(csv.DictReader(file))
    hit = [int(s["row"]) - 2 in wrong for s in found]
    assert sum(hit) >= 24
    assert sum(hit) >= 0.8 * len(hit)
    assert all(hit[:10])
    assert all(s["suggested"] == flipped[s["given"]] for s in found)
    assert f"{len(found)} of 300 labels are doubted" in " ".join(out.split())
    sure = [float(s["given_probability"]) for s in found]
    assert sure == sorted(sure)


def test_a_probe_finds_them_too(tmp_path):
    clean = planted.written(planted.trained(Classification(), planted.reviews(400), "label", 150), tmp_path / "clean")
    rows = planted.reviews(120, 6)
    rows[3]["label"], rows[50]["label"] = ({"good": "bad", "bad": "good"}[rows[i]["label"]] for i in (3, 50))
    found = pretune.suspects(rows, from_=str(clean), folds=2)
    assert {4, 51} == {s.row for s in found.rows[:2]}  # rows are counted from 1
    assert (found.metric, found.score > 0.9) == ("accuracy", True)


def test_several_labels_with_a_probe(place):
    rows = [r | {"label": [r["label"], "short"] if len(r["text"]) < 40 else [r["label"]]} for r in planted.reviews(80)]
    found = pretune.suspects(rows, task={"name": "classification", "multi_label": True}, from_="ft", folds=2)
    assert found.num_records == 80
    assert all(0 <= s.confidence <= 1 for s in found.rows)


def test_wrong_tags_are_found(tmp_path, capsys):
    """Other cities and people are known: a person tagged as a city stands out."""
    start = planted.written(planted.trained(Tagging(), planted.sentences(200), "tags", 150), tmp_path / "start")
    rows = planted.sentences(120, 6)
    wrong = [i for i, r in enumerate(rows) if "B-PER" in r["tags"]][:6]
    for i in wrong:
        rows[i]["tags"][rows[i]["tags"].index("B-PER")] = "B-LOC"
    (tmp_path / "tags.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    how = f"--task tagging --from {start} --folds 4 --budget 20steps"
    out, _ = run(f"suspects {tmp_path}/tags.jsonl {how} --out {tmp_path}/s.csv", capsys)
    with (tmp_path / "s.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) >= 5
    assert {int(s["row"]) - 1 for s in found} <= set(wrong)
    first = found[0]
    assert first["suggested"] == "B-PER"
    tokens = rows[int(first["row"]) - 1]["tokens"]
    word, place = next((t, i + 1) for i, t in enumerate(tokens) if t in planted.PEOPLE)
    assert first["given"] == f"{word} (word {place}): B-LOC"
    assert first["input"] == " ".join(tokens)[:60]
    assert "Held-out predictions reach f1" in " ".join(out.split())


def test_values_that_are_far_off():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    found = truth + 0.1 * rng.normal(size=400)
    truth[[3, 200]] += 3.0
    doubts = value_doubts(found, truth)
    assert {d.record for d in doubts[:2]} == {3, 200}
    assert len(doubts) < 8  # of 400 normal residuals next to none is 3.5 deviations away
    assert all(0 <= d.given_probability <= 1 for d in doubts)


def test_boxes_that_are_missing_or_of_another_class():
    given = [r["objects"] for r in planted_images.boxed(40)]
    found = [[o | {"score": 0.95 if i % 8 in (1, 3) else 0.9} for o in row] for i, row in enumerate(given)]
    for row in found:  # what held-out models are not sure of is no reason to doubt a label
        row.append({"label": "red", "box": [0, 0, 3, 3], "score": 0.4})
    other = {"red": "blue", "blue": "red"}
    spoilt = list(given)
    spoilt[3], spoilt[17] = given[3][:1], given[17][:1]
    spoilt[25] = [given[25][0] | {"label": other[given[25][0]["label"]]}, given[25][1]]
    doubts = box_doubts(found, spoilt)
    assert {d.record for d in doubts} == {3, 17, 25}
    said = {d.record: (d.given, d.suggested) for d in doubts}
    lost, renamed = given[3][1], given[25][0]
    where = ", ".join(map(str, lost["box"]))
    assert said[3] == ("nothing there", f"{lost['label']} at {where}")
    assert said[25] == (other[renamed["label"]], f"{renamed['label']} at {', '.join(map(str, renamed['box']))}")
    assert [d.confidence for d in doubts] == sorted((d.confidence for d in doubts), reverse=True)


def test_too_few_records_for_the_folds():
    with pytest.raises(DataError, match="5 folds need 10 labelled records or more, found 4"):
        pretune.suspects(planted.reviews(4))
    with pytest.raises(ConfigError, match="folds"):
        pretune.suspects(planted.reviews(4), folds=1)
