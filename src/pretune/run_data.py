"""The data that a run was made from, where it still is: what trained it, and what its encoder was pre-trained on."""

from __future__ import annotations

__all__ = ["RunData", "labelled_data", "pool_data", "why_changed"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune import data as data_io
from pretune import registry
from pretune.checkpoint import lineage_of
from pretune.embedding import read_recipe
from pretune.errors import PretuneError
from pretune.progress import say


@dataclass(frozen=True)
class RunData:
    """A source and how to read it.

    Attributes:
        source: What the user named, or what a recipe does.
        columns: Column of each role, where it was named.
        modality: Specification of the modality that reads it.
    """

    source: Any
    columns: dict[str, str]
    modality: Any = "text"

    @property
    def facts(self) -> dict[str, Any]:
        """Source and fingerprint, for a file of facts."""
        named = str(self.source) if isinstance(self.source, str | Path) else "in memory"
        return {"data": named, "fingerprint": data_io.fingerprint(self.source)}


def labelled_data(
    run: Path, recipe: Mapping[str, Any], given: Any = None, columns: Mapping[str, str] | None = None
) -> RunData | None:
    """The labelled data of a fine-tuned run: what is given, or what it was trained on; None where that is gone (said).

    Args:
        run: The run directory.
        recipe: Its options.
        given: What the user names instead.
        columns: Columns that the user names, of `given`; otherwise those of the recipe count.
    """
    if given is not None:
        return RunData(given, dict(columns or {}), recipe.get("modality", "text"))
    task: Any = registry.build("task", recipe["task"])
    why = why_changed(recipe.get("data"), lineage_of(run).get("data", {}).get("train"), task.source)
    if why:
        say(f"without labelled records: the training data {why}; name it with --labelled")
        return None
    named = {role: c for role, c in (recipe.get("columns") or {}).items() if role != "group"}
    return RunData(recipe["data"], named, recipe.get("modality", "text"))


def pool_data(
    run: Path, recipe: Mapping[str, Any], given: Any = None, columns: Mapping[str, str] | None = None
) -> RunData | None:
    """The pre-training data of a run, or of the one that it started from; arguments as for `labelled_data`."""
    if given is not None:
        return RunData(given, dict(columns or {}), recipe.get("modality", "text"))
    lineage = lineage_of(run)
    if "objective" in recipe:
        origin, expected = dict(recipe), lineage.get("data", {}).get("train")
    else:
        origin, expected = _origin(lineage.get("parent") or {})
    if not origin:
        say("without a pool: this run did not start from one of pretrain that is still there; name data with --pool")
        return None
    why = why_changed(origin.get("data"), expected)
    if why:
        say(f"without a pool: the pre-training data {why}; name it with --pool")
        return None
    return RunData(origin["data"], dict(origin.get("columns") or {}), origin.get("modality", "text"))


def _origin(parent: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The recipe of the pre-training run that a run started from, if it did, and the fingerprint of its data."""
    try:
        found = read_recipe(Path(parent["source"])) if "source" in parent else {}
    except PretuneError:
        found = {}
    return found if "objective" in found else {}, parent.get("data", {}).get("train")


def why_changed(source: Any, expected: str | None, located: Callable[[Any], Any] = lambda source: source) -> str:
    """Why data that a recipe names cannot be taken for what its run saw; empty where it can.

    Args:
        source: What the recipe says.
        expected: The fingerprint in the lineage.
        located: `Task.source`, of labelled data.
    """
    if not isinstance(source, str) or source.startswith("in memory: "):
        return "was in memory and is not kept"
    try:
        found = data_io.fingerprint(located(source))
    except (PretuneError, OSError):
        return f'"{source}" is not there any more'
    return "" if found == expected else f'"{source}" has other content than it had then'
