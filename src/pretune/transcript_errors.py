"""Word and character error rates, from the edits of each recording."""

from __future__ import annotations

__all__ = ["Edits", "edits", "rates", "word_mistake", "words_right"]

from collections.abc import Sequence
from typing import TypeAlias

import jiwer
import numpy as np
from numpy.typing import NDArray

Edits: TypeAlias = NDArray[np.int64]
"""For each recording: edits and length in words, edits and length in characters; (recordings, 4)."""


def edits(truth: Sequence[str], found: Sequence[str]) -> Edits:
    """Least substitutions, deletions and insertions that turn each text into its truth.

    Args:
        truth: Texts that are not empty.
        found: As many texts.
    """
    rows = []
    for wanted, heard in zip(truth, found, strict=True):
        words = jiwer.process_words(wanted, heard)
        characters = jiwer.process_characters(wanted, heard)
        rows.append([_edits(words), _length(words), _edits(characters), _length(characters)])
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _edits(found: jiwer.WordOutput | jiwer.CharacterOutput) -> int:
    return int(found.substitutions + found.deletions + found.insertions)


def _length(found: jiwer.WordOutput | jiwer.CharacterOutput) -> int:
    return int(found.substitutions + found.deletions + found.hits)


def rates(rows: Edits) -> dict[str, float]:
    """``char_accuracy``, ``wer``, ``cer`` and the share of recordings that are ``exact``."""
    words, num_words, characters, num_characters = rows.sum(0).tolist()
    cer = characters / max(1, num_characters)
    wer = words / max(1, num_words)
    return {"char_accuracy": 1 - cer, "wer": wer, "cer": cer, "exact": float((rows[:, 2] == 0).mean())}


def words_right(truth: str, heard: str) -> list[float]:
    """1 for each word that was heard and said, in the alignment of least edits, 0 for the others."""
    found = [0.0] * len(heard.split())
    for part in jiwer.process_words(truth, heard).alignments[0]:
        if part.type == "equal":
            found[part.hyp_start_idx : part.hyp_end_idx] = [1.0] * (part.hyp_end_idx - part.hyp_start_idx)
    return found


def word_mistake(truth: str, heard: str) -> tuple[str, int] | None:
    """The first word that was not said; see `Task.mistake`."""
    words = heard.split()
    for part in jiwer.process_words(truth, heard).alignments[0] if truth.strip() else []:
        if part.type in ("substitute", "insert"):
            said = " ".join(truth.split()[part.ref_start_idx : part.ref_end_idx])
            where = f'where "{said}" was said' if said else "where no word was said"
            return f'It hears "{words[part.hyp_start_idx]}" {where}.', part.hyp_start_idx
    return None
