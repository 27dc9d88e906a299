"""Explanations name the word that decides, sum as they should, and are told apart from random ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rich.console import Console

import planted
from pretune.errors import ConfigError, DataError
from pretune.explainers.attention import Attention
from pretune.explainers.integrated_gradients import IntegratedGradients
from pretune.explainers.occlusion import Occlusion
from pretune.explaining import explain_records
from pretune.explanation import page, write_page
from pretune.faithfulness import RATES, faithfulness
from pretune.predicting import Predictor
from pretune.words import words_of

EXPLAINERS = [IntegratedGradients(), Occlusion(), Attention()]


@pytest.fixture(scope="module")
def reviews():
    return Predictor(planted.classifier())


@pytest.fixture(scope="module")
def names():
    return Predictor(planted.tagger())


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda e: e.name)
def test_the_deciding_word_ranks_first(reviews, explainer):
    rows = planted.reviews(12, seed=3)
    found = explain_records(reviews, rows, explainer=explainer, num_random=0)
    first = [e.words[int(np.argmax(e.scores))] for e in found]
    deciding = [planted.DECIDING[r["label"]] for r in rows]
    hits = sum(a == b for a, b in zip(first, deciding, strict=True))
    assert hits == 12 if explainer.name != "attention" else hits >= 8


@pytest.mark.parametrize("explainer", EXPLAINERS[:2], ids=lambda e: e.name)
def test_each_entity_is_explained_by_its_own_word(names, explainer):
    tokens = ["the", "film", "with", "anna", "and", "oslo", "was"]
    found = explain_records(names, [tokens], explainer=explainer, num_random=4)
    assert [(e.target, e.span) for e in found] == [("PER", (3, 4)), ("LOC", (5, 6))]
    assert [int(np.argmax(e.scores)) for e in found] == [3, 5]
    assert all(0.5 < e.answer <= 1 for e in found)
    only = explain_records(names, [tokens], explainer=explainer, of="1", num_random=0)
    assert [e.target for e in only] == ["LOC"]


def test_an_entity_in_a_later_window_of_a_long_sentence(names):
    tokens = planted.FILLER * 6
    tokens[110] = "oslo"
    found = explain_records(names, [tokens], explainer="occlusion", num_random=0)
    (one,) = [e for e in found if e.target == "LOC"]
    assert one.words[slice(*one.span)] == ["oslo"]
    assert one.words[int(np.argmax(one.scores))] == "oslo"
    assert one.num_unread == len(tokens) - len(one.words) > 0


def test_a_sentence_without_entities_says_so(names):
    (found,) = explain_records(names, [["the", "plot", "was"]])
    assert "No entity was predicted" in found.note
    (asked,) = explain_records(names, [["the", "plot", "was"]], of=("LOC", 1, 2), num_random=0)
    assert asked.answer < 0.5


def test_integrated_gradients_are_complete(reviews):
    (found,) = explain_records(
        reviews, ["some film was superb"], explainer=IntegratedGradients(n_steps=300), num_random=0
    )
    task = reviews.task
    record = {"text": "some film was superb"}
    batch = task.collate(task.process([record]))
    masked = batch | {"input_ids": batch["input_ids"].clone()}
    masked["input_ids"][0, 1:-1] = task.modality.hf.mask_token_id
    with torch.no_grad():
        gain = (task(batch)["logits"] - task(masked)["logits"])[0, task.labels.index("good")]
    assert sum(found.scores) == pytest.approx(float(gain), rel=0.05)
    assert found.delta == pytest.approx(sum(found.scores) - float(gain), abs=1e-3)


def test_few_steps_are_confessed(reviews):
    (found,) = explain_records(reviews, ["superb"], explainer=IntegratedGradients(n_steps=1), num_random=0)
    assert any("raise n_steps" in r for r in found.remarks) == (abs(found.delta) > 0.05 * abs(sum(found.scores)))


@pytest.mark.parametrize("cls", [IntegratedGradients, Occlusion])
def test_small_passes_change_nothing(reviews, cls):
    text = ["this film was superb and the music is quite a scene"]
    small = explain_records(reviews, text, explainer=cls(max_tokens=1), num_random=0)[0]
    large = explain_records(reviews, text, explainer=cls(), num_random=0)[0]
    assert small.scores == pytest.approx(large.scores, abs=1e-3)


def test_occlusion_equals_hiding_by_hand(reviews):
    words = ["this", "film", "was", "superb"]
    (found,) = explain_records(reviews, [" ".join(words)], explainer="occlusion", num_random=0)
    task = reviews.task

    def logit(some):
        with torch.no_grad():
            out = task(task.collate(task.process([{"text": " ".join(some)}])))["logits"][0]
        return float(out[task.labels.index("good")])

    hidden = [[*words[:i], "[MASK]", *words[i + 1 :]] for i in range(4)]
    assert found.scores == pytest.approx([logit(words) - logit(h) for h in hidden], abs=1e-4)


def test_rollout_by_hand(reviews):
    task = reviews.task
    batch = task.collate(task.process([{"text": "some film was superb"}]))
    before = task.model.config._attn_implementation
    scores = Attention().scores(task, batch)
    assert task.model.config._attn_implementation == before
    task.model.set_attn_implementation("eager")
    with torch.no_grad():
        a, b = (x[0].mean(0) for x in task.model(**batch, output_attentions=True).attentions)
    task.model.set_attn_implementation(before)
    eye = torch.eye(len(a))
    assert torch.allclose(scores, (0.5 * (b + eye) @ (0.5 * (a + eye)))[0], atol=1e-6)
    assert float(scores.sum()) == pytest.approx(1, abs=1e-5)


def test_words_are_whole_and_rebuild_the_text(reviews):
    record = {
        "text": "  The film’s plot—quite (very) 好看 superb!",
        "text_pair": "Some story, it's mother-in-law.",
    }
    task = reviews.task
    found = words_of(task, record, task.process([record])[0])
    joined = "".join(g + w for g, w in zip(found.gaps, found.texts, strict=True))
    assert joined == (record["text"] + record["text_pair"])
    assert {"film’s", "好", "看", "it's", "mother-in-law"} <= set(found.texts)
    assert found.texts[found.breaks[0]] == "Some"
    tokens = found.batch["input_ids"][0]
    plain = ~torch.isin(tokens, torch.tensor([task.modality.hf.cls_token_id, task.modality.hf.sep_token_id]))
    assert torch.equal(found.of_token >= 0, plain)


def test_unread_words_are_counted(reviews):
    (found,) = explain_records(reviews, ["the film " * 100], num_random=0)
    assert found.num_unread == 200 - 62
    assert any("138 words were not read" in r for r in found.remarks)


def test_faithfulness_by_hand_and_against_the_opposite(reviews):
    task = reviews.task
    record = {"text": "this film was superb and the music is quite a scene"}
    words = words_of(task, record, task.process([record])[0])
    right = [float(w == "superb") for w in words.texts]
    good = faithfulness(task, words, right, of=1)

    def p(text):
        return reviews.predict([text])[0]["probabilities"]["good"]

    tops = [max(1, int(np.ceil(r * 11))) for r in RATES]
    order = np.argsort(-np.array(right), kind="stable")
    falls = []
    for k in tops:
        hidden = [w if i not in order[:k] else "[MASK]" for i, w in enumerate(words.texts)]
        falls.append(p(record["text"]) - p(" ".join(hidden)))
    assert good.comprehensiveness == pytest.approx(np.mean(falls), abs=1e-5)
    assert good.better_than_random
    assert good.verdict.startswith("Better than random")
    bad = faithfulness(task, words, [-s for s in right], of=1)
    assert not bad.better_than_random
    assert bad.verdict.startswith("No better than random")
    assert bad.random_comprehensiveness == good.random_comprehensiveness


def test_too_few_words_to_tell(reviews):
    (found,) = explain_records(reviews, ["superb film"])
    assert "Too few words" in found.faithfulness.verdict
    (one,) = explain_records(reviews, ["superb"])
    assert one.faithfulness is None


def test_a_class_may_be_chosen(reviews):
    (against,) = explain_records(reviews, ["some superb film"], of="bad", explainer="occlusion", num_random=0)
    assert against.scores[1] == min(against.scores) < 0
    (same,) = explain_records(reviews, ["some superb film"], of=0, explainer="occlusion", num_random=0)
    assert same.scores == against.scores


def test_wrong_targets_and_records_are_errors(reviews, names):
    with pytest.raises(ConfigError, match=r'no label "god".*Did you mean "good"'):
        explain_records(reviews, ["a film"], of="god")
    with pytest.raises(ConfigError, match=r"There is no entity 7: \d were predicted"):
        explain_records(names, [["anna", "was"]], of=7)
    with pytest.raises(ConfigError, match="num_random"):
        explain_records(reviews, ["a film"], num_random=1)
    with pytest.raises(DataError, match="row 1"):
        explain_records(reviews, [""])


def test_renders_to_json_terminal_and_page(reviews, names, tmp_path):
    found = explain_records(reviews, ["<b>some</b> film was superb & more", "a dreadful plot was this"])
    found += explain_records(names, [["the", "film", "with", "anna"]])
    console = Console(record=True, width=100, force_terminal=True)
    for one in found:
        console.print(one.render())
        assert json.loads(json.dumps(one.to_dict()))["words"] == one.words
    assert "superb" in console.export_text()
    html = page(found)
    assert "&lt;" in html
    assert "<b>some" not in html
    assert "http" not in html
    assert "prefers-color-scheme: dark" in html
    file = write_page(found, tmp_path / "deep" / "why.html")
    assert file.read_text(encoding="utf-8") == html
    assert [p.name for p in file.parent.iterdir()] == ["why.html"]
