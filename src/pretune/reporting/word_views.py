"""Examples of sentences, sequences and transcripts, with what is wrong marked in its context."""

from __future__ import annotations

__all__ = ["tags_section", "transcripts_section"]

from collections.abc import Sequence
from typing import Any

import jiwer
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2
from sklearn.metrics import precision_recall_fscore_support as by_class

from pretune.reporting.examples import Example
from pretune.reporting.facts import Facts
from pretune.reporting.measured import RIGHT, WRONG
from pretune.reporting.records import piece_of
from pretune.reporting.section import Section, plural, render
from pretune.tag_schemes import to_iob2
from pretune.tagged_words import words_in

_AROUND, _LETTERS_AROUND = 6, 20
_MOST_WORDS = 80
_ROW = 30


def tags_section(facts: Facts) -> Section | None:
    """Each type with its scores, and sentences with what was missed, invented or confused."""
    measured = facts.measured
    if measured is None or "tags" not in measured.predicted[0] or facts.predictor is None:
        return None
    entities = bool(getattr(facts.predictor.task, "entities", False))
    truth = [to_iob2(label) if entities else list(label) for label in measured.labels]
    guess = [list(p["tags"]) for p in measured.predicted]
    wrong = [e for e in measured.examples.of(WRONG) if e.wrong > 0]
    body = render(
        "report_tags.html.j2",
        noun="entities" if entities else "tags",
        classes=_entity_scores(truth, guess) if entities else _tag_scores(truth, guess),
        sentences=[_marked(e, entities) for e in wrong],
    )
    pairs = [(t, g) for a, b in zip(truth, guess, strict=True) for t, g in zip(a, b, strict=True)]
    off = sum(t != g for t, g in pairs)
    what = "words" if "tokens" in (wrong[0].record if wrong else {"tokens": 0}) else "places"
    sentence = f"{off:,} of {len(pairs):,} {what} got a wrong tag."
    if entities:
        sentence += " An entity is right only if its type and all its words are."
    return Section("tags", "What was found, type by type", sentence, body)


def _row(name: str, scores: Sequence[float], count: int, predicted: int) -> dict[str, Any]:
    shown = {k: f"{100 * v:.1f}%" for k, v in zip(("precision", "recall", "f1"), scores, strict=True)}
    return {"name": name, **shown, "count": f"{count:,}", "predicted": f"{predicted:,}"}


def _entity_scores(truth: list[list[str]], guess: list[list[str]]) -> list[dict[str, Any]]:
    names = sorted({t[2:] for row in (*truth, *guess) for t in row if t != "O"})
    if not names:
        return []
    parts = precision_recall_fscore_support(truth, guess, average=None, scheme=IOB2, zero_division=0)
    begun = [t[2:] for row in guess for t in row if t.startswith("B-")]
    rows = zip(names, *(p.tolist() for p in parts), strict=True)
    return [_row(n, (p, r, f), int(s), begun.count(n)) for n, p, r, f, s in rows]


def _tag_scores(truth: list[list[str]], guess: list[list[str]]) -> list[dict[str, Any]]:
    flat, found = [t for row in truth for t in row], [t for row in guess for t in row]
    names = sorted({*flat, *found})
    parts = by_class(flat, found, labels=names, average=None, zero_division=0)
    rows = zip(names, *(p.tolist() for p in parts), strict=True)
    return [_row(n, (p, r, f), int(s), found.count(n)) for n, p, r, f, s in rows]


def _marked(example: Example, entities: bool) -> dict[str, Any]:
    """The words around what is wrong, each with its true and its predicted tag where they differ."""
    record = example.record
    letters = isinstance(record.get("sequence"), str)
    words = words_in(record)["words"]
    truth = to_iob2(example.label) if entities else list(example.label)
    found = list(example.prediction["tags"])
    off = [i for i, (t, f) in enumerate(zip(truth, found, strict=True)) if t != f]
    reach = _LETTERS_AROUND if letters else _AROUND
    first = max(0, off[0] - reach)
    last = min(len(words), max(i for i in off if i < off[0] + _MOST_WORDS) + 1 + reach)
    return {
        "rows": _rows(words[first:last], truth[first:last], found[first:last]) if letters else "",
        "before": first > 0,
        "after": last < len(words),
        "words": [
            {"text": w, "true": t, "found": f, "wrong": t != f, "known": t == f and t != "O" and entities}
            for w, t, f in list(zip(words, truth, found, strict=True))[first:last]
        ],
        "count": plural(len(off), "wrong tag"),
    }


def _rows(letters: Sequence[str], truth: Sequence[str], found: Sequence[str]) -> str:
    """Letters above their true and predicted tags, with a mark below what is wrong."""
    marks = ["^" if t != f else " " for t, f in zip(truth, found, strict=True)]
    named = (("", letters), ("true ", truth), ("found", found), ("", marks))
    parts = range(0, len(letters), _ROW)
    return "\n".join(f"{name:<6}{''.join(row[i : i + _ROW])}".rstrip() for i in parts for name, row in named)


def transcripts_section(facts: Facts) -> Section | None:
    """The worst transcripts, with the edits that would make them right."""
    measured = facts.measured
    if measured is None or not {"text", "words"} <= measured.predicted[0].keys():
        return None
    groups = [
        ("Most wrong", [_edited(e, facts) for e in measured.examples.of(WRONG) if e.wrong > 0]),
        ("Least wrong", [_edited(e, facts) for e in measured.examples.of(RIGHT)[:3]]),
    ]
    body = render("report_transcripts.html.j2", groups=[g for g in groups if g[1]])
    exact = sum(p["text"] == t for p, t in zip(measured.predicted, measured.labels, strict=True))
    sentence = f"{exact:,} of {len(measured.labels):,} transcripts are right to the letter."
    return Section("transcripts", "Transcripts", sentence, body)


def _edited(example: Example, facts: Facts) -> dict[str, Any]:
    assert facts.predictor is not None
    truth, heard = example.label, example.prediction["text"]
    marked = []
    for part in jiwer.process_words(truth, heard).alignments[0]:
        said = " ".join(truth.split()[part.ref_start_idx : part.ref_end_idx])
        found = " ".join(heard.split()[part.hyp_start_idx : part.hyp_end_idx])
        marked.append({"equal": part.type == "equal", "true": said, "found": found})
    return {
        "piece": piece_of(example.record, facts.predictor.modality, facts.room),
        "parts": marked,
        "rate": f"{100 * example.wrong:.0f}% of the letters are wrong" if example.wrong else "right",
    }
