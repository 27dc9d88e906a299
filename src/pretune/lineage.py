"""Where a run came from: written beside every model, for people (model card) and programs (lineage.json)."""

from __future__ import annotations

__all__ = ["ancestry", "lineage", "loss_and_floor", "model_card", "warn_if_unlearnt"]

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pretune.checkpoint import lineage_of
from pretune.progress import say
from pretune.train import FitResult

_INHERITED = ("verb", "finished", "steps", "tokens", "seconds", "data", "scratch", "parent")
_PACKAGES = ("pretune", "torch", "transformers", "accelerate", "datasets", "tokenizers", "peft")


def lineage(
    recipe: dict[str, Any],
    fitted: FitResult,
    *,
    verb: str,
    data: dict[str, str],
    parent: str | None,
    **more: Any,
) -> dict[str, Any]:
    """The facts of a finished run.

    Args:
        recipe: Resolved options.
        fitted: What training did.
        verb: ``pretrain`` or ``finetune``.
        data: Fingerprint of each data source by role.
        parent: The run or checkpoint it started from.
        more: Further facts, such as the transfer report.
    """
    return {
        "verb": verb,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "parent": _parent(parent),
        "data": data,
        "seed": recipe.get("seed"),
        "steps": fitted.steps,
        "tokens": round(fitted.tokens),
        "seconds": round(fitted.seconds, 1),
        "metrics": fitted.best,
        **({"selection": fitted.selection} if fitted.selection else {}),
        "versions": {p: importlib.metadata.version(p) for p in _PACKAGES} | {"python": sys.version.split()[0]},
        "machine": f"{platform.system()} {platform.machine()}",
        "git": _git(),
        **more,
    }


def _parent(source: str | None) -> dict[str, Any] | None:
    if source is None:
        return None
    facts = lineage_of(Path(source))
    return {"source": source} | {k: facts[k] for k in _INHERITED if k in facts}


def ancestry(facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The facts of a run, and of each run before it whose weights it goes back to."""
    while facts:
        yield facts
        facts = {} if facts.get("scratch") else facts.get("parent") or {}


def loss_and_floor(facts: Mapping[str, Any]) -> tuple[float, float] | None:
    """The last held-out loss of a pre-training and that of an answer that knows nothing, where both are known."""
    metrics = facts.get("metrics", {})
    floor, loss = facts.get("floor"), metrics.get(facts.get("floor_of") or "loss", metrics.get("loss"))
    return None if floor is None or loss is None else (loss, floor)


def warn_if_unlearnt(source: str | Path) -> None:
    """Says that the pre-training of a run learnt no more than an answer that knows nothing, where that is so."""
    facts = lineage_of(Path(source))
    found = loss_and_floor(facts)
    if found is not None and found[0] >= found[1]:
        loss, floor = found
        say(
            f"{source} has learnt no more than {facts['floor_what']} (held-out loss {loss:.3f} beside {floor:.3f}): "
            "a model like that can be worse to start from than random weights; let `pretune study` tell, or pre-train "
            "for longer"
        )


def _git() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _started_from(facts: dict[str, Any]) -> str:
    source = (facts["parent"] or {}).get("source")
    if source is None:
        return "random weights"
    return f"random weights, with the architecture of {source}" if facts.get("scratch") else str(source)


_CARD = """---
library_name: transformers
tags: [pretune, {verb}]
---
# {title}

Made by `pretune {verb}` on {finished} from data with fingerprint {fingerprint}.

- started from: {parent}
- training: {steps} steps, {tokens:,} input elements, {seconds:.0f} s, seed {seed}
- held-out metrics: {metrics}

## Use

{use}

Options are in `recipe.yaml`, provenance in `lineage.json` of the run directory. What the data may hold against
people, and whether this model may be used for your purpose, is for you to judge; pretune does not know.
"""


_USE = """```python
from transformers import {auto}, {processor}
model = {auto}.from_pretrained("{folder}")
{variable} = {processor}.from_pretrained("{folder}")
```"""

_OWN_USE = """```python
import pretune
predictions = pretune.load("{run}").predict([...])
```

The class of the whole model, {auto}, is pretune's; its encoder alone loads with transformers'
`AutoModel.from_pretrained("{folder}")`."""


def model_card(facts: dict[str, Any], *, folder: Path, auto: str, processor: str, title: str) -> str:
    """The README.md of a model directory; `auto` and `processor` are the transformers classes that load it."""
    import transformers

    metrics = ", ".join(f"{k} {v:.4g}" for k, v in facts["metrics"].items()) or "none"
    variable = "tokenizer" if processor == "AutoTokenizer" else "processor"
    use = _USE if hasattr(transformers, auto) else _OWN_USE
    return _CARD.format(
        verb=facts["verb"],
        title=title,
        finished=facts["finished"],
        fingerprint=facts["data"].get("train", "unknown"),
        parent=_started_from(facts),
        steps=facts["steps"],
        tokens=facts["tokens"],
        seconds=facts["seconds"],
        seed=facts["seed"],
        metrics=metrics,
        use=use.format(auto=auto, processor=processor, variable=variable, folder=folder, run=folder.parent),
    )
