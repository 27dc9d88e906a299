"""The promise on real text, in minutes: pre-training teaches more than word frequency; few labels gain from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pretune
from pretune.docstrings import docstring_corpus, docstring_task
from pretune.pretraining import RunResult, cache_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A tiny encoder after 800 steps on the docstrings of the installed packages."""
    corpus = docstring_corpus(cache_folder(None) / "docstrings")
    out = tmp_path_factory.mktemp("own") / "run"
    return pretune.pretrain(corpus, out=str(out), size="tiny", budget="800steps")


def accuracy(own: RunResult, folder: Path, **options: Any) -> float:
    train, test = docstring_task(cache_folder(None) / "docstrings", seed=0)
    tuned = pretune.finetune(
        train, out=str(folder), from_=str(own.path), test=test, valid_rate=0.0, budget="250steps", **options
    )
    return float(tuned.metrics["test_accuracy"])


def test_pre_training_learns_more_than_word_frequency(own: RunResult) -> None:
    floor = json.loads((own.path / "lineage.json").read_text(encoding="utf-8"))["floor"]
    assert own.metrics["loss"] < floor - 0.5


def test_few_labels_gain_from_own_pre_training(own: RunResult, tmp_path: Path) -> None:
    """The measured difference is about 15 points; half of that is far outside what seeds do."""
    assert accuracy(own, tmp_path / "own") > accuracy(own, tmp_path / "scratch", scratch=True) + 0.07


@pytest.mark.parametrize("strategy", ["l2sp", "layer_decay", "unfreeze", "probe_then_full", "lora", "freeze"])
def test_every_strategy_learns_by_its_own_defaults(strategy: str, own: RunResult, tmp_path: Path) -> None:
    """Eight classes: chance is 0.125, random weights reach about 0.45."""
    assert accuracy(own, tmp_path / "run", strategy=strategy) > 0.45
