"""The classical baselines of text by task: TF-IDF with a linear model, and each word's most frequent tag."""

from __future__ import annotations

__all__ = ["for_task", "frequent_tags"]

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pretune import baselines
from pretune.classical import Classical, valued
from pretune.tasks.base import Prediction, Task


def for_task(task: Task) -> Classical | None:
    """The baseline of a task on text; None where there is none."""
    if task.name == "classification" and not getattr(task, "multi_label", False):
        return Classical(
            "TF-IDF + logistic regression",
            lambda rows, labels, test, seed: baselines.tfidf_logistic(_texts(rows), labels, _texts(test), seed),
        )
    if task.name == "regression":
        return Classical(
            "TF-IDF + ridge regression",
            lambda rows, values, test, seed: valued(baselines.tfidf_ridge(_texts(rows), values, _texts(test), seed)),
        )
    if task.name == "tagging":
        return Classical("each word's most frequent tag", lambda rows, tags, test, _: frequent_tags(rows, tags, test))
    return None


def _texts(rows: Sequence[Mapping[str, Any]]) -> list[baselines.Text]:
    return [(r["text"], r["text_pair"]) if r.get("text_pair") is not None else r["text"] for r in rows]


def frequent_tags(
    rows: Sequence[Mapping[str, Any]], tags: Sequence[Sequence[str]], test: Sequence[Mapping[str, Any]]
) -> list[Prediction]:
    """The most frequent tag of each word in training; of an unknown word, the most frequent tag of all.

    Args:
        rows: Records with words (``tokens``, or ``text`` that is split at white space).
        tags: One a word.
        test: Other records.
    """
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row, named in zip(rows, tags, strict=True):
        for word, tag in zip(_words(row), named, strict=True):
            seen[word][tag] += 1
    overall = sum(seen.values(), Counter[str]()).most_common(1)[0][0]
    best = {word: counts.most_common(1)[0][0] for word, counts in seen.items()}
    return [{"tags": [best.get(word, overall) for word in _words(row)]} for row in test]


def _words(row: Mapping[str, Any]) -> list[str]:
    tokens = row.get("tokens")
    if tokens is None:
        return str(row["text"]).split()
    return tokens.split() if isinstance(tokens, str) else [str(t) for t in tokens]
