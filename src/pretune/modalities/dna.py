"""DNA and RNA: bases, k-mers or byte-pair encoding, on one strand or both."""

from __future__ import annotations

__all__ = ["Dna"]

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from pretune.alphabets import DNA, Alphabet
from pretune.corruptions.base import Corruption
from pretune.data import DNA_COLUMNS
from pretune.errors import ConfigError, did_you_mean
from pretune.modalities.base import Example
from pretune.sequence_modality import SequenceModality

_TOKENIZERS = ("single", "kmer", "bpe")


class Dna(SequenceModality):
    """DNA or RNA (U is read as T); ambiguity codes and gaps are tokens of their own, soft masks are read as bases.

    Args:
        tokenizer: ``single`` bases, ``kmer`` (as the Nucleotide Transformer: kmer bases a token, side by side) or
            ``bpe`` (as DNABERT-2), learnt from the data.
        kmer: Bases a token of ``kmer``, 2 to 8.
        vocab_size: Entries of a learnt ``bpe`` vocabulary, a multiple of 64.
        max_length: Tokens of an example with its special tokens; what is longer loses its end and is counted.
        both_strands: Whether an unlabelled corpus has each sequence also as its reverse complement.
        reverse_complement: Whether labels hold for both strands: then training shows either at random, and
            predictions are the mean over both. Leave it off for what has a direction (splice sites, coding strand).
    """

    alphabet: ClassVar[Alphabet] = DNA
    inputs: ClassVar[Mapping[str, Sequence[str]]] = DNA_COLUMNS
    learnt: ClassVar[Sequence[str]] = ("tokenizer", "kmer", "vocab_size")
    unlabelled: ClassVar[Sequence[str]] = ("both_strands",)
    labelled: ClassVar[Sequence[str]] = ("reverse_complement",)

    def __init__(
        self,
        *,
        tokenizer: str = "single",
        kmer: int = 6,
        vocab_size: int = 1024,
        max_length: int = 256,
        both_strands: bool = True,
        reverse_complement: bool = False,
    ) -> None:
        if tokenizer not in _TOKENIZERS:
            listed, hint = ", ".join(_TOKENIZERS), did_you_mean(tokenizer, _TOKENIZERS)
            raise ConfigError(f'There is no tokenizer "{tokenizer}" of DNA; there are: {listed}.{hint}')
        if not 2 <= kmer <= 8:
            raise ConfigError(f"kmer must be from 2 to 8 bases, found {kmer}; for single bases give tokenizer single.")
        if tokenizer != "kmer" and kmer != 6:
            raise ConfigError(f"kmer has no effect with the tokenizer {tokenizer}; give --modality.tokenizer kmer.")
        if vocab_size <= 0 or vocab_size % 64:
            raise ConfigError(f"vocab_size must be a multiple of 64, found {vocab_size}.")
        super().__init__(max_length)
        self.tokenizer, self.kmer, self.vocab_size = tokenizer, kmer, vocab_size
        self.both_strands, self.reverse_complement = both_strands, reverse_complement
        self.replayable = not reverse_complement

    def corruptions(self) -> Sequence[Corruption]:
        """Substituted bases."""
        from pretune.corruptions.sequence import DNA_CORRUPTIONS

        return DNA_CORRUPTIONS

    def augment(self, examples: Sequence[Example], rng: np.random.Generator) -> list[Example]:
        """With reverse_complement, each example or its other strand, at even odds."""
        if not self.reverse_complement:
            return list(examples)
        turned = rng.random(len(examples)) < 0.5
        return [_turned(e) if t and "reverse" in e else e for t, e in zip(turned, examples, strict=True)]

    def views(self, examples: Sequence[Example]) -> list[list[Example]]:
        """With reverse_complement, the examples and their other strands."""
        both = self.reverse_complement and all("reverse" in e for e in examples)
        return [list(examples), [_turned(e) for e in examples]] if both else [list(examples)]


def _turned(example: Example) -> Example:
    return example | {"input_ids": example["reverse"]}
