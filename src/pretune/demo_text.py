"""`pretune demo text`: the whole way on the docstrings of the installed Python packages."""

from __future__ import annotations

__all__ = ["run"]

import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretune import baselines
from pretune.demo import TEXT, DemoResult, render_demo
from pretune.demo_comparison import Part, compare, concluded, explained, measured, repeated
from pretune.docstrings import docstring_corpus, docstring_task
from pretune.predicting import Predictor, load
from pretune.pretraining import RunResult, cache_folder, pretrain
from pretune.progress import say
from pretune.word_explanation import WordExplanation

_FINETUNE_STEPS = "250steps"


def run(*, out: Path, budget: str = "60s", seed: int = 0, seeds: int = 3) -> Path:
    """Pre-trains, fine-tunes from it and from scratch, compares with TF-IDF, explains; leaves a page.

    Args:
        out: Folder for the runs and the page; an earlier demo there is replaced.
        budget: Of pre-training.
        seed: First seed.
        seeds: Paired repetitions: each draws other labels.

    Returns:
        The page.
    """
    shutil.rmtree(out, ignore_errors=True)
    cache = cache_folder(None) / "docstrings"
    say("1. reading the docstrings of the installed packages")
    corpus = docstring_corpus(cache)
    say(f"2. pre-training on {corpus} ({corpus.stat().st_size / 1e6:.0f} MB) for {budget}")
    folder = str(out / "pretrained")
    own = pretrain(corpus, out=folder, size="tiny", budget=budget, seed=seed)
    parts = repeated(seed, seeds, lambda s: _compare(out, own.path, *docstring_task(cache, seed=s), s))
    page = _page(out, own, corpus, budget, seed, seeds, parts)
    words = f"{out}/own-{seed} - <<< 'Computes the gradient of a scalar.'"
    return concluded(page, parts, classical=TEXT["baseline"], predict=words)


def _compare(out: Path, own: Path, train: Path, test: Path, seed: int) -> Part:
    return compare(
        out,
        own,
        seed,
        train=train,
        rows=_rows(train),
        held=_rows(test),
        role="text",
        items="texts",
        baseline=_tfidf,
        budget=_FINETUNE_STEPS,
    )


def _tfidf(rows: Sequence[dict[str, Any]], held: Sequence[dict[str, Any]], seed: int) -> list[str]:
    texts, labels = [r["text"] for r in rows], [r["label"] for r in rows]
    return [p["label"] for p in baselines.tfidf_logistic(texts, labels, [r["text"] for r in held], seed)]


def _page(out: Path, own: RunResult, corpus: Path, budget: str, seed: int, seeds: int, parts: list[Part]) -> Path:
    first = parts[0]
    labels = sorted({r["label"] for r in first["test"]})
    predictor = load(out / f"own-{seed}")
    result: DemoResult = {
        "title": "pretune demo: text",
        "question": "Which library does this docstring come from?",
        "steps": [
            "Read the docstrings of the installed Python packages, without importing them.",
            f"Trained a tokenizer, then a small ModernBERT on masked words for {budget}.",
            f"Fine-tuned it, and the same model from random weights, on the same labels for {_FINETUNE_STEPS}.",
            "Trained TF-IDF + logistic regression on the same labels.",
            "Scored all three on texts from modules that neither the labels nor the corpus contain.",
        ],
        "command": f"pretune demo text --budget {budget} --seed {seed} --seeds {seeds}",
        "data": {
            "num_documents": _num_lines(corpus),
            "corpus_bytes": corpus.stat().st_size,
            "num_train": len(first["train"]),
            "num_test": len(first["test"]),
            "held_out": "By module: no module is on both sides, and test modules are not in the corpus either.",
        },
        **measured(own.path, predictor, parts, labels, budget=budget, baseline="TF-IDF + logistic regression"),
        "example": _example(predictor, first),
        "wording": TEXT,
        "pictures": [],
    }  # fmt: skip
    return render_demo(result, out / "report.html")


def _example(predictor: Predictor, part: Part) -> Any:
    found, facts = explained(predictor, part, "text")
    assert isinstance(found, WordExplanation)
    return facts | {"words": found.words, "scores": found.scores}


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _num_lines(file: Path) -> int:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        return sum(1 for line in stream if line.strip())
