"""The letters of DNA and proteins, and what is done with those that a sequence may have beside the usual ones."""

from __future__ import annotations

__all__ = ["ALPHABETS", "DNA", "PROTEIN", "Alphabet", "reverse_complement"]

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pretune.errors import DataError


@dataclass(frozen=True)
class Alphabet:
    """Letters of one sort of sequence; case carries no meaning here (soft-masked letters are read as the others).

    Attributes:
        name: For messages.
        standard: The letters proper, in the order of the vocabulary.
        others: Ambiguity codes, unusual residues, gaps and stops, which are kept as letters of their own.
        folded: Letters that are read as another one.
    """

    name: str
    standard: str
    others: str
    folded: Mapping[str, str] = field(default_factory=dict)

    @property
    def legal(self) -> str:
        """All letters that may stand in a sequence, as capitals."""
        return self.standard + "".join(self.folded) + self.others

    @cached_property
    def _illegal(self) -> re.Pattern[str]:
        return re.compile(f"[^{re.escape(self.standard + self.others)}]")

    @cached_property
    def _table(self) -> dict[int, str]:
        return str.maketrans(dict(self.folded))

    def clean(self, text: object) -> str:
        """A sequence in capital letters, without white space at its ends.

        Raises:
            DataError: No text, nothing in it, or a letter that no sequence of this sort has; says which and where.
        """
        if not isinstance(text, str):
            raise DataError(f"A {self.name} sequence was expected, found {text!r}; remove the row or name its column.")
        found = text.strip().upper().translate(self._table)
        if not found:
            raise DataError(f"A {self.name} sequence was expected, found nothing; remove the row.")
        if found.startswith(">"):
            raise DataError('Found ">", with which a name in FASTA begins; give the file an ending of FASTA (.fasta).')
        if bad := self._illegal.search(found):
            what = "white space" if bad.group().isspace() else f'"{bad.group()}"'
            raise DataError(
                f"Found {what} at position {bad.start() + 1}, which is no letter of a {self.name} sequence "
                f"({self.standard}, or {self.others}); correct or remove it."
            )
        return found


DNA = Alphabet("DNA", "ACGT", "NRYSWKMBDHV-.", {"U": "T"})
"""Bases, then IUPAC's ambiguity codes and gaps; RNA's U is read as T."""

PROTEIN = Alphabet("protein", "LAGVSERTIDPKQNFYMHWC", "XBUZO.-J*")
"""The 20 amino acids in ESM's order; unknown, ambiguous (B, Z, J) and rare ones (U, O), gaps, and * where a stop is."""

ALPHABETS = {alphabet.name: alphabet for alphabet in (DNA, PROTEIN)}
"""By name."""

_COMPLEMENT = str.maketrans("ACGTNRYSWKMBDHV", "TGCANYRSWMKVHDB")


def reverse_complement(sequence: str) -> str:
    """The other strand of DNA in capital letters, read from its own start; ambiguity codes become their complements."""
    return sequence.translate(_COMPLEMENT)[::-1]
