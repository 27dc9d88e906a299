"""The methods that the documentation writes out are saved as files and as entry points, and trained."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import ROOT, blocks
from transformers import AutoModel

from pretune import cli

ORDER = next(b.text for b in blocks("python") if "class Order(" in b.text)
NORMS = next(b.text for b in blocks("python") if b.mark == "strategy norms")
TINY = ["--modality.vocab_size", "320", "--modality.max_length", "32", "--precision", "fp32"]

Installed = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """Makes a package of one module, with the entry point that docs/adding.md shows."""
    monkeypatch.chdir(tmp_path)

    def installed(folder: str, name: str, code: str) -> None:
        package, facts = tmp_path / "site" / "my_methods", tmp_path / "site" / "my_methods-1.dist-info"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / f"{name}.py").write_text(code, encoding="utf-8")
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: my-methods\nVersion: 1\n", encoding="utf-8")
        entry = f"[pretune.{folder}]\n{name} = my_methods.{name}:{name.title()}\n"
        (facts / "entry_points.txt").write_text(entry, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / "site")

    yield installed
    for name in [n for n in sys.modules if n.partition(".")[0] == "my_methods"]:
        del sys.modules[name]


def rows(file: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def corpus(folder: Path) -> None:
    sentences = [
        f"in year {k} the {'red' if k % 2 else 'blue'} team won and {k % 7} of them sang\n" for k in range(200)
    ]
    (folder / "corpus.txt").write_text("".join(sentences), encoding="utf-8")


def test_the_objective_of_contributing_trains(
    install: Installed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("objectives", "order", ORDER)
    corpus(tmp_path)
    assert cli.main(["list", "order"]) == 0
    assert "--objective.swap_rate (default 0.5)" in capsys.readouterr().out
    own = ["--objective", "order", "--objective.swap_rate", "0.3", "--size", "tiny", "--budget", "12steps"]
    assert cli.main(["pretrain", "--data", "corpus.txt", "--out", "run", *own, *TINY]) == 0
    losses = [r["loss"] for r in rows(tmp_path / "run" / "metrics.jsonl") if "loss" in r]
    assert len(losses) == 12
    assert all(map(math.isfinite, losses))
    assert "word frequency" not in capsys.readouterr().err  # its loss is not one over the vocabulary
    assert AutoModel.from_pretrained(tmp_path / "run" / "model").config.num_hidden_layers == 2


def test_the_strategy_of_adding_trains(install: Installed, tmp_path: Path) -> None:
    install("strategies", "norms", NORMS)
    corpus(tmp_path)
    labelled = "".join(f'{{"text": "team {k}", "label": {k % 2}}}\n' for k in range(32))
    (tmp_path / "labels.jsonl").write_text(labelled, encoding="utf-8")
    start = ["--data", "corpus.txt", "--out", "pre", "--size", "tiny", "--budget", "2steps", "--init", "random"]
    assert cli.main(["pretrain", *start, *TINY]) == 0
    own = ["--strategy", "norms+layer_decay", "--strategy.biases", "true", "--budget", "4steps", "--valid_rate", "0"]
    data = ["--from", "pre", "--data", "labels.jsonl", "--out", "ft"]
    assert cli.main(["finetune", *data, *own, "--precision", "fp32"]) == 0
    before, after = (dict(AutoModel.from_pretrained(f / "model").named_parameters()) for f in map(Path, ("pre", "ft")))
    moved = {n for n, p in after.items() if not p.equal(before[n])}
    assert moved
    assert all("norm" in n for n in moved)
    # what a run has written down repeats it
    assert cli.main(["finetune", "--config", "ft/recipe.yaml", "--out", "again"]) == 0
    again = AutoModel.from_pretrained("again/model").named_parameters()
    assert all(p.equal(after[n]) for n, p in again)


def test_one_file_in_the_folder_is_enough_for_the_contract(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "pretune", tmp_path / "pretune", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pretune" / "objectives" / "order.py").write_text(ORDER, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "tests/contract", "-k", "order", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
