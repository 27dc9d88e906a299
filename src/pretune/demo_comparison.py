"""What every demo does with labels: own pre-training, scratch and a baseline on the same records, an explanation."""

from __future__ import annotations

__all__ = ["Part", "compare", "concluded", "drawn", "explained", "measured", "repeated"]

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from pretune import machine
from pretune.demo import Curve, Measured, System, verdict
from pretune.explaining import explain_records
from pretune.explanation import Explanation
from pretune.finetuning import finetune
from pretune.predicting import Predictor, load
from pretune.progress import say

Part: TypeAlias = dict[str, Any]
"""One seed: ``train`` and ``test`` (rows with ``label``), and for each system ``labels``, ``right`` and ``seconds``."""

_SYSTEMS = ("own", "scratch", "baseline")


def repeated(seed: int, seeds: int, part: Callable[[int], Part]) -> list[Part]:
    """What `part` gives for each seed, which is said before."""
    parts = []
    for k in range(seeds):
        say(f"3. fine-tuning from it and from scratch, seed {seed + k} ({k + 1} of {seeds})")
        parts.append(part(seed + k))
    return parts


def drawn(labels: ArrayLike, classes: Iterable[Any], per_class: int, seed: int) -> list[int]:
    """Places of the same number of each class among the labels, at random."""
    rng = np.random.default_rng(seed)
    places = [np.flatnonzero(np.asarray(labels) == c) for c in classes]
    return np.concatenate([rng.choice(mine, per_class, replace=False) for mine in places]).tolist()


def compare(
    out: Path,
    own: Path,
    seed: int,
    *,
    train: Any,
    rows: Sequence[dict[str, Any]],
    held: Sequence[dict[str, Any]],
    role: str,
    items: str,
    baseline: Callable[[Sequence[dict[str, Any]], Sequence[dict[str, Any]], int], Sequence[str]],
    **options: Any,
) -> Part:
    """Both fine-tuned models and the baseline on the same labels, scored on the same held-out records.

    Args:
        out: Folder for the runs ``own-SEED`` and ``scratch-SEED``.
        own: The pre-trained run.
        seed: Of fine-tuning and the baseline.
        train: The labelled data as `finetune` takes it.
        rows: The same as rows.
        held: Test rows.
        role: The column of the input.
        items: What a row is, in the plural.
        baseline: Labels of the test rows from the training rows and a seed.
        options: Of `finetune`.
    """
    truth = [str(r["label"]) for r in held]
    found: Part = {"train": list(rows), "test": list(held)}
    for name in _SYSTEMS[:2]:
        folder, start = str(out / f"{name}-{seed}"), time.monotonic()
        finetune(train, out=folder, from_=str(own), scratch=name == "scratch", valid_rate=0.0, seed=seed, **options)
        seconds = time.monotonic() - start
        predictions = load(folder).predict([{role: r[role]} for r in held])
        found[name] = _scored([p["label"] for p in predictions], truth, seconds)
    start = time.monotonic()
    found["baseline"] = _scored(baseline(rows, held, seed), truth, time.monotonic() - start)
    for name in _SYSTEMS:
        say(f"   {name:<9} {100 * np.mean(found[name]['right']):.1f} % right of {len(truth)} held-out {items}")
    return found


def _scored(predicted: Sequence[str], truth: Sequence[str], seconds: float) -> dict[str, Any]:
    right = [p == t for p, t in zip(predicted, truth, strict=True)]
    return {"labels": list(predicted), "right": right, "seconds": seconds}


def explained(predictor: Predictor, part: Part, role: str) -> tuple[Explanation, dict[str, Any]]:
    """Explains the first test record that the model gets right, or the first one; also what the page says of it."""
    at = next((i for i, right in enumerate(part["own"]["right"]) if right), 0)
    row = part["test"][at]
    found = explain_records(predictor, [{role: row[role]}])[0]
    say(found.heading)
    return found, {"label": row["label"], "predicted": found.target, "probability": found.answer}


def concluded(page: Path, parts: Sequence[Part], *, classical: str, predict: str) -> Path:
    """Says who won, where the page is and what else to predict; returns the page.

    Args:
        page: Written.
        parts: One a seed.
        classical: Name of the baseline.
        predict: What to give `pretune predict`.
    """
    say(verdict(*(np.array([p[name]["right"] for p in parts]) for name in _SYSTEMS), classical=classical))
    say(f"4. report: {page}\n   try: pretune predict {predict}")
    return page


def measured(
    own: Path, predictor: Predictor, parts: Sequence[Part], labels: list[str], *, budget: str, baseline: str
) -> Measured:
    """What a page says of every demo: cost, the loss in pre-training, the three systems, the mistakes."""
    facts = json.loads((own / "lineage.json").read_text(encoding="utf-8"))
    return {
        "labels": labels,
        "cost": {
            "budget": budget,
            "device": machine.describe(machine.device()),
            "num_parameters": sum(p.numel() for p in predictor.task.model.parameters()),
            "num_tokens": facts["tokens"],
            "pretrain_seconds": facts["seconds"],
            "finetune_seconds": _median_seconds("own", parts),
            "baseline_seconds": _median_seconds("baseline", parts),
        },
        "curve": _curve(own, facts.get("floor")),
        "own": _system("own pre-training", "own", parts),
        "scratch": _system("from scratch", "scratch", parts),
        "baseline": _system(baseline, "baseline", parts),
        "confusion": _confusion(labels, parts),
    }


def _system(title: str, name: str, parts: Sequence[Part]) -> System:
    """The answers of one system, over all seeds."""
    return {"name": title, "correct": [p[name]["right"] for p in parts]}


def _median_seconds(name: str, parts: Sequence[Part]) -> float:
    """Of one training run of a system."""
    return float(np.median([p[name]["seconds"] for p in parts]))


def _curve(run: Path, floor: float | None) -> Curve:
    """The pre-training loss by what was seen."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seen = [(r["tokens"], r["loss"]) for r in rows if "loss" in r]
    return {"tokens": [t for t, _ in seen], "loss": [loss for _, loss in seen], "floor": floor}


def _confusion(labels: Sequence[str], parts: Sequence[Part]) -> list[list[int]]:
    """Test rows by true and predicted label of the pre-trained model, all seeds together."""
    table = np.zeros((len(labels), len(labels)), dtype=int)
    for part in parts:
        for row, predicted in zip(part["test"], part["own"]["labels"], strict=True):
            table[labels.index(str(row["label"])), labels.index(predicted)] += 1
    return table.tolist()
