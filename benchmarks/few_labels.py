"""What few-label benchmarks on images and on sound share: one pre-training an objective, labels drawn, losses."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import pretune
from pretune.checkpoint import RunDirectory
from quality import shown


def sample(found: list[dict[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """As many of every class as the number allows, drawn at random."""
    rng = np.random.default_rng(seed)
    labels = np.array([r["label"] for r in found])
    classes = np.unique(labels)
    each = -(-number // len(classes))
    picks = np.concatenate([rng.permutation(np.flatnonzero(labels == c))[:each] for c in classes])
    return [found[i] for i in rng.permutation(picks)[:number]]


def pretrained(
    options: argparse.Namespace, objective: str, inputs: list[dict[str, Any]], folder: Path, **more: Any
) -> dict[str, Any]:
    """Pre-trains, or goes on with or finds an earlier run; its folder and last held-out values.

    Args:
        options: With ``option`` (OBJECTIVE.OPTION=VALUE), ``budget`` and ``size``.
        objective: Its name.
        inputs: The inputs alone: labels cannot leak, and the run's fingerprint is that of what it saw.
        folder: Of the run.
        more: Of `pretune.pretrain`.
    """
    if not (folder / "lineage.json").exists():
        own = (o.split(".", 1)[1].split("=", 1) for o in options.option if o.startswith(f"{objective}."))
        spec = {"name": objective} | {k: yaml.safe_load(v) for k, v in own}
        pretune.pretrain(
            inputs, out=str(folder), objective=spec, budget=options.budget, size=options.size, seed=0,
            checkpoint_every="2m", **more,
        )  # fmt: skip
    valid = [r for r in RunDirectory(folder).metrics() if any(k.startswith("valid_") for k in r)]
    facts = json.loads((folder / "lineage.json").read_text())
    return {"folder": str(folder), "floor": facts["floor"], "seen": facts["tokens"], **valid[-1]}


def table(done: list[dict[str, Any]], sets: dict[str, dict[str, Any]], arms: Callable[[str], list[str]]) -> str:
    """A row a set, number of labels and arm, with the gain over scratch, paired by seed.

    Args:
        done: Measured cells.
        sets: By name, with the ``score`` that is shown.
        arms: Those of a set, in the order of the rows.
    """
    lines = ["| set | labels | arm | score | value | gain over scratch |", "|---|---|---|---|---|---|"]
    found = {(d["set"], d["labels"], d["arm"], d["seed"]): d[sets[d["set"]]["score"]] for d in done}
    for name, number in sorted({(d["set"], d["labels"]) for d in done}):
        scratch = {s: v for (n, k, a, s), v in found.items() if (n, k, a) == (name, number, "scratch")}
        for arm in arms(name):
            values = {s: v for (n, k, a, s), v in found.items() if (n, k, a) == (name, number, arm)}
            gain = "-" if arm == "scratch" else shown([v - scratch[s] for s, v in values.items() if s in scratch])
            if values:
                score = sets[name]["score"]
                lines.append(f"| {name} | {number} | {arm} | {score} | {shown(list(values.values()))} | {gain} |")
    return "\n".join(lines)


def losses(runs: dict[str, dict[str, Any]], *, seen: str, shown: str, unit: float = 1) -> str:
    """Held-out loss beside its reference value, and how many directions the vectors use.

    Args:
        runs: By objective, of `pretrained`.
        seen: Title of the column that says how much was seen.
        shown: Its format.
        unit: What it is divided by.
    """
    lines = [f"| objective | {seen} | held-out loss | reference | effective rank |", "|---|---|---|---|---|"]
    for name, run in runs.items():
        loss = next(run[k] for k in ("valid_critic_loss", "valid_reconstruction_loss", "valid_loss") if k in run)
        reference = run["floor"] if run["floor"] is not None else run.get("valid_chance_loss")
        value = "-" if reference is None else f"{reference:.3f}"
        rank = run["valid_effective_rank"]
        lines.append(f"| {name} | {run['seen'] / unit:{shown}} | {loss:.3f} | {value} | {rank:.1f} |")
    return "\n".join(lines)
