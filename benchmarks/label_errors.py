"""How many planted wrong labels `pretune suspects` finds: precision and recall of its list.

    python benchmarks/label_errors.py ../shared/data/trec6/train.jsonl
    python benchmarks/label_errors.py ../shared/data/trec6/train.jsonl --from MODEL
    python benchmarks/label_errors.py ../shared/data/conll2003/train.jsonl --task tagging --from MODEL
    python benchmarks/label_errors.py ../shared/data/bccd/train.json --task detection --modality image --from RUN
    python benchmarks/label_errors.py ../shared/data/sick/train.jsonl --task regression --from MODEL

Planted in a share of the records: another class; an entity of another type or left out; a box that is left out, or of
another class; the value of another record. A record counts as found when it is on the list.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import pretune


def read(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Records with their labels, in the columns of the task."""
    if options.task == "detection":
        return boxes(options.data)[: options.records]
    rows = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()[: options.records]]
    unused = {"tagging": ("pos",), "regression": ("label",)}.get(options.task, ())
    return [{k: v for k, v in row.items() if k not in unused} for row in rows]


def boxes(file: Path) -> list[dict[str, Any]]:
    """Images of a COCO file with their objects."""
    coco = json.loads(file.read_text(encoding="utf-8"))
    names = {c["id"]: c["name"] for c in coco["categories"]}
    rows = {i["id"]: {"image": str(file.with_suffix("") / i["file_name"]), "objects": []} for i in coco["images"]}
    for one in coco["annotations"]:
        rows[one["image_id"]]["objects"].append({"label": names[one["category_id"]], "box": one["bbox"]})
    return list(rows.values())


def other(names: list[str], but: str, rng: random.Random) -> str:
    return rng.choice([n for n in names if n != but])


def another_class(row: dict[str, Any], rows: list[dict[str, Any]], rng: random.Random) -> dict[str, Any]:
    return row | {"label": other(sorted({r["label"] for r in rows}), row["label"], rng)}


def another_value(row: dict[str, Any], rows: list[dict[str, Any]], rng: random.Random) -> dict[str, Any]:
    return row | {"score": rng.choice(rows)["score"]}


def another_entity(row: dict[str, Any], rows: list[dict[str, Any]], rng: random.Random) -> dict[str, Any] | None:
    """One entity has another type, or half of the time none."""
    tags = list(row["tags"])
    starts = [i for i, tag in enumerate(tags) if tag.startswith("B-")]
    if not starts:
        return None
    at = rng.choice(starts)
    kind = None if rng.random() < 0.5 else other(["PER", "LOC", "ORG", "MISC"], tags[at][2:], rng)
    end = at + 1
    while end < len(tags) and tags[end].startswith("I-"):
        end += 1
    tags[at:end] = ["O" if kind is None else f"{tag[:2]}{kind}" for tag in tags[at:end]]
    return row | {"tags": tags}


def another_box(row: dict[str, Any], rows: list[dict[str, Any]], rng: random.Random) -> dict[str, Any] | None:
    """One box is missing, or half of the time of another class."""
    objects = list(row["objects"])
    if not objects:
        return None
    at = rng.randrange(len(objects))
    one = objects.pop(at)
    if rng.random() < 0.5:
        names = sorted({o["label"] for r in rows for o in r["objects"]})
        objects.insert(at, one | {"label": other(names, one["label"], rng)})
    return row | {"objects": objects}


SPOIL: dict[str, Any] = {
    "classification": another_class, "tagging": another_entity, "detection": another_box, "regression": another_value,
}  # fmt: skip


def planted(rows: list[dict[str, Any]], task: str, rate: float, seed: int) -> tuple[list[dict[str, Any]], set[int]]:
    """The rows, a share of them spoilt, and which rows (from 1) these are."""
    rng, given, wrong = random.Random(seed), list(rows), set[int]()
    for i in rng.sample(range(len(rows)), len(rows)):
        if len(wrong) < int(len(rows) * rate) and (spoilt := SPOIL[task](rows[i], rows, rng)) is not None:
            given[i] = spoilt
            wrong.add(i + 1)
    return given, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a .jsonl file; for boxes a COCO file beside its images")
    parser.add_argument("--task", choices=sorted(SPOIL), default="classification")
    parser.add_argument("--modality", default="text")
    parser.add_argument("--budget", help="of each fold's training")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--from", dest="from_", default=None)
    parser.add_argument("--records", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    given, wrong = planted(read(options), options.task, options.rate, options.seed)
    found = pretune.suspects(
        given, task=options.task, modality=options.modality, from_=options.from_, folds=options.folds,
        budget=options.budget,
    )  # fmt: skip
    hit = [s.row in wrong for s in found.rows]
    result = {
        "doubted": len(hit),
        "precision": sum(hit) / len(hit),
        "recall": sum(hit) / len(wrong),
        "precision of the first 50": sum(hit[:50]) / 50,
        found.metric: found.score,
    }
    print(json.dumps({k: round(v, 3) for k, v in result.items()}))


if __name__ == "__main__":
    main()
