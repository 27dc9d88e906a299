"""Letters (or k-mers, or byte pairs) of a DNA or protein record: explanations of sequences are about these."""

from __future__ import annotations

__all__ = ["Letters", "ShuffledLetters", "Tokens", "letters_of"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pretune.dinucleotide_shuffle import dinucleotide_shuffle
from pretune.modalities.base import Example
from pretune.perturbing import WORDS
from pretune.sequence_explanation import SequenceExplanation
from pretune.sequence_modality import SequenceModality
from pretune.tasks.base import Task
from pretune.words import Words, tagged_words

_SHUFFLES = 5


@dataclass(frozen=True)
class Letters(Words):
    """The letters of one sequence and the one row of tokens that holds them, as `Words`.

    Attributes:
        alphabet: ``DNA`` or ``protein``.
        both_strands: Whether predictions are the mean over both strands; the row is the forward one.
    """

    noun: ClassVar[str] = "letters"

    alphabet: str = "DNA"
    both_strands: bool = False

    def explanation(self, scores: Tensor | None, **common: Any) -> SequenceExplanation:
        """The letters with their scores."""
        return SequenceExplanation(
            words=self.texts,
            scores=[0.0] * len(self) if scores is None else self.merged(scores),
            gaps=[""] * len(self),
            span=None if self.span is None else (self.span[0] - self.first, self.span[1] - self.first),
            num_unread=self.num_unread,
            first=self.first,
            alphabet=self.alphabet,
            both_strands=self.both_strands,
            **common,
        )

    def shuffled(self, seed: int) -> ShuffledLetters:
        """The same letters, hidden behind those of shuffled sequences."""
        return ShuffledLetters(**vars(self), seed=seed)


@dataclass(frozen=True)
class ShuffledLetters(Letters):
    """Letters that are hidden behind those at their place in dinucleotide shuffles of the same sequence.

    The mask token is new to a model that was trained from scratch on labels alone: its answer to many masks may fall
    whatever they hide. Shuffles keep the composition and look like sequences.

    Attributes:
        seed: Of the shuffles.
    """

    seed: int = 0

    def hiding(self, task: Task, hidden: Sequence[frozenset[int]]) -> Tensor:
        """Token ids, (variants * 5, tokens): of each set of letters five shuffles, side by side."""
        place, ids = self.of_token, self.batch["input_ids"][0]
        rng = np.random.default_rng(self.seed)
        shuffles = ids.repeat(_SHUFFLES, 1)
        own = [int(i) for i in ids[place >= 0]]
        shuffles[:, place >= 0] = torch.tensor([dinucleotide_shuffle(own, rng) for _ in range(_SHUFFLES)])
        variants: Tensor = torch.where(self.covered(hidden)[:, None], shuffles[None], ids)
        return variants.flatten(0, 1)

    def answers(self, task: Task, hidden: Sequence[frozenset[int]], of: object) -> list[float]:
        """The target's probability with each set hidden, mean over the shuffles."""
        found = np.array(super().answers(task, hidden, of))
        means: list[float] = found.reshape(len(hidden), _SHUFFLES).mean(1).tolist()
        return means


@dataclass(frozen=True)
class Tokens(Letters):
    """Tokens of several letters."""

    noun: ClassVar[str] = "tokens"


def letters_of(task: Task, record: Mapping[str, Any], example: Example, span: tuple[int, int] | None = None) -> Letters:
    """Finds the letters of a record, or its tokens of several letters.

    Args:
        task: With a modality of sequences.
        record: By role: ``sequence``.
        example: The processed record.
        span: First and last + 1 letter that the explanation is about; chooses the window of a long sequence.
    """
    modality = task.modality
    assert isinstance(modality, SequenceModality)
    facts: dict[str, Any] = {"span": span, "alphabet": modality.alphabet.name}
    if "words" in example:
        found = tagged_words(example, task.collate([example]), span)
        texts = [letter.upper() for letter in found.texts]
        return Letters(texts, [], [], found.batch, found.num_unread, found.first, **facts)
    sequence = modality.alphabet.clean(record["sequence"])
    texts = _texts(modality, sequence, example["input_ids"][1:-1])
    place = torch.tensor([[-1, *range(len(texts)), -1]])
    unread = len(sequence) - sum(map(len, texts))
    kind = Letters if modality.letters else Tokens
    batch = task.collate([example]) | {WORDS: place}
    return kind(texts, [], [], batch, unread, both_strands=modality.reverse_complement, **facts)


def _texts(modality: SequenceModality, sequence: str, ids: Sequence[int]) -> list[str]:
    """The letters of each token; what is unknown to the tokenizer is one letter."""
    special, texts, at = set(modality.hf.all_special_ids), [], 0
    for i, token in zip(ids, modality.hf.convert_ids_to_tokens(list(ids)), strict=True):
        size = 1 if i in special else len(token)
        texts.append(sequence[at : at + size])
        at += size
    return texts
