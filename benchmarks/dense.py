"""Boxes and masks: was own pre-training worth it? Test scores after each objective and from scratch, paired.

    python benchmarks/dense.py --data ../shared/data --set bccd --budget 4m --labels 20,205 --seeds 3 --out runs/dense
    python benchmarks/dense.py --data ../shared/data --set camvid --image_size 224 --resolution 224 ...

Sets: ``bccd`` (detection; 205 images to learn from, 72 to test) and ``camvid`` (segmentation; 367 and 233). Every
objective pre-trains once for the same budget on all training images without labels, in OUT/SET-OBJECTIVE (an
interrupted run goes on). Every cell (labels, seed, arm) then fine-tunes on the same images for the same steps; some
images of the validation file, as many as it learns from and at most ``--valid``, choose the weights, and the test
file is only scored. A cell is appended to OUT/SET-TEST.jsonl when it is done; running again adds what is missing. `mae`
needs a ViT and `gan` a network without batch normalisation (here ConvNeXt): their control is that architecture from
scratch. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import pretune
from few_labels import losses
from images import OBJECTIVES, cells_of, starts, table
from pretune import registry
from pretune.data import read_records
from quality import measured

CAMVID = [
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
]
SETS: dict[str, dict[str, Any]] = {
    "bccd": {"task": {"name": "detection"}, "splits": "bccd/{}.json", "score": "map"},
    "camvid": {
        "task": {"name": "segmentation", "classes": CAMVID, "ignore_index": 11},
        "splits": "camvid/{}",
        "score": "miou",
    },
}
OTHER = {"map": "map50", "miou": "accuracy"}
"""A second score that is shown for each."""


def records(data: Path, name: str, part: str) -> list[dict[str, Any]]:
    """Images with their boxes or masks."""
    chosen = SETS[name]
    task, modality = registry.build("task", chosen["task"]), registry.build("modality", "image")
    roles = task.input_roles(modality) | {task.label_role: task.label_columns}
    source = task.source(str(data / chosen["splits"].format(part)))
    return list(read_records(source, roles=roles, columns={}, required=task.required_roles(modality)))


def drawn(found: list[dict[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """Some of them at random."""
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:number]]


def tuned(
    options: argparse.Namespace, arm: str, source: str, splits: dict[str, list[dict[str, Any]]], number: int, seed: int
) -> dict[str, float]:
    """Test scores of fine-tuning from a run, or from scratch with that run's architecture."""
    task = SETS[options.set]["task"] | ({"resolution": options.resolution} if options.resolution else {})
    with tempfile.TemporaryDirectory(prefix="pretune-dense-") as folder:
        found = pretune.finetune(
            drawn(splits["train"], number, seed), valid=drawn(splits["valid"], min(number, options.valid), seed),
            test=splits["test"], task=task, out=f"{folder}/run", from_=source, scratch=arm.startswith("scratch"),
            modality="image", seed=seed, lr=options.lr, strategy=options.strategy, budget=f"{options.steps}steps",
            batch_size=8, num_validations=3, checkpoint_every="1h",
        )  # fmt: skip
    scores = {k.removeprefix("test_"): v for k, v in found.metrics.items() if k.startswith("test_")}
    return scores | {"seconds": found.fitted.seconds if found.fitted else 0.0}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--objectives", default=OBJECTIVES)
    parser.add_argument("--option", action="append", default=[], help="OBJECTIVE.OPTION=VALUE")
    parser.add_argument("--budget", default="4m", help="of each pre-training")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--family", default="resnet")
    parser.add_argument("--image_size", type=int, default=128, help="of pre-training")
    parser.add_argument("--resolution", type=int, default=None, help="longer side of the working size")
    parser.add_argument("--labels", default="20,205", help="numbers of images with boxes or masks")
    parser.add_argument("--valid", type=int, default=30, help="most images that choose the weights")
    parser.add_argument("--strategy", default="full")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lr", type=float, default=None, help="not given: the default of the task")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", default="test", choices=["test", "valid"], help="choose options with valid")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    splits = {part: records(options.data, options.set, part) for part in ("train", "valid", "test")}
    if options.test == "valid":  # half of it chooses weights, the other half is scored
        splits["valid"], splits["test"] = splits["valid"][::2], splits["valid"][1::2]
    modality = {"name": "image", "image_size": options.image_size}
    runs, sources, arms = starts(options, [{"image": r["image"]} for r in splits["train"]], modality)
    done = measured(
        options.out / f"{options.set}-{options.test}.jsonl",
        cells_of(options, arms),
        lambda cell: tuned(options, cell["arm"], sources[cell["arm"]], splits, cell["labels"], cell["seed"]),
    )
    for score in (SETS[options.set]["score"], OTHER[SETS[options.set]["score"]]):
        print(score, table(done, arms, score), sep="\n\n", end="\n\n")
    print(losses(runs, seen="images seen", shown=",.0f"))


if __name__ == "__main__":
    main()
