"""A run that is really killed ends with the same bits when its command is repeated."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(0)
    words = [f"word{k}" for k in range(80)]
    file = tmp_path_factory.mktemp("data") / "corpus.txt"
    file.write_text("".join(" ".join(rng.choices(words, k=30)) + ".\n" for _ in range(300)), encoding="utf-8")
    return file


def command(corpus: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "pretune", "pretrain", "--data", str(corpus), "--out", str(out), "--size", "tiny",
        "--modality.vocab_size", "256", "--modality.max_length", "32", "--batch_size", "8", "--budget", "60steps",
        "--checkpoint_every", "3steps", "--cache", str(corpus.parent / "cache"),
    ]  # fmt: skip


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def steps_on_disk(out: Path) -> int:
    done = [int(f.name[5:]) for f in (out / "checkpoints").glob("step-*") if f.suffix != ".tmp"]
    return max(done, default=0)


def stop_when(words: list[str], due: Callable[[], bool], number: signal.Signals) -> int:
    """Starts the command, sends the signal as soon as `due`, and returns the exit status."""
    process = subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.PIPE)
    while process.poll() is None and not due():
        time.sleep(0.001)
    process.send_signal(number)
    process.communicate()
    return process.returncode


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(command(corpus, out), env=ENVIRONMENT, check=True, capture_output=True)
    return weights(out)


def half_written(out: Path) -> bool:
    return steps_on_disk(out) > 5 and any((out / "checkpoints").glob("*.tmp"))


@pytest.mark.parametrize(
    "due",
    [
        lambda out: steps_on_disk(out) >= 3,
        pytest.param(lambda out: steps_on_disk(out) >= 30, marks=pytest.mark.slow),
        pytest.param(lambda out: (out / "recipe.yaml").exists(), marks=pytest.mark.slow),
        half_written,
    ],
    ids=["step 3", "step 30", "before a step", "while a checkpoint is written"],
)
def test_killed(due: Callable[[Path], bool], corpus: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert stop_when(command(corpus, out), lambda: due(out), signal.SIGKILL) == -signal.SIGKILL
    assert not (out / "model").exists()
    again = subprocess.run(command(corpus, out), env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert steps_on_disk(out) == 0  # checkpoints are gone when the run is finished
    if (out / "metrics.jsonl").exists():
        assert "Traceback" not in again.stderr
    assert weights(out) == whole


def test_interrupted(corpus: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert stop_when(command(corpus, out), lambda: steps_on_disk(out) >= 3, signal.SIGINT) == 130
    again = subprocess.run(command(corpus, out), env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert "resumed at step" in again.stderr
    assert weights(out) == whole


def test_a_finished_run_is_not_repeated(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    subprocess.run(command(corpus, out), env=ENVIRONMENT, check=True, capture_output=True)
    before = weights(out)
    again = subprocess.run(command(corpus, out), env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert again.returncode == 2
    assert "holds a finished run" in again.stderr
    assert weights(out) == before
