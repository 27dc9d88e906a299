"""How many explanations of a run can be trusted: better than random orders, and dependent on what was learnt.

    python benchmarks/explanations.py RUN DATA --explainer integrated_gradients occlusion attention --records 50

Prints a row of Markdown for each explainer, and writes all numbers with --out. Passes are records through the model,
forward alone, an explanation: those of gradients cost about three times as much.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pretune
from pretune.overview import Overview
from pretune.predicting import Predictor

HEADER = (
    "| explainer | explanations | better than random | pass the sanity check | gain in deletion area | passes each |\n"
    "|---|---|---|---|---|---|"
)


class Counter:
    """Counts the records that go through a model."""

    def __init__(self, predictor: Predictor) -> None:
        self.rows = 0
        predictor.task.register_forward_pre_hook(self._count)

    def _count(self, module: Any, inputs: tuple[Any, ...]) -> None:
        self.rows += len(inputs[0][module.modality.main_input])


def measured(predictor: Predictor, options: argparse.Namespace, explainer: str) -> tuple[Overview, float]:
    """What `pretune.explain_all` finds, and passes an explanation."""
    counter = Counter(predictor)
    found = pretune.explain_all(
        predictor, options.data, explainer=explainer, max_records=options.records, num_random=options.num_random,
        sanity=options.sanity, seed=options.seed,
    )  # fmt: skip
    return found, counter.rows / max(1, sum(g.num_explanations for g in found.groups))


def row(explainer: str, found: Overview, passes: float) -> str:
    """One row of the table."""
    trust = found.trust
    counts = {"better_than_random": (trust.better, trust.compared), "sane": (trust.sane, trust.checked)}
    shares = trust.shares
    shown = [
        f"{counts[name][0]} of {counts[name][1]} ({s.value:.0%} [{100 * s.low:.0f}, {100 * s.high:.0f}])"
        if (s := shares.get(name))
        else "not tested"
        for name in counts
    ]
    gain = trust.gain
    area = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" if gain else ""
    number = sum(g.num_explanations for g in found.groups)
    return f"| `{explainer}` | {number} | {shown[0]} | {shown[1]} | {area} | {passes:.0f} |"


def main() -> None:
    """Measures every explainer that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--explainer", nargs="+", default=["integrated_gradients", "occlusion", "attention"])
    parser.add_argument("--records", type=int, default=50)
    parser.add_argument("--num_random", type=int, default=20)
    parser.add_argument("--sanity", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    every = {}
    print(HEADER, flush=True)
    for explainer in options.explainer:
        found, passes = measured(pretune.load(options.run), options, explainer)
        print(row(explainer, found, passes), flush=True)
        every[explainer] = found.to_dict() | {"passes": passes}
        if found.interrupted:
            break
    if options.out is not None:
        options.out.write_text(json.dumps(every, indent=2) + "\n")


if __name__ == "__main__":
    main()
