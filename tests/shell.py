"""A command line, run in this process."""

from __future__ import annotations

import shlex

import pytest

from pretune.cli import main


def run(words: str, capsys: pytest.CaptureFixture[str], status: int = 0) -> tuple[str, str]:
    """Standard output and error of ``pretune WORDS``, which must end with this status."""
    capsys.readouterr()
    found = main(shlex.split(words))
    out, err = capsys.readouterr()
    assert found == status, err
    return out, err
