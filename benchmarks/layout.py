"""What laying convolutions out with channels last is worth on this CPU: pre-training with and without, in turn.

    python benchmarks/layout.py --images ../shared/data/cifar10_jpg/train [--steps 30] [--repeats 3] [--size tiny]

Each side pre-trains for the same steps from the same seed; only `machine.fast_convolutions` is taken away from one. The
time is that of the steps and the one validation at their end. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from unittest import mock

import pretune
from pretune import machine

CASES = [("contrastive", "resnet"), ("distill", "resnet"), ("autoencoder", "resnet"), ("gan", "convnext")]


def seconds(options: argparse.Namespace, objective: str, family: str) -> float:
    """Of one pre-training."""
    with tempfile.TemporaryDirectory() as folder:
        result = pretune.pretrain(
            str(options.images), out=f"{folder}/run", modality="image", objective=objective, family=family,
            size=options.size, budget=f"{options.steps}steps", num_validations=1, checkpoint_every="1h",
        )  # fmt: skip
    assert result.fitted is not None
    return result.fitted.seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", default="tiny")
    options = parser.parse_args()
    lines = ["| objective | as torch lays out | channels last | ratio |", "|---|---|---|---|"]
    for objective, family in CASES:
        plain, last = [], []
        for _ in range(options.repeats):
            with mock.patch.object(machine, "fast_convolutions"):
                plain.append(seconds(options, objective, family))
            last.append(seconds(options, objective, family))
        a, b = statistics.median(plain), statistics.median(last)
        lines.append(f"| {objective}, {family} | {a:.1f} s | {b:.1f} s | {a / b:.2f} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
