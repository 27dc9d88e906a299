"""Words of a record that tags are given to."""

from __future__ import annotations

__all__ = ["split_words", "words_in"]

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune.errors import DataError
from pretune.modalities.base import Example

_WORD = re.compile(r"\w+(?:[-'’.,/:]\w+)*|[^\w\s]")


def split_words(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Words and punctuation marks with character offsets; ``1996-08-22`` and ``don't`` are one word."""
    found = list(_WORD.finditer(text))
    return [m.group() for m in found], [m.span() for m in found]


def words_in(record: Mapping[str, Any]) -> Example:
    """``words`` of a sequence (its letters), of tokens or of text, there with ``offsets``.

    Raises:
        DataError: None of these, or no word.
    """
    if isinstance(record.get("sequence"), str):
        return {"words": list(record["sequence"].strip())}
    tokens, text = record.get("tokens"), record.get("text")
    if isinstance(tokens, str):
        tokens = tokens.split()
    if isinstance(tokens, list | tuple | np.ndarray):
        row: Example = {"words": [str(word) for word in tokens]}
    elif isinstance(text, str):
        words, offsets = split_words(text)
        row = {"words": words, "offsets": offsets}
    else:
        raise DataError("A record for tagging needs words (tokens) or text, found neither; remove it.")
    if not row["words"]:
        raise DataError("A record for tagging has no words; remove it.")
    return row
