"""Was own pre-training on images worth it? Few-label test accuracy after each objective and from scratch, paired.

    python benchmarks/images.py --data ../shared/data --budget 10m --labels 100,500 --seeds 3 --out runs/images
    python benchmarks/images.py --data ../shared/data --set mnist_idx --option contrastive.flip_rate=0 ...

Every objective pre-trains once for the same budget on all training images without labels, in OUT/SET-OBJECTIVE (an
interrupted run goes on). Every cell (labels, seed, arm) then fine-tunes on the same labels for the same steps and is
appended to OUT/SET-TEST.jsonl when it is done; running again adds what is missing. `linear` is logistic regression on
pixels. `mae` needs a ViT and `gan` a network without batch normalisation (here ConvNeXt): their control is that
architecture from scratch. Prints Markdown: mean accuracy with its interval over seeds, the paired gain over the
control, and the held-out losses. Choose options with ``--test valid``, never on the test set.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pretune
from few_labels import losses, pretrained, sample
from pretune import registry
from quality import measured, shown

OBJECTIVES = "autoencoder,vae,gan,mae,contrastive,distill"


def records(data: Path, name: str, part: str) -> list[dict[str, Any]]:
    """Images with labels; mnist_idx has no validation file: the last 2,000 of its training images are one."""
    if name != "mnist_idx":
        files = sorted((data / name / part).glob("*/*.jpg"))
        return [{"image": str(f), "label": f.parent.name} for f in files]
    stem = data / name / ("t10k" if part == "test" else "train")
    images = _idx(f"{stem}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = _idx(f"{stem}-labels-idx1-ubyte.gz", 8)
    found = [{"image": i, "label": str(k)} for i, k in zip(images, labels, strict=True)]
    return {"train": found[:-2000], "valid": found[-2000:], "test": found}[part]


def _idx(file: str, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(Path(file).read_bytes())[header:], dtype=np.uint8)


def family_of(options: argparse.Namespace, objective: str) -> str:
    """The architecture that an objective gets: its own where it works on no ResNet and --family says resnet."""
    needed = objective == "mae" or options.family == "resnet"
    own: str | None = registry.find("objective", objective).family
    return (own if needed else None) or options.family


def linear(train: list[dict[str, Any]], test: list[dict[str, Any]], size: int) -> float:
    """Accuracy of logistic regression on the pixels, its strength chosen by nothing: the usual default."""

    def pixels(rows: list[dict[str, Any]]) -> np.ndarray:
        opened: Iterator[Any] = (Image.open(r["image"]) if isinstance(r["image"], str) else r["image"] for r in rows)
        return np.stack([np.asarray(i, dtype=np.float32).reshape(-1) for i in opened])

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0 / size, max_iter=500))
    model.fit(pixels(train), [r["label"] for r in train])
    return float(model.score(pixels(test), [r["label"] for r in test]))


def tuned(
    options: argparse.Namespace, arm: str, source: str, train: list[dict[str, Any]], test: Any, seed: int
) -> dict[str, float]:
    """Test accuracy of fine-tuning from a run, or from scratch with that run's architecture."""
    folder = tempfile.mkdtemp(prefix="pretune-images-")
    rates = dict(r.split("=", 1) for r in options.lr)
    steps = int(np.clip(options.epochs * len(train) / 32, 300, 3000))
    result = pretune.finetune(
        train, out=f"{folder}/run", from_=source, scratch=arm.startswith("scratch"), task="classification", test=test,
        strategy=options.strategy, valid_rate=0.0, budget=f"{steps}steps", batch_size=32, seed=seed,
        lr=float(rates[arm]) if arm in rates else None, checkpoint_every="1h", modality="image",
    )  # fmt: skip
    shutil.rmtree(folder)
    return {
        "accuracy": result.metrics["test_accuracy"],
        "seconds": result.fitted.seconds if result.fitted else 0.0,
    }


def table(done: list[dict[str, Any]], arms: dict[str, str], score: str = "accuracy") -> str:
    """A row an arm: its score at every number of labels, and the gain paired by seed over the arm that `arms` names."""
    numbers = sorted({d["labels"] for d in done})
    cells = {(d["labels"], d["arm"], d["seed"]): d[score] for d in done}
    lines = ["| arm | " + " | ".join(f"{n} labels | gain" for n in numbers) + " |", "|---|" + "---|---|" * len(numbers)]
    for arm, control in arms.items():
        row = []
        for n in numbers:
            seeds = sorted(s for labels, a, s in cells if (labels, a) == (n, arm))
            values = [cells[n, arm, s] for s in seeds]
            gains = [cells[n, arm, s] - cells[n, control, s] for s in seeds if (n, control, s) in cells]
            row += [shown(values), shown(gains) if arm != control else "-"]
        lines.append(f"| {arm} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def starts(
    options: argparse.Namespace, pool: list[dict[str, Any]], modality: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, str], dict[str, str]]:
    """Pre-trains with every objective, once.

    Returns:
        The runs by objective; the run that each arm starts from, or has its architecture from; and the control of each
        arm, which is that architecture from scratch.
    """
    families = {name: family_of(options, name) for name in options.objectives.split(",")}
    runs = {
        n: pretrained(options, n, pool, options.out / f"{options.set}-{n}", modality=modality, family=family)
        for n, family in families.items()
    }
    folders = {n: run["folder"] for n, run in runs.items()}
    scratch = {f"scratch {f}": folders[n] for n, f in families.items()}
    return runs, scratch | folders, {a: a for a in scratch} | {n: f"scratch {f}" for n, f in families.items()}


def cells_of(options: argparse.Namespace, arms: Iterable[str]) -> list[dict[str, Any]]:
    """Every number of labels with every seed and arm."""
    numbers, seeds = [int(n) for n in options.labels.split(",")], range(options.seeds)
    return [{"labels": n, "seed": s, "arm": a} for n in numbers for s in seeds for a in arms]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", default="cifar10_jpg", choices=["cifar10_jpg", "mnist_idx"])
    parser.add_argument("--objectives", default=OBJECTIVES)
    parser.add_argument("--option", action="append", default=[], help="OBJECTIVE.OPTION=VALUE")
    parser.add_argument("--budget", default="10m", help="of each pre-training")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--family", default="resnet")
    parser.add_argument("--labels", default="100,500")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of fine-tuning; 300 to 3,000 steps of 32")
    parser.add_argument("--strategy", default="full")
    parser.add_argument("--lr", action="append", default=[], help="ARM=RATE of fine-tuning")
    parser.add_argument("--test", default="test", choices=["test", "valid"])
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    train, test = records(options.data, options.set, "train"), records(options.data, options.set, options.test)
    runs, sources, controls = starts(options, [{"image": r["image"]} for r in train], "image")
    arms = {"linear": "linear"} | controls

    def measure(cell: dict[str, Any]) -> dict[str, float]:
        number, seed, arm = cell.values()
        few = sample(train, number, seed)
        if arm == "linear":
            return {"accuracy": linear(few, test, number)}
        return tuned(options, arm, sources[arm], few, test, seed)

    done = measured(options.out / f"{options.set}-{options.test}.jsonl", cells_of(options, arms), measure)
    print(table(done, arms), losses(runs, seen="images seen", shown=",.0f"), sep="\n\n")


if __name__ == "__main__":
    main()
