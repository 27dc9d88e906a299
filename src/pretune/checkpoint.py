"""The run directory: recipe, metrics, checkpoints that survive a kill at any moment, and the exported model.

OUT/recipe.yaml      every option, resolved; `--config OUT/recipe.yaml` repeats the run
OUT/metrics.jsonl    one line a logged step
OUT/checkpoints/     the last complete state, until the run is finished
OUT/model/           Hugging Face directory
OUT/lineage.json     parent, data fingerprints, versions, seed, git, wall time; written last: the run is finished
"""

from __future__ import annotations

__all__ = ["RunDirectory", "State", "optimizer_tensors", "restore_optimizer", "write_text"]

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from pretune import machine
from pretune.errors import RunError

_FREE_TO_CHANGE = ("out", "overwrite", "tracker", "checkpoint_every")


@dataclass
class State:
    """A checkpoint: tensors by name, and JSON-able facts."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    def take(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a prefix, without it."""
        return {n[len(prefix) :]: t for n, t in self.tensors.items() if n.startswith(prefix)}


class RunDirectory:
    """One run's files.

    Args:
        path: The directory given as ``--out``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.model = self.path / "model"

    def open(self, recipe: dict[str, Any], *, overwrite: bool = False) -> State | None:
        """Claims the directory for a run, and returns the state to resume from, if there is one.

        Raises:
            RunError: It holds a finished run, or an unfinished one with other options, or foreign files.
        """
        if overwrite and machine.is_main():
            self._remove_run()
        if (self.path / "lineage.json").exists():
            raise RunError(f"{self.path} holds a finished run; give another --out, or --overwrite to replace it.")
        earlier = self._recipe()
        if earlier is None and self.path.is_dir() and any(self.path.iterdir()):
            raise RunError(f"{self.path} exists and is not a pretune run; give another --out.")
        if earlier is not None:
            self._check_same(earlier, recipe)
        if not machine.is_main():
            return self._latest()
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_text(self.path / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        return self._latest()

    def _recipe(self) -> dict[str, Any] | None:
        file = self.path / "recipe.yaml"
        return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None

    def _check_same(self, earlier: dict[str, Any], recipe: dict[str, Any]) -> None:
        keys = (earlier.keys() | recipe.keys()) - set(_FREE_TO_CHANGE)
        now = yaml.safe_load(yaml.safe_dump(recipe))
        changed = sorted(k for k in keys if earlier.get(k) != now.get(k))
        if changed and self._latest() is not None:
            was = ", ".join(f"{k} was {earlier.get(k)} and is now {now.get(k)}" for k in changed)
            raise RunError(
                f"{self.path} holds an unfinished run with other options ({was}); repeat the same command to go on, "
                "or give --overwrite or another --out."
            )

    def _remove_run(self) -> None:
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / "recipe.yaml").exists():
            raise RunError(f"{self.path} exists and is not a pretune run, so --overwrite leaves it alone.")
        shutil.rmtree(self.path, ignore_errors=True)

    def save(self, state: State, step: int) -> None:
        """Writes a checkpoint; a kill at any moment leaves the last complete one."""
        folder = self.path / "checkpoints"
        final, temporary = folder / f"step-{step:09d}", folder / f"step-{step:09d}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(
            {n: t.detach().contiguous().cpu() for n, t in state.tensors.items()},
            temporary / "state.safetensors",
        )
        (temporary / "facts.json").write_text(json.dumps(state.facts), encoding="utf-8")
        for file in temporary.iterdir():
            _sync(file)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _sync(folder)
        for old in self._complete():
            if old != final:
                shutil.rmtree(old, ignore_errors=True)

    def _complete(self) -> list[Path]:
        found = (self.path / "checkpoints").glob("step-*")
        return sorted(f for f in found if f.suffix != ".tmp" and (f / "facts.json").exists())

    def _latest(self) -> State | None:
        for folder in reversed(self._complete()):
            try:
                tensors = load_file(folder / "state.safetensors")
            except (SafetensorError, OSError) as error:
                raise RunError(f"{folder} is damaged ({error}); delete it, or start again with --overwrite.") from error
            return State(tensors, json.loads((folder / "facts.json").read_text(encoding="utf-8")))
        return None

    def log(self, row: dict[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rewind_log(self, step: int) -> None:
        """Drops the lines after `step`, which a resumed run will write again."""
        file = self.path / "metrics.jsonl"
        if file.exists():
            write_text(file, "".join(f"{json.dumps(r)}\n" for r in self.metrics() if r["step"] <= step))

    def metrics(self) -> list[dict[str, Any]]:
        """The logged rows; a half-written last line (after a kill) is left out."""
        file = self.path / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def finish(self, write_model: Callable[[Path], None], lineage: dict[str, Any]) -> None:
        """Exports the model, writes the lineage (which marks the run finished) and drops the checkpoints."""
        if not machine.is_main():
            return
        temporary = self.path / "model.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_model(temporary)
        shutil.rmtree(self.model, ignore_errors=True)
        temporary.rename(self.model)
        write_text(self.path / "lineage.json", json.dumps(lineage, indent=2, default=str) + "\n")
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)


def optimizer_tensors(optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Every state tensor, named by optimiser, parameter position and key."""
    found: dict[str, Tensor] = {}
    for k, optimizer in enumerate(optimizers):
        for i, parameter in enumerate(_parameters(optimizer)):
            for key, value in optimizer.state.get(parameter, {}).items():
                found[f"{k}.{i}.{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return found


def restore_optimizer(optimizers: Sequence[Optimizer], tensors: dict[str, Tensor]) -> None:
    """Puts the tensors of `optimizer_tensors` back."""
    for name, tensor in tensors.items():
        k, i, key = name.split(".", 2)
        parameter = _parameters(optimizers[int(k)])[int(i)]
        device = torch.device("cpu") if key == "step" and parameter.device.type == "cpu" else parameter.device
        optimizers[int(k)].state[parameter][key] = tensor.to(device)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replaces a file's content atomically."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
