"""What study.json holds: all that the pictures, the report and other programs need, without the cells."""

from __future__ import annotations

__all__ = ["study_facts"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pretune.checkpoint import lineage_of
from pretune.encoder import model_folder
from pretune.lineage import ancestry
from pretune.modalities.base import Modality
from pretune.study_arms import OWN, SCRATCH, Arm
from pretune.study_conclusions import Cells, Conclusions
from pretune.tasks.base import Task


def study_facts(
    cells: Cells,
    found: Conclusions,
    arms: Sequence[Arm],
    *,
    task: Task,
    source: Modality,
    metric: str,
    num_test: int,
    level: float,
    missing: int,
    pictures: Mapping[str, str],
    command: str,
) -> dict[str, Any]:
    """The JSON-able facts of a study.

    Args:
        cells: All of them.
        found: What they say.
        arms: What is compared.
        task: Its kind of labels.
        source: Its kind of data.
        metric: What is compared; higher is better.
        num_test: Test records.
        level: Of the intervals.
        missing: Cells that were not measured for want of time.
        pictures: Captions by file beside study.json.
        command: What was run.
    """
    names = {a.name for a in arms}
    paid = {a.name: p for a in arms if (p := _pretraining(a)) is not None}
    return {
        "verb": "study",
        "verdict": found.verdicts[0],
        "verdicts": found.verdicts,
        "question": "Was the pre-training worth it, and how should it be fine-tuned?",
        "modality": source.name,
        "task": task.name,
        "metric": metric,
        "higher_is_better": True,
        "num_test": num_test,
        "level": level,
        "difference_level": found.difference_level,
        "labels": sorted({m.labels for m in found.means}),
        "arms": [a.to_dict() for a in arms],
        "scores": [
            {"arm": a, "labels": n, "seed": s, **{k: c[k] for k in ("score", "metrics", "seconds", "steps")}}
            for (a, n, s), c in sorted(cells.items())
            if a in names
        ],
        "means": [
            {"arm": m.arm, "labels": m.labels, "seconds": m.seconds}
            | {k: v for k, v in asdict(m.mean).items() if k != "p"}
            for m in found.means
        ],
        "comparisons": [c.to_dict() for c in found.comparisons],
        "labels_saved": [
            {"arm": arm} | {k: _finite(v) for k, v in asdict(n).items()}
            for arm, rows in found.saved.items()
            for n in rows
        ],
        "efficiency": _efficiency(found, paid),
        "pretraining": [{"arm": n, "counted": source.counted} | p for n, p in paid.items()],
        "missing": missing,
        "pictures": dict(pictures),
        "command": command,
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity: null is more than was tried."""
    return value if math.isfinite(value) else None


def _efficiency(found: Conclusions, paid: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Points over scratch for a minute of compute, with and without the pre-training, which is paid once."""
    means = {(m.arm, m.labels): m for m in found.means}
    rows = []
    for (arm, number), mine in means.items():
        minutes = mine.seconds / 60
        row = {"arm": arm, "labels": number, "score": mine.mean.value, "minutes": round(minutes, 3)}
        row["points_per_minute"] = round(100 * mine.mean.value / minutes, 1) if minutes else None
        scratch = means.get((SCRATCH, number))
        if arm in paid and scratch is not None:
            spent = paid[arm]["seconds"] / 60
            row["minutes_with_pretraining"] = round(minutes + spent, 1)
            gain = 100 * (mine.mean.value - scratch.mean.value)
            row["points_gained_per_minute_of_pretraining"] = round(gain / spent, 2) if spent else None
        rows.append(row)
    return rows


def _pretraining(arm: Arm) -> dict[str, Any] | None:
    """What the weights of an arm cost, with the runs that they go back to, as far as these say."""
    if arm.kind not in (OWN, "other") or arm.source is None:
        return None
    facts = lineage_of(Path(model_folder(arm.source)).parent)
    if not facts:
        return None
    stages = list(ancestry(facts))
    seconds, steps, seen = (sum(s.get(k) or 0 for s in stages) for k in ("seconds", "steps", "tokens"))
    known = [s["verb"] for s in reversed(stages) if "verb" in s]
    return {"source": arm.source, "verbs": known, "seconds": seconds, "steps": steps, "seen": seen}
