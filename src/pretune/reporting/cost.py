"""What was spent."""

from __future__ import annotations

__all__ = ["cost_section", "num_parameters"]

import json
import math
from pathlib import Path
from typing import Any

from pretune.reporting.facts import Facts
from pretune.reporting.section import Section, duration, render
from pretune.reporting.stages import Stage


def cost_section(facts: Facts) -> Section | None:
    """Time, steps and what was seen, of the run and those that it was made from."""
    if facts.stage is None:
        return None
    stages = [*reversed(facts.parents), facts.stage]
    total = sum(float(s.lineage.get("seconds", 0)) for s in stages)
    repeats = int(facts.stage.recipe.get("seeds") or 1)
    body = render(
        "report_cost.html.j2",
        rows=[_row(s) for s in stages],
        total=duration(total) if len(stages) > 1 else None,
        machine=facts.stage.lineage.get("machine"),
        parameters=_parameters(num_parameters(facts.stage.path / "model")),
        unknown=stages[0].source,
        repeats=repeats,
    )
    sentence = f"Training took {duration(total)}" + (" for all stages together." if len(stages) > 1 else ".")
    return Section("cost", "Budget and cost", sentence, body)


def _row(stage: Stage) -> dict[str, Any]:
    facts = stage.lineage
    return {
        "name": stage.path.resolve().name,
        "what": "fine-tuning" if stage.tuned else "pre-training",
        "budget": str(stage.recipe.get("budget", "")),
        "time": duration(float(facts.get("seconds", 0))),
        "steps": f"{facts.get('steps', 0):,}",
        "seen": f"{facts.get('tokens', 0):,} {stage.counted}",
        "batch": facts.get("batch_size") or stage.recipe.get("batch_size"),
        "lr": f"{facts['lr']:.2g}" if facts.get("lr") else "",
        "finished": str(facts.get("finished", "")).replace("T", " ")[:16],
    }


def num_parameters(folder: Path) -> int:
    """Weights of a model directory, counted from the headers of its files; 0 without any."""
    found = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        shapes = [v["shape"] for k, v in header.items() if k != "__metadata__"]
        found += sum(math.prod(shape) for shape in shapes)
    return found


def _parameters(number: int) -> str:
    if not number:
        return ""
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{number:,}"
