"""Whether the tags of sentences are of one scheme and their order is possible in it."""

from __future__ import annotations

__all__ = ["TagCheck"]

import re
from collections import Counter
from collections.abc import Sequence

_ENTITY = re.compile(r"([BIESLU])-.+")
_SHOWN = 10


class _Places:
    """All of them counted, the first ones kept."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(text)

    def listed(self) -> str:
        return "".join(f"\n  {text}" for text in self.first)


class TagCheck:
    """Sees sentences one by one and then knows the scheme (IOB1, IOB2, BIOES, plain) and what is wrong."""

    def __init__(self) -> None:
        self.tags: Counter[str] = Counter()
        self.entities: Counter[str] = Counter()
        self._first_seen: dict[str, str] = {}
        self._begun = {"B": _Places(), "I": _Places()}
        self._broken = _Places()

    def see(self, tags: Sequence[str], place: str) -> None:
        """Takes in the tags of one sentence; `place` says where it is."""
        self.tags.update(tags)
        for tag in tags:
            self._first_seen.setdefault(tag, place)
        inside = ""
        for position, (before, tag) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True), 1):
            where = f'{place}, word {position}: "{tag}" after "{before}"'
            self._see_start(before, tag, where)
            inside = self._see_order(inside, tag, where)

    def _see_start(self, before: str, tag: str, where: str) -> None:
        found = _ENTITY.fullmatch(tag)
        fresh = before[2:] != tag[2:]
        if found and found[1] in self._begun and fresh:
            self._begun[found[1]].add(where)
        if found and (found[1] in "BSU" or (found[1] == "I" and fresh)):
            self.entities[tag[2:]] += 1

    def _see_order(self, inside: str, tag: str, where: str) -> str:
        """Checks one step of BIOES; returns the type of the entity open after it, or an empty string."""
        letter, kind = (tag[0], tag[2:]) if _ENTITY.fullmatch(tag) else ("O", "")
        continues = letter in "IEL"
        if continues != bool(inside) or (continues and kind != inside):
            self._broken.add(where)
        return kind if letter in "BI" else ""

    @property
    def scheme(self) -> str:
        """``plain`` when tags mark no entities."""
        letters = {tag[0] for tag in self.tags if _ENTITY.fullmatch(tag)}
        if not letters:
            return "plain"
        if letters & set("ESLU"):
            return "BIOES"
        return "IOB1" if self._begun["I"].count > self._begun["B"].count else "IOB2"

    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong, with places."""
        found = []
        if len(self.tags) < 2:
            found.append(f"All words have the same tag ({next(iter(self.tags), 'none')}); nothing can be learnt.")
        if (scheme := self.scheme) == "plain":
            return found
        strange = [t for t in self.tags if t != "O" and not _ENTITY.fullmatch(t)]
        if strange:
            places = "".join(f'\n  {self._first_seen[t]}: "{t}"' for t in strange[:_SHOWN])
            found.append(
                f"{len(strange)} of {len(self.tags)} tags are neither O nor a letter of B, I, E, S (or L, U) "
                f"with a type, as in B-PER:{places}"
            )
        odd = self._odd_places(scheme)
        if odd.count:
            found.append(f"{odd.count:,} tags cannot stand where they are in {scheme}:{odd.listed()}")
        return found

    def _odd_places(self, scheme: str) -> _Places:
        return self._broken if scheme == "BIOES" else self._begun["B" if scheme == "IOB1" else "I"]
