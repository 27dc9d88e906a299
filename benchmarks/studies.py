"""Studies side by side as Markdown: a row an arm and number of labels, and every comparison that is clear.

    python benchmarks/studies.py runs/study/text runs/study/image runs/study/audio runs/study/dna runs/study/protein

Reads the study.json of `pretune study`; nothing is computed here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def points(row: dict[str, Any], name: str) -> str:
    value, low, high = (100 * row[k] for k in (name, "low", "high"))
    sign = "+" if name == "difference" else ""
    return f"{value:{sign}.1f} [{low:.1f}, {high:.1f}]"


def table(studies: list[tuple[str, dict[str, Any]]]) -> str:
    """A row a study and number of labels; a column an arm; differences that are clear are bold."""
    arms = list(dict.fromkeys(a["name"] for _, s in studies for a in s["arms"]))
    gains = [("own", "scratch"), ("own", "baseline"), *((a, "own") for a in arms if a.startswith("own+"))]
    titles = [*arms, *(f"{a} - {b}" for a, b in gains)]
    lines = [f"| data | labels | seeds | {' | '.join(titles)} |", "|---" * (3 + len(titles)) + "|"]
    for name, study in studies:
        for number in study["labels"]:
            means = {m["arm"]: m for m in study["means"] if m["labels"] == number}
            found = {(c["arm"], c["against"]): c for c in study["comparisons"] if c["labels"] == number}
            cells = [points(means[a], "value") if a in means else "" for a in arms]
            cells += [shown(found[g]) if g in found else "" for g in gains]
            lines.append(f"| {name} | {number:,} | {means['own']['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(row: dict[str, Any]) -> str:
    return f"**{points(row, 'difference')}**" if row["clear"] else points(row, "difference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="+", type=Path, help="folder of a study")
    folders = parser.parse_args().study
    studies = [(f.name, json.loads((f / "study.json").read_text(encoding="utf-8"))) for f in folders]
    print(table(studies))
    for name, study in studies:
        print(f"\n**{name}**: " + " ".join(study["verdicts"]))


if __name__ == "__main__":
    main()
