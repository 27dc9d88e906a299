"""The n-gram model against its formula by hand, sums over the vocabulary, and its stored form."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from pretune.errors import ConfigError, DataError
from pretune.ngram import BEGIN, END, UNKNOWN, NGram

SENTENCES = ["the cat sat", "the cat ran", "a dog sat on the mat", "the dog ran", "", "a cat"]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one_after_any_context(order: int) -> None:
    lm = NGram.from_sentences(SENTENCES, order)
    assert {END, UNKNOWN, "cat"} <= lm.vocabulary
    assert BEGIN not in lm.vocabulary
    parts = [BEGIN, "the", "cat", "mat", "zebra", UNKNOWN, END]
    contexts = [c for n in range(4) for c in itertools.product(parts, repeat=n)]
    for context in contexts:
        total = math.fsum(math.exp(lm.log_prob(context, w)) for w in lm.vocabulary)
        assert total == pytest.approx(1, abs=1e-12), context


def test_probabilities_are_the_formula_by_hand() -> None:
    lm = NGram.from_sentences(["a b", "a c"], 2)  # a: 2, b: 1, c: 1, end: 2; five entries with the unknown word
    one = {w: (n + 4 / 5) / (6 + 4) for w, n in {"a": 2, "b": 1, "c": 1, END: 2, UNKNOWN: 0}.items()}
    assert {w: math.exp(lm.log_prob((), w)) for w in one} == pytest.approx(one)
    assert math.exp(lm.log_prob((BEGIN,), "a")) == pytest.approx((2 + 1 * one["a"]) / (2 + 1))
    assert math.exp(lm.log_prob(("a",), "b")) == pytest.approx((1 + 2 * one["b"]) / (2 + 2))
    assert math.exp(lm.log_prob(("a",), END)) == pytest.approx((0 + 2 * one[END]) / (2 + 2))
    expected = [lm.log_prob((BEGIN,), "a"), lm.log_prob(("a",), "b"), lm.log_prob(("b",), END)]
    assert lm.perplexity(["a b", " "]) == pytest.approx(math.exp(-sum(expected) / 3))


def test_longer_contexts_decide_and_unseen_ones_back_off() -> None:
    lm = NGram.from_sentences(["x a b", "y a c", "x a b", "y a c"], 3)
    assert lm.log_prob(("x", "a"), "b") > lm.log_prob(("a",), "b") > lm.log_prob(("x", "a"), "c")
    assert lm.log_prob(("zebra", "a"), "b") == lm.log_prob(("a",), "b")
    assert lm.log_prob(("b", "x"), "a") == lm.log_prob(("x",), "a")
    assert lm.log_prob(("zebra", "zebra"), "a") == lm.log_prob((), "a")
    assert lm.log_prob(("far", "away", "x", "a"), "b") == lm.log_prob(("x", "a"), "b")
    wide = NGram.from_sentences(["x a b", "y a c"], 4)
    assert wide.log_prob(("x", "a"), "b") > wide.log_prob(("a",), "b")  # a context shorter than the order allows
    single = NGram.from_sentences(["x a b"], 1)
    assert single.log_prob(("x", "a"), "b") == single.log_prob((), "b")


def test_unknown_words_share_one_entry_below_every_seen_word() -> None:
    lm = NGram.from_sentences(SENTENCES)
    assert lm.log_prob(("the",), "zebra") == lm.log_prob(("the",), "quagga") == lm.log_prob(("the",), UNKNOWN)
    assert lm.log_prob((), "zebra") < min(lm.log_prob((), w) for w in lm.vocabulary - {UNKNOWN})
    assert lm.log_prob((), BEGIN) == lm.log_prob((), UNKNOWN)  # nothing but the start of a sentence
    marked = NGram.from_sentences(["a <s> b </s> c"], 2)
    assert marked.vocabulary == {"a", "b", "c", END, UNKNOWN}
    assert sum(math.exp(marked.log_prob((UNKNOWN,), w)) for w in marked.vocabulary) == pytest.approx(1)


def test_text_like_the_training_text_is_less_surprising() -> None:
    lm = NGram.from_sentences(SENTENCES)
    assert lm.perplexity(["the cat sat"]) < lm.perplexity(["sat cat the"]) < len(lm.vocabulary) * 3
    assert lm.perplexity(["the cat"]) < lm.perplexity(["the zebra"])


def test_the_stored_form_is_json_and_gives_the_same_model() -> None:
    lm = NGram.from_sentences([*SENTENCES, "größe déjà 日本"], 3)
    again = NGram.from_dict(json.loads(json.dumps(lm.to_dict())))
    assert again.to_dict() == lm.to_dict()
    assert again.vocabulary == lm.vocabulary
    for context in [(), (BEGIN,), (BEGIN, "the"), ("the", "cat"), ("q", "the")]:
        for word in lm.vocabulary:
            assert again.log_prob(context, word) == lm.log_prob(context, word)


def test_what_cannot_work_is_said() -> None:
    with pytest.raises(DataError, match="found none"):
        NGram.from_sentences(["", "  "])
    with pytest.raises(ConfigError, match="at least 1, found 0"):
        NGram.from_sentences(SENTENCES, 0)
    with pytest.raises(DataError, match="found none"):
        NGram.from_sentences(SENTENCES).perplexity([])
    for wrong in (
        {},
        {"order": 3, "counts": [1]},
        {"order": "x", "counts": {"": {"a": 1}}},
        {"order": 3, "counts": {}},
    ):
        with pytest.raises(DataError):
            NGram.from_dict(wrong)
