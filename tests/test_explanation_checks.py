"""Curves by hand, the check with random weights, and overviews of many explanations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import spearmanr

import planted_models
from pretune import explaining_all
from pretune.curves import curve_of
from pretune.errors import ConfigError
from pretune.evaluation import evaluating
from pretune.explainers.occlusion import Occlusion
from pretune.explaining import Explaining
from pretune.explaining_all import explain_all, explain_all_command
from pretune.faithfulness import CURVE_RATES, faithfulness
from pretune.gathered_explanations import gathered
from pretune.progress import StopRequest
from pretune.sanity import Sanity, random_weights, sanity_check
from pretune.tally import Tally
from pretune.words import words_of

MAKERS = {
    "words": lambda: planted_models.text("classification", False),
    "value": lambda: planted_models.text("regression", False),
    "letters": lambda: planted_models.sequence("classification", False),
    "tags": lambda: planted_models.text("tagging", False),
    "pictures": lambda: planted_models.image("classification", False),
    "boxes": lambda: planted_models.image("detection", False),
    "sounds": lambda: planted_models.sound("classification", False),
}


@pytest.fixture
def reading():
    """Task, words, record and target of a model that reads one word."""
    predictor, record, _, of = MAKERS["words"]()
    task = predictor.task
    return task, words_of(task, record, task.process([record])[0]), record, of


def test_curves_by_hand(reading):
    task, words, _, of = reading
    scores = list(range(len(words), 0, -1))  # first word first
    found = faithfulness(task, words, scores, of=of, num_random=4)
    sizes = sorted({0, len(words), *(int(np.ceil(r * len(words))) for r in CURVE_RATES)})

    def probability(hidden):
        texts = [("[MASK]" if i in hidden else w) for i, w in enumerate(words.texts)]
        with torch.no_grad():
            logits = task(task.collate(task.process([{"text": " ".join(texts)}])))["logits"]
        return float(logits.softmax(-1)[0, of])

    without = [probability(set(range(k))) for k in sizes]
    alone = [probability(set(range(k, len(words)))) for k in sizes]
    shares = [k / len(words) for k in sizes]
    assert found.deletion.shares == pytest.approx(shares)
    assert found.deletion.answers == pytest.approx(without, abs=1e-5)
    assert found.insertion.answers == pytest.approx(alone, abs=1e-5)
    area = sum((b - a) * (y + z) / 2 for a, b, y, z in zip(shares, shares[1:], without, without[1:], strict=False))
    assert found.deletion.area == pytest.approx(area, abs=1e-5)
    assert found.deletion.answers[0] == found.insertion.answers[-1]
    assert found.deletion.answers[-1] == found.insertion.answers[0]


def test_a_curve_is_drawn_in_its_box():
    answers = np.array([[1.0, 0.2, 0.0], [1.0, 0.8, 0.0], [1.0, 0.6, 0.0]])
    curve = curve_of([0.0, 0.5, 1.0], answers, falling=True)
    assert curve.area == pytest.approx(0.35)
    assert curve.random_area.value == pytest.approx(0.6)
    assert curve.exceeded == 0.0
    assert curve_of([0.0, 0.5, 1.0], answers, falling=False).exceeded == 1.0
    assert curve.points(curve.answers) == "0.00,0.00 50.00,80.00 100.00,100.00"
    assert curve.sparkline(curve.answers)[0] == "█"
    assert curve.sparkline(curve.answers)[-1] == "▁"
    flat = curve_of([0.0, 1.0], np.ones((3, 2)), falling=True)
    assert flat.points(flat.answers) == "0.00,50.00 100.00,50.00"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, None])
def test_trained_weights_come_back_bit_for_bit(reading, error):
    model = reading[0].model
    before = [(p.data_ptr(), p.detach().clone()) for p in model.parameters()]
    try:
        with random_weights(model, 0):
            assert not any(
                torch.equal(p, b) for p, (_, b) in zip(model.parameters(), before, strict=True) if p.ndim > 1
            )
            for parameter in model.parameters():
                parameter.data.zero_()  # even what writes to the weights meanwhile does not reach them
            if error is not None:
                raise error
    except (KeyboardInterrupt, RuntimeError):
        pass
    for parameter, (place, numbers) in zip(model.parameters(), before, strict=True):
        assert parameter.data_ptr() == place
        assert torch.equal(parameter, numbers)


def test_an_explainer_that_fails_leaves_the_weights(reading):
    task, words, _, of = reading
    before = [p.detach().clone() for p in task.model.parameters()]

    class Failing(Occlusion):
        def scores(self, task, batch, *, of=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sanity_check(task, words, [1.0] * len(words), Failing(), of=of)
    assert all(torch.equal(p, b) for p, b in zip(task.model.parameters(), before, strict=True))


def test_scores_that_no_weight_changes_fail_the_check(reading):
    task, words, _, of = reading

    class Stubborn(Occlusion):
        def scores(self, task, batch, *, of=None):
            return torch.arange(batch["input_ids"].shape[1], dtype=torch.float32)

    fixed = words.merged(Stubborn().scores(task, words.batch))
    found = sanity_check(task, words, fixed, Stubborn(), of=of)
    assert found.similarity == pytest.approx(1)
    assert found.passed is False
    assert found.verdict.startswith("Fails the sanity check: rank correlation with random weights 1.00")
    opposite = sanity_check(task, words, [-s for s in fixed], Stubborn(), of=of)
    assert opposite.similarity == pytest.approx(1)  # the same ranks upside down were not learnt either


def test_similarity_is_spearmans(reading):
    task, words, _, of = reading
    scores = np.random.default_rng(0).normal(size=len(words)).tolist()
    found = sanity_check(task, words, scores, Occlusion(), of=of, num_models=1, seed=5)
    with random_weights(task.model, 5):
        other = words.merged(Occlusion().scores(task, words.batch, of=of))
    assert found.similarity == pytest.approx(abs(spearmanr(scores, other).statistic))
    assert found.magnitudes == pytest.approx(spearmanr(np.abs(scores), np.abs(other)).statistic)
    rng = np.random.default_rng(1)
    chance = [abs(spearmanr(rng.permutation(11), range(11)).statistic) for _ in range(1000)]
    assert found.chance == pytest.approx(np.quantile(chance, 0.95), abs=0.08)


def test_what_cannot_be_compared_says_so():
    assert Sanity(None, None, None, None, 2, 3).verdict.startswith("Sanity check: too few words (3)")
    assert "nothing to compare" in Sanity(None, None, None, None, 2, 30).verdict


def passes(predictor, record, of, **options):
    rows = []
    handle = predictor.task.register_forward_pre_hook(
        lambda task, inputs: rows.append(len(inputs[0][task.modality.main_input]))
    )
    with evaluating(predictor.task):
        Explaining(predictor, "integrated_gradients", of=of, **options)(record, predictor.task.process([record])[0])
    handle.remove()
    return sum(rows)


def test_curves_and_sanity_do_not_double_the_passes():
    predictor, record, _, of = MAKERS["letters"]()
    alone = passes(predictor, record, of, num_random=0, sanity=0)
    # a full record, ERASER's five shares of 21 orders, hidden and kept, behind masks and five shuffles
    eraser = (1 + 21 * 5 * 2) * 6
    assert passes(predictor, record, of) <= 1.5 * (alone + eraser)
    assert passes(predictor, record, of, num_random=0, sanity=1) < 2.1 * alone


def test_a_tally_counts_records_not_repeats():
    tally = Tally(min_records=2)
    tally.add([("good", 0.25), ("good", 0.25), ("film", -0.5)])
    tally.add([("good", 0.75), ("plot", -0.25)])
    (good,) = tally.influences
    assert (good.name, good.num_explanations, good.share.value) == ("good", 2, 0.625)
    assert tally.num_left_out == 2
    assert [i.name for i in tally.top(1)] == ["good"]
    assert tally.top(-1) == []


@pytest.mark.parametrize("kind", MAKERS)
def test_an_overview_names_what_is_planted(kind, tmp_path):
    predictor, record, _, of = MAKERS[kind]()
    of = None if kind in ("words", "value", "letters", "pictures", "sounds") else of
    records = [record] * (12 if kind == "letters" else 4)
    explainer = {"name": "occlusion", "window": 1} if kind in ("pictures", "boxes") else "occlusion"
    found = explain_all(predictor, records, explainer=explainer, of=of, sanity=1)
    group = found.groups[0]
    assert (found.num_records, group.num_explanations) == (len(records), len(records))
    assert found.trust.better == len(records)
    console = Console(record=True, width=120)
    console.print(found.render())
    text = console.export_text()
    assert f"{len(records)} of {len(records)} explanations" in text
    facts = json.loads(found.write(tmp_path / "deep" / "all.json").read_text())
    html = found.write(tmp_path / "all.html").read_text()
    assert "http" not in html
    assert facts["groups"][0]["trust"]["better"] == len(records)
    if kind in ("words", "value", "tags"):
        assert group.tallies["words"].top(1)[0].name == "superb"
        assert "superb" in text
    if kind == "letters":
        assert "TATAAT" in facts["groups"][0]["motif"]["sites"][0]
        assert html.count("data:image/png") == 1
    if kind in ("pictures", "boxes"):
        best = facts["groups"][0]["regions"][0]
        assert (best["top"], best["left"], best["side"]) == (8, 16, 8) if kind == "pictures" else best["share"] > 0
        assert html.count("data:image/png") == 2 + len(facts["groups"][0]["regions"])
    if kind == "sounds":
        shares = np.array(facts["groups"][0]["mean_shares"])
        assert np.unravel_index(shares.argmax(), shares.shape)[1] == planted_models.CELL[1]
        assert html.count("data:audio/wav") == 4


def test_shares_of_sounds_sum_to_one():
    predictor, record, _, _ = MAKERS["sounds"]()
    group = gathered("sound", "b", 2)
    with evaluating(predictor.task):
        (one,) = Explaining(predictor, "occlusion", num_random=0, sanity=0)(record, predictor.task.process([record])[0])
    group.add(one)
    assert np.abs(group.details()["mean_shares"]).sum() <= 1 + 1e-6
    assert np.sum(group.details()["mean_shares"]) == pytest.approx(one.cells.sum() / np.abs(one.cells).sum())


def test_an_overview_of_a_model_that_reads_nothing_is_red():
    predictor, record, _, _ = planted_models.text("classification", True)
    found = explain_all(predictor, [record] * 3, explainer="occlusion", num_random=4)
    assert found.trust.better == 0
    (first, *_) = found.trust.sentences
    assert first[0].startswith("0 of 3 explanations (0% [0, 71]) are better than random: do not rely")
    assert re.search(r'<p class="verdict bad">0 of 3', found.page())


def test_records_are_drawn_and_bad_ones_counted():
    predictor, record, _, _ = MAKERS["words"]()
    rows = [{"text": f"{record['text']} {word}"} for word in planted_models.planted.FILLER] + [{"text": ""}]
    found = explain_all(predictor, rows, explainer="occlusion", max_records=5, min_records=5, num_random=0, sanity=0)
    assert (found.num_records, found.num_read, len(found.errors)) == (5, 21, 1)
    assert any("5 of 21 records were explained" in note for note in found.notes)
    assert any("1 records could not be used" in note for note in found.notes)
    assert any("fewer than 5 explanations" in note for note in found.notes)
    again = explain_all(predictor, rows, explainer="occlusion", max_records=5, min_records=5, num_random=0, sanity=0)
    assert again.to_dict() == found.to_dict()


def test_ctrl_c_keeps_what_there_is(monkeypatch, tmp_path):
    predictor, record, _, _ = MAKERS["words"]()
    plain = explaining_all._explained

    def pressed(explained, row, overview):
        stop.requested = overview.num_records == 1
        return plain(explained, row, overview)

    stop = StopRequest()
    monkeypatch.setattr(explaining_all, "interruptible", lambda: __import__("contextlib").nullcontext(stop))
    monkeypatch.setattr(explaining_all, "_explained", pressed)
    monkeypatch.setattr(explaining_all, "load", lambda *_: predictor)
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(record)}\n" * 5)
    out = tmp_path / "all.json"
    assert explain_all_command("run", str(file), num_random=0, sanity=0, out=str(out)) == 130
    facts = json.loads(out.read_text())
    assert (facts["interrupted"], facts["num_records"], facts["num_drawn"]) == (True, 2, 5)


def test_options_without_effect_are_errors(tmp_path: Path):
    predictor, record, _, _ = MAKERS["pictures"]()
    with pytest.raises(ConfigError, match="min_records is for words and letters; image data has none"):
        explain_all(predictor, [record], min_records=3)
    with pytest.raises(ConfigError, match="min_records must be a whole number, at least 2"):
        explain_all(predictor, [record], min_records=1)
    with pytest.raises(ConfigError, match="sanity must be"):
        explain_all(predictor, [record], sanity=-1)
    with pytest.raises(ConfigError, match="--out ends with"):
        explain_all_command("run", "rows.jsonl", out=str(tmp_path / "all.png"))
