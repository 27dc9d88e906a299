"""Was own pre-training worth it? Few-label test scores: own pre-training, scratch, TF-IDF; paired over seeds.

    python benchmarks/quality.py --data ../shared/data --pre 10m=runs/imdb-10m --pre 40m=runs/imdb-40m \
        --out runs/quality.jsonl

Every cell (set, labels, seed, arm) is appended to the output when it is done; running again adds what is missing. Every
arm of a cell gets the same labels and the same number of steps; the learning rate of each arm is the one that did best
on the validation file of sst2 at 128 labels (see --lr), never on a test set. Prints a Markdown table at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import pretune
from pretune import baselines, intervals

Cell = dict[str, Any]
"""What is measured once: set, labels, seed, arm ..."""

SETS = {"sst2": "text", "ag_news_7600": "text", "trec6": "text"}


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def append(file: Path, row: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def measured(file: Path, cells: Iterable[Cell], measure: Callable[[Cell], dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a file, to which every cell that it has not yet is appended, with its measures, when it is done."""
    done = rows(file) if file.exists() else []
    for cell in cells:
        if not any(all(row[k] == v for k, v in cell.items()) for row in done):
            done.append({**cell, **measure(cell)})
            append(file, done[-1])
            print(done[-1], file=sys.stderr, flush=True)
    return done


def sample(records: list[dict[str, Any]], number: int | None, seed: int) -> list[dict[str, Any]]:
    """A random subset with every class as often as its share allows, at least once."""
    if number is None or number >= len(records):
        return records
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(records))
    firsts = {records[i]["label"]: i for i in order[::-1]}
    rest = [i for i in order if i not in set(firsts.values())]
    return [records[i] for i in [*firsts.values(), *rest][:number]]


def steps_for(number: int) -> int:
    return int(np.clip(3 * number / 16, 300, 600))


def cell(arm: str, source: str | None, train: Any, test: Any, seed: int, lr: float | None) -> dict[str, float]:
    if arm == "tfidf":
        texts, labels = [r["text"] for r in train], [r["label"] for r in train]
        found = baselines.tfidf_logistic(texts, labels, [r["text"] for r in test], seed=seed)
        right = [f["label"] == r["label"] for f, r in zip(found, test, strict=True)]
        return {"accuracy": float(np.mean(right))}
    folder = tempfile.mkdtemp(prefix="pretune-quality-")
    keep = [{"text": r["text"], "label": r["label"]} for r in train]
    held = [{"text": r["text"], "label": r["label"]} for r in test]
    result = pretune.finetune(
        keep, out=f"{folder}/run", from_=source, scratch=arm == "scratch", test=held, valid_rate=0.0,
        budget=f"{steps_for(len(keep))}steps", seed=seed, lr=lr, checkpoint_every="1h",
    )  # fmt: skip
    shutil.rmtree(folder)
    return {
        "accuracy": result.metrics["test_accuracy"],
        "seconds": result.fitted.seconds if result.fitted else 0.0,
    }


def shown(values: list[float]) -> str:
    """Per cent: mean and Student's t interval over the seeds."""
    if len(values) < 2:
        return "-"
    mean = intervals.mean_interval([100 * v for v in values])
    return f"{mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}]"


def table(done: list[dict[str, Any]], arms: list[str]) -> str:
    """Mean and interval of each arm, and the paired difference of the last one to scratch and to TF-IDF."""
    gains = [f"{arms[-1]} - {other}" for other in ("scratch", "tfidf") if other in arms[:-1]]
    lines = [f"| set | labels | {' | '.join([*arms, *gains])} |", "|---|---|" + "---|" * len([*arms, *gains])]
    for name, number in sorted({(d["set"], d["labels"]) for d in done}, key=lambda k: (k[0], k[1] or 10**9)):
        here = [d for d in done if (d["set"], d["labels"]) == (name, number)]
        found = {arm: {d["seed"]: d["accuracy"] for d in here if d["arm"] == arm} for arm in arms}
        cells = [shown(list(found[arm].values())) for arm in arms]
        for gain in gains:
            last, other = (found[arm] for arm in gain.split(" - "))
            cells.append(shown([last[k] - other[k] for k in sorted(last.keys() & other.keys())]))
        lines.append(f"| {name} | {number or 'all'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pre", action="append", default=[], help="NAME=RUN of a pre-trained model")
    parser.add_argument("--arms", default="", help="only these, e.g. to run the others beside them: tfidf,scratch,NAME")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", default="32,128,512,all")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", action="append", default=[], help="ARM=RATE")
    parser.add_argument("--test", default="test.jsonl", help="file to score on; valid.jsonl to choose rates")
    options = parser.parse_args()
    sources = dict(p.split("=", 1) for p in options.pre)
    rates = {k: float(v) for k, v in (p.split("=", 1) for p in options.lr)}
    arms = options.arms.split(",") if options.arms else ["tfidf", "scratch", *sources]
    names, numbers = options.sets.split(","), [None if n == "all" else int(n) for n in options.labels.split(",")]
    parts = {name: [rows(options.data / name / f) for f in ("train.jsonl", options.test)] for name in names}

    def measure(wanted: Cell) -> dict[str, float]:
        name, number, seed, arm = wanted.values()
        train, test = parts[name]
        source = sources.get(arm) or next(iter(sources.values()), None)
        return cell(arm, source, sample(train, number, seed), test, seed, rates.get(arm))

    cells = [
        {"set": name, "labels": number, "seed": seed, "arm": arm}
        for number in numbers for name in names for seed in range(options.seeds) for arm in arms
    ]  # fmt: skip
    done = measured(options.out, cells, measure)
    print(table(done, [a for a in ("tfidf", "scratch", *sources) if any(d["arm"] == a for d in done)]))


if __name__ == "__main__":
    main()
