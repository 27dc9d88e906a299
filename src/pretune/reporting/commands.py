"""The command line that makes a run again, from its recipe."""

from __future__ import annotations

__all__ = ["command_of"]

import inspect
import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from pretune import registry
from pretune.reporting.stages import name_of
from pretune.train import fit
from pretune.verbs import VERBS

_FIRST = ("from", "data", "valid", "test")


def command_of(recipe: Mapping[str, Any], *, out: str) -> str:
    """What to type: every option that is not at its default.

    Args:
        recipe: recipe.yaml of a run.
        out: Another folder than that of the run, which is finished.
    """
    verb = str(recipe["verb"])
    known = _defaults(verb)
    words = ["pretune", verb]
    order = [*(k for k in _FIRST if recipe.get(k) is not None), *(k for k in recipe if k not in _FIRST)]
    for key in order:
        value = recipe[key]
        if key in ("verb", "out", "overwrite") or value is None:
            continue
        if key in VERBS[verb].slots:
            words += _slot(key, value, known.get(key))
        elif key == "columns":
            words += [w for role, column in value.items() for w in (f"--{role}_column", str(column))]
        elif value != known.get(key):
            words += [f"--{key}", _word(value)]
    return shlex.join([*words, "--out", out])


def _defaults(verb: str) -> dict[str, Any]:
    """Of the verb's function and of the training loop."""
    from pretune import finetuning, pretraining

    functions: dict[str, Callable[..., Any]] = {"pretrain": pretraining.pretrain, "finetune": finetuning.finetune}
    found: dict[str, Any] = {}
    for function in (fit, functions[verb]):
        parameters = inspect.signature(function).parameters.values()
        found |= {p.name: p.default for p in parameters if p.default is not p.empty}
    return found


def _slot(slot: str, value: Any, usual: Any) -> list[str]:
    """The name where it is not the usual one, and the options that differ from their defaults."""
    name = name_of(value)
    words = [] if name == usual else [f"--{slot}", name]
    parts = value if isinstance(value, list) else [value]
    given = {k: v for p in parts if isinstance(p, Mapping) for k, v in p.items() if k != "name"}
    classes = [registry.find(slot, part.strip()) for part in name.split("+")]
    for option, chosen in given.items():
        owners = [c for c in classes if option in c.option_names()]
        if chosen is not None and any(c.default(option) != chosen for c in owners):
            words += [f"--{slot}.{option}", _word(chosen)]
    return words


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
