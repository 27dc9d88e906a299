"""A finished run to look into: its model, the weights that it started from, and random ones of the same shape."""

from __future__ import annotations

__all__ = ["Inspected", "Start", "look_into", "weights_of"]

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModel, PreTrainedModel

from pretune import encoder, machine, registry
from pretune.checkpoint import lineage_of
from pretune.drift import cosine
from pretune.errors import ModelError, PretuneError, RunError, similar
from pretune.modalities.base import Modality
from pretune.objectives.base import Objective
from pretune.predicting import load
from pretune.tasks.base import Task
from pretune.weight_swap import Weights, encoder_weights, fitting

_UNRELATED = 0.05
"""Cosine to rebuilt first weights below which they cannot have been the first ones."""


@dataclass(frozen=True)
class Start:
    """Weights that training began with.

    Attributes:
        name: Whose they are, in words.
        weights: Of the encoder.
        random: Whether nothing had been learnt yet.
    """

    name: str
    weights: Weights
    random: bool


@dataclass
class Inspected:
    """A run.

    Attributes:
        model: With the trained weights; whole, with its head, if fine-tuned.
        task: Of a fine-tuned run.
        start: None where it is not there any more.
        random: Weights of the same architecture that have seen nothing.
        notes: What could not be done, in sentences.
    """

    path: Path
    recipe: dict[str, Any]
    facts: dict[str, Any]
    model: PreTrainedModel
    modality: Modality
    task: Task | None
    random: Weights
    start: Start | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def verb(self) -> str:
        """``pretrain`` or ``finetune``."""
        return str(self.recipe["verb"])

    @property
    def learnt_by(self) -> str:
        """What training is called here."""
        return "fine-tuned" if self.verb == "finetune" else "pre-trained"


def look_into(run: str | Path) -> Inspected:
    """Loads a finished run and what it started from.

    Raises:
        RunError: It is no finished run of `pretrain` or `finetune`.
        ModelError: Its weights are missing or damaged.
    """
    path = Path(run)
    recipe, facts = _papers(path)
    if recipe["verb"] == "finetune":
        predictor = load(path, precision="fp32")
        model, modality, task = predictor.task.model, predictor.modality, predictor.task
    else:
        modality, task = registry.build("modality", recipe["modality"]), None
        modality.load(str(path / "model"))
        model = _encoder(path)
    found = Inspected(path, recipe, facts, model, modality, task, random=_first_weights(recipe, model, modality, task))
    found.start = _start(found)
    return found


def weights_of(run: str | Path, like: Inspected) -> tuple[Weights, Inspected]:
    """The encoder's weights of another run, which must be of the same architecture.

    Raises:
        ModelError: It is of another one.
    """
    other = look_into(run)
    weights, own = encoder_weights(other.model), encoder_weights(like.model)
    odd = sorted(n for n in own.keys() | weights.keys() if n not in fitting(weights, like.model))
    if odd:
        raise ModelError(
            f'"{run}" is of another architecture than "{like.path}" ({odd[0]} differs); compare runs of one encoder.'
        )
    return weights, other


def _papers(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe and the lineage of a finished run."""
    recipe_file, facts_file = path / "recipe.yaml", path / "lineage.json"
    if not path.is_dir():
        raise RunError(f'"{path}" does not exist or is no folder; give a run of pretrain or finetune.{similar(path)}')
    if not recipe_file.is_file():
        raise RunError(f'"{path}" has no recipe.yaml; give a run directory that pretrain or finetune wrote.')
    if not facts_file.is_file() or not (path / "model" / "config.json").is_file():
        raise RunError(f'"{path}" is a run that has not finished (it has no model yet); repeat its command first.')
    try:
        recipe = yaml.safe_load(recipe_file.read_text(encoding="utf-8"))
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise RunError(f'The recipe.yaml or lineage.json of "{path}" is damaged ({type(error).__name__}).') from error
    if not isinstance(recipe, dict) or recipe.get("verb") not in ("pretrain", "finetune"):
        raise RunError(f'"{path}" is a run of neither pretrain nor finetune; its recipe names no such verb.')
    return recipe, facts


def _encoder(source: str | Path) -> PreTrainedModel:
    model: Any
    model, _ = encoder.make(AutoModel, source)
    machine.fast_model(model)
    found: PreTrainedModel = model.to(machine.device())
    return found


def _first_weights(
    recipe: dict[str, Any], model: PreTrainedModel, modality: Modality, task: Task | None
) -> dict[str, torch.Tensor]:
    """Random weights of the architecture, drawn as the run itself drew them if it began from scratch."""
    config = copy.deepcopy(model.config)
    with torch.random.fork_rng():
        torch.manual_seed(int(recipe.get("seed") or 0))
        if task is not None:
            built, _ = encoder.make(task.auto_class_for(modality.kind), config)
        elif recipe.get("from"):
            built, _ = encoder.make(AutoModel, config)
        else:  # objectives may set a part of it up themselves, as the positions of `mae`
            objective: Objective = registry.build("objective", recipe["objective"])
            begun, _ = encoder.make(objective.auto_class(config.model_type), config)
            objective.setup(begun, modality)
            built = objective.export()
    own = encoder_weights(model)
    return {n: w.to(own[n].device) for n, w in fitting(encoder_weights(built), model).items()}


def _start(run: Inspected) -> Start | None:
    parent = run.facts.get("parent")
    if parent is None or run.facts.get("scratch"):
        return _random_start(run)
    source = str(parent["source"])
    trained_anew = (
        lineage_of(Path(source)).get("finished") not in (None, parent.get("finished")) and "finished" in parent
    )
    try:
        if trained_anew:
            raise ModelError("it has been trained anew since")
        weights = encoder_weights(_encoder(source))
    except PretuneError as error:
        run.notes.append(f'It started from "{source}", which cannot be compared with: {error}')
        return None
    return Start(source, fitting(weights, run.model), random=False)


def _random_start(run: Inspected) -> Start | None:
    weights, now = dict(run.random), encoder_weights(run.model)
    if run.verb == "pretrain" and run.recipe.get("init") != "random" and run.modality.words:
        # made from counts of words before the first step, and left as they are by pre-training
        base: Any = run.model.base_model
        words = base.get_input_embeddings().weight
        weights |= {n: now[n] for n, p in base.named_parameters() if p is words}
    if cosine({n: w for n, w in weights.items() if w is not now[n]}, now) < _UNRELATED:
        run.notes.append(
            "The random weights that it started from cannot be made again (other versions of torch or transformers?); "
            "how far its weights moved is not known."
        )
        return None
    return Start(f"its random start (seed {run.recipe.get('seed')})", weights, random=True)
