"""How the tags of words mark entities: IOB1, IOB2, BIOES, and all of them as IOB2."""

from __future__ import annotations

__all__ = ["ENTITY", "Scheme", "detect_scheme", "spans_of", "to_iob2"]

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from pretune.errors import DataError

ENTITY = re.compile(r"([BIESLU])-(.+)")
"""The letter of the scheme and the type."""

Scheme = Literal["IOB1", "IOB2", "BIOES", "plain"]


def detect_scheme(sequences: Iterable[Sequence[str]]) -> Scheme:
    """How tags mark entities; ``plain`` when they are not all ``O`` or ``<letter of BIESLU>-<type>``.

    Raises:
        DataError: Some entities begin with I- after O, as in IOB1, and others with B-, as in IOB2.
    """
    rows = [list(row) for row in sequences]
    kinds = {tag for row in rows for tag in row}
    if not all(tag == "O" or ENTITY.fullmatch(tag) for tag in kinds):
        return "plain"
    if any(tag[0] in "ESLU" and tag != "O" for tag in kinds):
        return "BIOES"
    begun: dict[str, str] = {}
    for row in rows:
        for before, tag in zip(["O", *row], row, strict=False):
            if tag != "O" and before[2:] != tag[2:]:
                begun.setdefault(tag[0], tag)
    if len(begun) > 1:
        raise DataError(
            f'Tags fit neither IOB1 nor IOB2: some entities begin with "{begun["I"]}" and others with "{begun["B"]}"; '
            "begin all with B- (IOB2). `pretune check --task tagging` names the rows."
        )
    return "IOB1" if "I" in begun else "IOB2"


def to_iob2(tags: Sequence[str]) -> list[str]:
    """One sentence's tags in IOB1, IOB2, BIOES or BILOU as IOB2; other tags are given back as they are.

    Raises:
        DataError: Entities that end before they begin, or the like.
    """
    scheme = detect_scheme([tags])
    if scheme == "BIOES":
        return _from_bioes(tags)
    if scheme != "IOB1":
        return list(tags)
    before = ["O", *tags]
    return [f"B{t[1:]}" if t[0] == "I" and b[2:] != t[2:] else t for b, t in zip(before, tags, strict=False)]


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, first and last + 1 word of the entities of strict IOB2; an I- without its B- begins none."""
    found: list[tuple[str, int, int]] = []
    for i, tag in enumerate(tags):
        if tag[0] == "B":
            found.append((tag[2:], i, i + 1))
        elif tag[0] == "I" and found and found[-1][2] == i and found[-1][0] == tag[2:]:
            found[-1] = (found[-1][0], found[-1][1], i + 1)
    return found


def _from_bioes(tags: Sequence[str]) -> list[str]:
    out, inside = [], ""
    for position, tag in enumerate([*tags, "O"]):
        letter, kind = ("O", "") if tag == "O" else (tag[0], tag[2:])
        continues = letter in "IEL"
        if continues != bool(inside) or (continues and kind != inside):
            found = f'"{tag}"' if position < len(tags) else "the end"
            raise DataError(f"Tags are no valid BIOES: {found} at word {position + 1} follows {_after(inside)}.")
        inside = kind if letter in "BI" else ""
        out.append("O" if tag == "O" else f"{'I' if continues else 'B'}-{kind}")
    return out[:-1]


def _after(inside: str) -> str:
    return f"an open entity {inside}" if inside else "no open entity"
