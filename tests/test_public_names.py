"""The public names: functions, each where it is said to be, and none hidden by a module of its name."""

from __future__ import annotations

import importlib.util

import pytest

import pretune
from pretune.verbs import VERBS


@pytest.mark.parametrize("name", sorted(pretune._VERBS))
def test_no_module_hides_a_public_function(name: str) -> None:
    assert importlib.util.find_spec(f"pretune.{name}") is None
    assert callable(getattr(pretune, name))


def test_names_are_sorted_and_verbs_are_functions_too() -> None:
    names = [n for n in pretune.__all__ if n.islower() and not n.startswith("_")]
    assert names == sorted(names) == sorted(pretune._VERBS)
    assert {v.replace("-", "_") for v in VERBS} - {"demo", "list"} == set(names) - {"load"}
