"""Proteins: amino acids, one a token, in the alphabet of ESM."""

from __future__ import annotations

__all__ = ["Protein"]

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pretune.alphabets import PROTEIN, Alphabet
from pretune.corruptions.base import Corruption
from pretune.data import PROTEIN_COLUMNS
from pretune.sequence_modality import SequenceModality


class Protein(SequenceModality):
    """Amino-acid sequences in ESM's alphabet, so that its checkpoints continue (``--from facebook/esm2_t6_8M_UR50D``).

    B, Z, J, X, U, O, gaps and * (a stop) are tokens of their own; a checkpoint without J and * reads them as unknown.

    Args:
        max_length: Residues of an example and its two special tokens; what is longer loses its end and is counted.
    """

    alphabet: ClassVar[Alphabet] = PROTEIN
    inputs: ClassVar[Mapping[str, Sequence[str]]] = PROTEIN_COLUMNS

    def __init__(self, *, max_length: int = 512) -> None:
        super().__init__(max_length)

    def corruptions(self) -> Sequence[Corruption]:
        """Substituted residues."""
        from pretune.corruptions.sequence import PROTEIN_CORRUPTIONS

        return PROTEIN_CORRUPTIONS
