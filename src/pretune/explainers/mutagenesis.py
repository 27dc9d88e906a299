"""In-silico mutagenesis: how the target changes when a letter of a sequence is replaced by each other one."""

from __future__ import annotations

__all__ = ["Mutagenesis"]

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pretune.errors import ConfigError
from pretune.explainers.base import Explainer
from pretune.modalities.base import Batch
from pretune.perturbing import MAX_TOKENS, per_pass, variant_logits, word_groups
from pretune.sequence_modality import SequenceModality
from pretune.tasks.base import Task


class Mutagenesis(Explainer):
    """Every single substitution (Zhou & Troyanskaya 2015; Alipanahi et al. 2015), one pass each.

    A letter's score is the target of the record minus the mean target over its substitutions by the other standard
    letters: A C G T, or the 20 amino acids. No mask is needed, so that the model sees only sequences.

    Args:
        drop: What a letter's score is: the ``mean`` fall of the target over its substitutions, or the largest, ``max``.
        max_tokens: Most tokens in one pass of the model, which bounds memory.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __init__(self, *, drop: Literal["mean", "max"] = "mean", max_tokens: int = MAX_TOKENS) -> None:
        if max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, found {max_tokens}.")
        if drop not in ("mean", "max"):
            raise ConfigError(f'drop is "mean" or "max", found "{drop}".')
        self.drop = drop
        self.max_tokens = max_tokens
        self._letters: list[str] = []
        self._changes = torch.zeros(0, 0)

    def check(self, task: Task) -> None:
        """Raises ConfigError unless the task reads sequences letter by letter."""
        modality = task.modality
        if not isinstance(modality, SequenceModality):
            raise ConfigError(
                f"mutagenesis replaces letters of DNA and proteins, and this run reads {modality.name}; use occlusion."
            )
        if not modality.letters:
            raise ConfigError(
                f"mutagenesis needs a token a letter, and the tokens of this run are {modality.tokenizer}; use "
                "occlusion, or fine-tune with --modality.tokenizer single."
            )

    def scores(self, task: Task, batch: Batch, *, of: Any = None) -> Tensor:
        """Fall of the target over substitutions, (tokens,); special ones 0. See `details` for each substitution."""
        self.check(task)
        words = word_groups(batch, set(task.modality.hf.all_special_ids))  # type: ignore[attr-defined]
        places = torch.nonzero(words.cpu() >= 0)[:, 0]
        own = batch["input_ids"][0].cpu()[places]
        self._letters, ids = _substitutes(task)
        changes = self._changes_of(task, batch, places, ids, of)
        other = own[:, None] != ids[None]
        self._changes = torch.where(other, changes, 0.0)
        falls = -self._changes
        if self.drop == "mean":
            found = falls.sum(1) / other.sum(1)
        else:
            found = falls.masked_fill(~other, -torch.inf).max(1).values
        scores = torch.zeros(len(words))
        scores[places] = found
        return scores

    def _changes_of(self, task: Task, batch: Batch, places: Tensor, ids: Tensor, of: Any) -> Tensor:
        """Target with each letter at each place minus the record's, (places, letters)."""
        row = batch["input_ids"][0].to(task.device)

        def targets(variants: Tensor) -> Tensor:
            return task.target(variant_logits(task, batch, variants, self.max_tokens), batch, of=of).float().cpu()

        found = []
        where, what = places.repeat_interleave(len(ids)), ids.repeat(len(places))
        size = per_pass(task, batch, self.max_tokens)
        for at, letter in zip(where.split(size), what.split(size), strict=True):
            variants = row.repeat(len(at), 1)
            variants[torch.arange(len(at)), at] = letter.to(row.device)
            found.append(targets(variants))
        changes = torch.cat(found) if found else torch.zeros(0)
        return changes.reshape(len(places), len(ids)) - targets(row[None])

    def details(self) -> dict[str, Any]:
        """``substitutes`` and ``mutations`` (letters, substitutes): change of the target by each substitution."""
        return {"substitutes": self._letters, "mutations": self._changes.tolist()}


def _substitutes(task: Task) -> tuple[list[str], Tensor]:
    """Standard letters that are one token, in the order of the alphabet, and their ids (letters,)."""
    modality = task.modality
    assert isinstance(modality, SequenceModality)
    known = modality.hf.get_vocab()
    letters = [c for c in modality.alphabet.standard if c in known]
    return letters, torch.tensor([known[c] for c in letters])
