"""Which column plays which role, and whether its values can."""

from __future__ import annotations

__all__ = ["FILE_ROLES", "SPEAKER_COLUMNS", "Columns", "check_roles", "preferring"]

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pretune import audio_reading
from pretune.errors import ConfigError, DataError, did_you_mean, shortened
from pretune.image_reading import packed, packed_mask

_PAIRS = {
    "text_pair": "text",
    "sentence2": "sentence1",
    "hypothesis": "premise",
    "question2": "question1",
    "text2": "text1",
    "text_b": "text_a",
}
"""A usual second column, and the first column that it belongs to."""

_TEXTS = ("text", "text_pair", "sequence")
_WORDS = ("tokens", "tags")
_OBJECTS = ("objects",)

FILE_ROLES = ("image", "mask", "audio")
"""Roles whose values are files: paths, or their content."""

SPEAKER_COLUMNS = ("speaker", "speaker_id", "actor", "client_id", "spk")
"""Usual names of the column of who speaks."""


def check_roles(columns: Mapping[str, str] | None, roles: Collection[str]) -> None:
    """Rejects columns of roles that nothing would read.

    Raises:
        ConfigError: A role that is not in `roles`.
    """
    for role in columns or {}:
        if role not in roles:
            listed = ", ".join(f"--{r}_column" for r in roles)
            raise ConfigError(f"--{role}_column has no effect here; there are: {listed}.{did_you_mean(role, roles)}")


def preferring(roles: Mapping[str, Sequence[str]], named: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """Usual column names of each role, after the one that it had before."""
    return {role: (named[role], *names) if role in named else names for role, names in roles.items()}


class Columns:
    """Names the columns of a row by role and checks the values.

    Args:
        roles: Usual column names of each role, best first; found without regard to case.
        columns: The column of a role where the user named it; its roles need not be in `roles`.
        required: Roles that must have a column and a value in every row.
        empty: Required values may still be empty or null (corpora skip and count them).
    """

    def __init__(
        self,
        roles: Mapping[str, Sequence[str]],
        columns: Mapping[str, str] = {},
        required: Collection[str] = (),
        *,
        empty: bool = False,
    ) -> None:
        self._roles, self._columns, self._empty = roles, columns, empty
        self._required = set(required)
        self._chosen: dict[str, str] = {}
        self._by_keys: dict[tuple[str, ...], dict[str, str]] = {}
        self._fixed = False

    def choose(self, present: Sequence[str], place: str, hint: str = "") -> dict[str, str]:
        """Chooses the columns of a table whose rows all have the same; returns role -> column.

        Raises:
            DataError: A required or explicitly named column is missing; lists those present.
        """
        try:
            self._chosen = self._match(present)
        except ValueError as bad:
            raise DataError(f"{place} {bad}{hint}") from bad
        self._fixed = True
        return self._chosen

    def record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row's values by role.

        Raises:
            ValueError: A column is missing or a value cannot be used; the message is the reason alone.
        """
        chosen = self._chosen if self._fixed else self._of_keys(tuple(row))
        found = {role: self._value(role, column, row.get(column)) for role, column in chosen.items()}
        tokens, tags = found.get("tokens"), found.get("tags")
        if tokens is not None and tags is not None and len(tokens) != len(tags):
            raise ValueError(f"expected a tag for each token, found {len(tokens)} tokens and {len(tags)} tags.")
        return found

    def _of_keys(self, keys: tuple[str, ...]) -> dict[str, str]:
        """Rows that name their own columns: a role keeps the column that it had in the rows before."""
        if keys not in self._by_keys:
            for role, column in self._chosen.items():
                if column not in keys and role in self._required:
                    raise ValueError(f'has no "{column}" ({role}) as the rows before; {_listed(keys)}.')
            found = self._match(keys)
            for role, column in found.items():
                self._chosen.setdefault(role, column)
            self._by_keys[keys] = {role: c for role, c in found.items() if self._chosen[role] == c}
        return self._by_keys[keys]

    def _match(self, present: Sequence[str]) -> dict[str, str]:
        named = {role: self._named(role, column, present) for role, column in self._columns.items()}
        _check_two_roles({role: column for role, column in named.items() if role in self._roles})
        free = [c for c in present if c not in named.values()]
        chosen: dict[str, str] = {}
        for role in dict.fromkeys((*self._roles, *named)):
            column = named.get(role) or self._usual(role, free, chosen)
            if column is not None:
                chosen[role] = column
            elif role in self._required:
                raise ValueError(
                    f'has no column for "{role}" (looked for {", ".join(self._roles.get(role, ()))}); '
                    f"{_listed(present)}; name the right one with --{role}_column."
                )
        return chosen

    def _named(self, role: str, column: str, present: Sequence[str]) -> str:
        if column not in present:
            hint = did_you_mean(column, present)
            raise ValueError(f'has no column "{column}" for --{role}_column; {_listed(present)}.{hint}')
        return column

    def _usual(self, role: str, free: Sequence[str], chosen: Mapping[str, str]) -> str | None:
        lower = {c.lower(): c for c in reversed(free)}
        for name in self._roles.get(role, ()):
            found = name if name in free else lower.get(name)
            belongs = role != "text_pair" or _PAIRS.get(name) == chosen.get("text", "").lower()
            if found is not None and belongs:
                return found
        return None

    def _value(self, role: str, column: str, value: Any) -> Any:
        value = _PACKING.get(role, _plain)(value)
        if value == [] and (role in _OBJECTS or role == "label"):
            return value  # an image may have none, and of several labels none may apply; one label cannot be []
        if _is_empty(value) or (role == "label" and str(value).lower() == "nan"):
            # a label column may be there and unused (predict); text may be empty in a corpus only
            if role in self._required and not self._empty:
                shown = "nothing" if value is None else repr(value)
                raise ValueError(f'the {role} (column "{column}") is empty: {shown}; fill it in or delete the row.')
            return value if isinstance(value, str) and role in _TEXTS else None
        if role in _TEXTS and not isinstance(value, str):
            raise ValueError(f'expected text in column "{column}", found {shortened(value)} ({type(value).__name__}).')
        if role in _WORDS:
            value = _words(value)
        if role in _WORDS and not _is_words(value):
            raise ValueError(
                f'expected a list of strings in column "{column}" ({role}), found {shortened(value)}; '
                "give one item a token: a list in .jsonl, words between spaces in .csv, or CoNLL columns."
            )
        if role == "label" and not isinstance(value, str | int | float | list):
            raise ValueError(f'expected a label in column "{column}", found {shortened(value)}.')
        return value


def _check_two_roles(named: Mapping[str, str]) -> None:
    roles: dict[str, str] = {}
    for role, column in named.items():
        if (other := roles.setdefault(column, role)) != role:
            raise ValueError(f'has one column "{column}" for --{other}_column and --{role}_column; name two columns.')


_PACKING: Mapping[str, Callable[[Any], Any]] = {"image": packed, "mask": packed_mask, "audio": audio_reading.packed}


def _listed(present: Sequence[str]) -> str:
    return f"its columns are {', '.join(present) or 'none'}"


def _plain(value: Any) -> Any:
    """NumPy and pandas values as Python's own; missing ones as None."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and math.isnan(value):
        return None
    return list(value) if isinstance(value, tuple) else value


def _is_empty(value: Any) -> bool:
    if value is None or value == []:
        return True
    return isinstance(value, str) and not value.strip()


def _words(value: Any) -> Any:
    """A cell of a .csv as words between spaces, unless it is a printed list; tag numbers as strings."""
    if isinstance(value, str):
        return value if value.lstrip().startswith(("[", "(")) else value.split()
    whole = isinstance(value, list) and all(type(item) is int for item in value)
    return [str(item) for item in value] if whole else value


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
