"""The errors that a user can cause; the command line prints their one sentence and exits with status 2."""

from __future__ import annotations

__all__ = [
    "CollapseError",
    "ConfigError",
    "DataError",
    "ModelError",
    "NumericsError",
    "PretuneError",
    "RunError",
    "check_known",
    "did_you_mean",
    "shortened",
    "similar",
]

import difflib
from collections.abc import Iterable
from pathlib import Path


class PretuneError(Exception):
    """Base of every error that pretune raises on purpose."""


class ConfigError(PretuneError, ValueError):
    """An option, or a combination of options, that cannot work."""


class DataError(PretuneError, ValueError):
    """A file, row or value that is not what the task needs."""


class ModelError(PretuneError, ValueError):
    """A checkpoint that cannot be loaded as asked."""


class NumericsError(PretuneError, ArithmeticError):
    """A loss or gradient that became NaN or infinite."""


class CollapseError(NumericsError):
    """Training that goes on without learning: what it learns from has become the same everywhere."""


class RunError(PretuneError, RuntimeError):
    """A run directory that is finished, foreign or damaged."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean "x"?' for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' Did you mean "{close[0]}"?' if close else ""


def similar(path: Path) -> str:
    """`did_you_mean` with the names in the nearest folder of `path` that exists."""
    try:
        while not path.parent.is_dir() and path != path.parent:
            path = path.parent
        return did_you_mean(path.name, [p.name for p in path.parent.iterdir() if p.name != path.name])
    except OSError:
        return ""


def check_known(what: str, word: str, known: Iterable[str]) -> None:
    """Raises ConfigError when `word` is none of the known ones; `what` says what they are."""
    names = list(known)
    if word not in names:
        raise ConfigError(f'There is no {what} "{word}"; there are: {", ".join(names)}.{did_you_mean(word, names)}')


def shortened(value: object, width: int = 40) -> str:
    """A value as it is written in Python, cut to `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
