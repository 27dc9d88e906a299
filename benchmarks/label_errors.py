"""How many planted wrong labels `pretune suspects` finds: precision and recall of its list.

python benchmarks/label_errors.py ../shared/data/trec6/train.jsonl
python benchmarks/label_errors.py ../shared/data/trec6/train.jsonl --from MODEL
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import pretune


def planted(rows: list[dict[str, Any]], rate: float, seed: int) -> tuple[list[dict[str, Any]], set[int]]:
    """The rows with a share of the labels replaced by another one at random, and which rows (from 1) these are."""
    labels, rng = sorted({r["label"] for r in rows}), random.Random(seed)
    wrong = set(rng.sample(range(len(rows)), int(len(rows) * rate)))
    given = [
        {"text": r["text"], "label": rng.choice([x for x in labels if x != r["label"]]) if i in wrong else r["label"]}
        for i, r in enumerate(rows)
    ]
    return given, {i + 1 for i in wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a .jsonl file with text and label")
    parser.add_argument("--from", dest="from_", default=None)
    parser.add_argument("--records", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()[: options.records]]
    given, wrong = planted(rows, options.rate, options.seed)
    found = pretune.suspects(given, from_=options.from_)
    hit = [s.row in wrong for s in found.rows]
    result = {
        "doubted": len(hit),
        "precision": sum(hit) / len(hit),
        "recall": sum(hit) / len(wrong),
        "precision of the first 50": sum(hit[:50]) / 50,
        "agreement": found.accuracy,
    }
    print(json.dumps({k: round(v, 3) for k, v in result.items()}))


if __name__ == "__main__":
    main()
