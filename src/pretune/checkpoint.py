"""The run directory: recipe, metrics, checkpoints that survive a kill at any moment, and the exported model.

OUT/recipe.yaml      every option, resolved; `--config OUT/recipe.yaml` repeats the run
OUT/metrics.jsonl    one line a logged step
OUT/checkpoints/     the last complete state, and a folder for each of several trainings, until the run is finished
OUT/model/           Hugging Face directory
OUT/calibration.json what `pretune calibrate` found out about the finished run, if it was asked
OUT/lineage.json     parent, data fingerprints, versions, seed, git, wall time; written last: the run is finished
"""

from __future__ import annotations

__all__ = ["RunDirectory", "State", "lineage_of", "optimizer_tensors", "replacing", "restore_optimizer", "write_text"]

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from pretune import machine
from pretune.errors import RunError

_FREE_TO_CHANGE = ("out", "overwrite", "tracker", "checkpoint_every")
_OWN = (
    *("recipe.yaml", "lineage.json", "metrics.jsonl", "test.json", "seeds.json", "calibration.json"),
    *("checkpoints", "modality", "model", "neighbours", "seeds", "tracker"),
    *("inspection.json", "inspection"),
)
"""What a run writes, and all that replacing one removes."""


@dataclass
class State:
    """A checkpoint: tensors by name, and JSON-able facts."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    def take(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a prefix, without it."""
        return {n[len(prefix) :]: t for n, t in self.tensors.items() if n.startswith(prefix)}


def lineage_of(path: Path) -> dict[str, Any]:
    """What lineage.json of a run directory says; empty where there is none."""
    file = path / "lineage.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


class RunDirectory:
    """One run's files.

    Args:
        path: The directory given as ``--out``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.model = self.path / "model"

    def check(self, recipe: dict[str, Any], *, data: Mapping[str, str] = {}, overwrite: bool = False) -> bool:
        """Finds out, without a change on disk, what `open` would do.

        Args:
            recipe: Every option, resolved.
            data: Fingerprint of each data source by role.
            overwrite: Whether a finished run, or one with other options, may be replaced.

        Returns:
            Whether there is an unfinished run with these options and data, to go on with.

        Raises:
            RunError: It holds a finished run, or an unfinished one with other options, or foreign files.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, and a run is a folder; give another --out.")
        if recipe.get("from") and self.path.resolve() == Path(recipe["from"]).resolve():
            raise RunError(f"{self.path} is what is started from, and would be replaced; give another --out.")
        earlier, foreign = self._recipe(), self._foreign()
        if earlier is None and not foreign:
            return False
        if earlier is None:
            left = ", so --overwrite leaves it alone" if overwrite else ""
            raise RunError(f"{self.path} exists and is not a pretune run{left}; give another --out.")
        if self.finished and not overwrite:
            raise RunError(f"{self.path} holds a finished run; give another --out, or --overwrite to replace it.")
        changes = self._changes(earlier, recipe) + self._changed_data(data)
        if changes and not overwrite and self._begun():
            raise RunError(
                f"{self.path} holds an unfinished run with other options ({', '.join(changes)}); repeat the same "
                "command to go on, or give --overwrite or another --out."
            )
        return not changes and not self.finished

    def open(self, recipe: dict[str, Any], *, data: Mapping[str, str] = {}, overwrite: bool = False) -> State | None:
        """Claims the directory for a run, and returns the state to resume from, if there is one.

        Arguments and errors are those of `check`; what cannot be gone on with is removed.
        """
        continues = self.check(recipe, data=data, overwrite=overwrite)
        if not machine.is_main():
            return self._latest()
        try:
            if not continues:
                self._remove_run()
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            write_text(self.path / "checkpoints" / "data.json", json.dumps(dict(data)))
            write_text(self.path / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        except OSError as error:
            raise RunError(f"Cannot write into {self.path}: {error.strerror}; give another --out.") from error
        return self._latest()

    @property
    def finished(self) -> bool:
        """Whether the model is exported and nothing is left to do."""
        return (self.path / "lineage.json").exists()

    def done(self, recipe: dict[str, Any], data: Mapping[str, str]) -> dict[str, Any] | None:
        """The lineage of a finished run with these options and data, else None."""
        earlier = self._recipe() if self.finished else None
        if earlier is None or self._changes(earlier, recipe):
            return None
        found = lineage_of(self.path)
        return found if found.get("data") == data else None

    def _recipe(self) -> dict[str, Any] | None:
        """Of an earlier run, or None; other programs have files of this name too."""
        file = self.path / "recipe.yaml"
        if not file.exists():
            return None
        try:
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            found = None
        ours = isinstance(found, dict) and ("verb" in found or (self.path / "checkpoints").is_dir())
        return found if ours else None

    def _foreign(self) -> bool:
        """Whether a folder without a recipe holds more than a kill while it was made can leave."""
        left = ("checkpoints", ".recipe.yaml.tmp")
        return self.path.is_dir() and any(f.name not in left for f in self.path.iterdir())

    def _remove_run(self) -> None:
        for found in self._own():
            shutil.rmtree(found) if found.is_dir() else found.unlink(missing_ok=True)

    def _own(self) -> list[Path]:
        """All files of an earlier run; what else is in the folder is left alone."""
        if self._recipe() is None:
            return []
        return [self.path / name for name in _OWN] + list(self.path.glob("failed-step-*.safetensors"))

    def _changes(self, earlier: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
        now = yaml.safe_load(yaml.safe_dump(recipe))
        keys = sorted((earlier.keys() | now.keys()) - set(_FREE_TO_CHANGE))
        return [f"{k} was {earlier.get(k)} and is now {now.get(k)}" for k in keys if earlier.get(k) != now.get(k)]

    def _changed_data(self, data: Mapping[str, str]) -> list[str]:
        file = self.path / "checkpoints" / "data.json"
        earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else data
        return [f"the {role} data has other content" for role in data if earlier.get(role) != data[role]]

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

    def _begun(self) -> bool:
        """Whether there is work that a repeated command would go on with: a state, or one of several trainings."""
        return any(f.is_dir() and f.suffix != ".tmp" for f in (self.path / "checkpoints").glob("*"))

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
        if tensor.shape == parameter.shape:  # laid out as the parameter, as the fused optimiser expects
            tensor = torch.empty_like(parameter, dtype=tensor.dtype, device=device).copy_(tensor)
        optimizers[int(k)].state[parameter][key] = tensor.to(device)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: str | Path) -> Iterator[TextIO]:
    """A file that appears, or replaces an earlier one, only when it is complete.

    A link stays a link to what is written; a pipe or a device is written to as it is.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        with target.open("w", encoding="utf-8") as stream:
            yield stream
        return
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            yield stream
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a file's content atomically."""
    with replacing(path) as stream:
        stream.write(text)
