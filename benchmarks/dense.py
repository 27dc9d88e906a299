"""Boxes and masks: test scores from scratch and from own pre-training, the same images, steps and seeds.

    pretune pretrain --data ../shared/data/bccd/train --modality image --modality.image_size 128 --objective mae \
        --size tiny --budget 5m --out runs/bccd-mae
    python benchmarks/dense.py --data ../shared/data --set bccd --pre mae=runs/bccd-mae --steps 300 \
        --out runs/dense.jsonl

Sets: ``bccd`` (detection; 205 images to learn from, 72 to test) and ``camvid`` (segmentation; 367 and 233). The
validation file chooses the weights, the test file is only scored. Every run (set, arm, strategy, seed) is appended to
the output when it is done; running again adds what is missing. Prints a Markdown table at the end.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pretune
from pretune.intervals import mean_interval
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
    "bccd": {"task": "detection", "splits": [f"bccd/{s}.json" for s in ("train", "valid", "test")]},
    "camvid": {
        "task": {"name": "segmentation", "classes": CAMVID, "ignore_index": 11},
        "splits": [f"camvid/{s}" for s in ("train", "valid", "test")],
    },
}
SHOWN = {"bccd": ("map", "map50"), "camvid": ("miou", "accuracy")}


def run(options: argparse.Namespace, arm: str, source: str | None, seed: int) -> dict[str, Any]:
    chosen = SETS[options.set]
    train, valid, test = (str(options.data / s) for s in chosen["splits"])
    start: dict[str, Any] = {"from_": source} if source else {"scratch": True, "size": options.size}
    start |= {} if source else {"family": options.family}
    with tempfile.TemporaryDirectory(prefix="pretune-dense-") as folder:
        found = pretune.finetune(
            train, valid=valid, test=test, task=chosen["task"], out=f"{folder}/run", seed=seed, lr=options.lr,
            modality={"name": "image", "image_size": options.image_size},
            strategy=options.strategy if source else "full", budget=f"{options.steps}steps",
            batch_size=8, num_validations=3, checkpoint_every="1h", **start,
        )  # fmt: skip
    scores = {k: v for k, v in found.metrics.items() if k.startswith("test_")}
    return scores | {"seconds": found.fitted.seconds if found.fitted else 0.0}


def table(done: list[dict[str, Any]]) -> str:
    lines = ["| set | start | strategy | steps | seeds | scores on test |", "|---|---|---|---|---|---|"]
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in done:
        cells.setdefault((row["set"], row["arm"], row["strategy"], row["steps"]), []).append(row)
    for key, found in sorted(cells.items(), key=str):
        shown = [f"{name} {_mean([r[f'test_{name}'] for r in found])}" for name in SHOWN[key[0]]]
        lines.append(f"| {' | '.join(map(str, key))} | {len(found)} | {', '.join(shown)} |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    mean = mean_interval(values)
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--pre", action="append", default=[], help="NAME=RUN of a pre-trained encoder")
    parser.add_argument("--strategy", default="full", help="of runs from a pre-trained encoder")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--size", default="tiny", help="from scratch")
    parser.add_argument("--family", default="vit", help="from scratch")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    arms: dict[str, str | None] = {f"scratch {options.family}": None, **dict(p.split("=", 1) for p in options.pre)}
    cells = [
        {"set": options.set, "arm": arm, "strategy": options.strategy if source else "full", "seed": seed,
         "steps": options.steps}
        for seed in range(options.seeds) for arm, source in arms.items()
    ]  # fmt: skip
    done = measured(options.out, cells, lambda cell: run(options, cell["arm"], arms[cell["arm"]], cell["seed"]))
    print(table(done))


if __name__ == "__main__":
    main()
