"""`pretune demo speech`: the whole way on digits that espeak-ng speaks; synthetic, and labelled so."""

from __future__ import annotations

__all__ = ["run"]

import codecs
import contextlib
import importlib
import io
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from pretune.audio_reading import header
from pretune.demo import DemoResult, Wording, picture_of, render_demo
from pretune.demo_comparison import Part, compare, concluded, drawn, explained, measured, repeated
from pretune.errors import ConfigError
from pretune.heat_map import address_of
from pretune.mfcc import mfcc_svm
from pretune.modalities.audio import RATE
from pretune.predicting import Predictor, load
from pretune.pretraining import RunResult, pretrain
from pretune.progress import say
from pretune.read_ahead import ahead
from pretune.sound_explanation import SoundExplanation

Rows: TypeAlias = list[dict[str, Any]]
"""Recordings with ``label`` and ``speaker``."""

_OBJECTIVE = "masked_audio"
_FINETUNE_STEPS = "200steps"
_PER_CLASS, _TAKES = 2, 2
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TRAIN = [f"{a}+{v}" for a in ("en-us", "en-gb") for v in ("m1", "m2", "m3", "m5", "f1", "f2", "f3", "Andy")]
_TEST = [f"{a}+{v}" for a in ("en-gb-scotland", "en-gb-x-rp") for v in ("m4", "m7", "f4", "f5", "linda")]

_WORDING: Wording = {
    "items": "recordings",
    "documents": "recordings",
    "baseline": "A support vector machine on MFCCs",
    "short": "MFCC + SVM",
    "seen": "seconds of sound",
    "loss": "loss",
    "floor": "cluster frequency alone",
    "gained": "learnt what follows what in speech",
}


class _Spoken(NamedTuple):
    """What a voice says, how fast and how high, and where it is written."""

    text: str
    voice: str
    speed: int
    pitch: int
    file: Path


def run(*, out: Path, budget: str = "40s", seed: int = 0, seeds: int = 3) -> Path:
    """Pre-trains, fine-tunes from it and from scratch, compares with MFCC + SVM, explains; leaves a page.

    Args:
        out: Folder for the sound, the runs and the page; an earlier demo there is replaced.
        budget: Of pre-training.
        seed: First seed.
        seeds: Paired repetitions: each draws other labels.

    Returns:
        The page.

    Raises:
        ConfigError: espeak-ng is not installed.
    """
    if shutil.which("espeak-ng") is None:
        raise ConfigError(
            "The speech demo lets espeak-ng speak, and it is not installed: apt install espeak-ng (Debian, Ubuntu), or "
            "brew install espeak-ng (macOS)."
        )
    shutil.rmtree(out, ignore_errors=True)
    say(f"1. {len(_TRAIN) + len(_TEST)} synthetic voices of espeak-ng speak sentences and digits")
    sentences, pool, test = _data(out / "data")
    say(f"2. pre-training on {len(sentences) + len(pool)} recordings of {len(_TRAIN)} voices, no labels, for {budget}")
    unlabelled = [{"audio": r["audio"]} for r in (*sentences, *pool)]
    folder = str(out / "pretrained")
    own = pretrain(
        unlabelled, out=folder, objective=_OBJECTIVE, modality="audio", size="tiny", budget=budget, seed=seed
    )
    parts = repeated(seed, seeds, lambda s: _compare(out, own.path, pool, test, s))
    page = _page(out, own, (sentences, pool), budget, seed, seeds, parts)
    words = f"{out}/own-{seed} {out}/data/test/nine"
    return concluded(page, parts, classical=_WORDING["baseline"], predict=words)


def _compare(out: Path, own: Path, pool: Rows, test: Rows, seed: int) -> Part:
    few = _few(pool, seed)
    return compare(
        out,
        own,
        seed,
        train=few,
        rows=few,
        held=test,
        role="audio",
        items="recordings",
        baseline=_support_vectors,
        modality="audio",
        budget=_FINETUNE_STEPS,
    )


def _data(folder: Path) -> tuple[Rows, Rows, Rows]:
    """Sentences, digits to learn from and digits of other voices, always the same ones, as .wav files."""
    rng = np.random.default_rng(0)

    def spoken(texts: Sequence[str], voices: Sequence[str], part: str, takes: int = 1) -> list[_Spoken]:
        return [
            _Spoken(text, voice, int(rng.integers(130, 190)), int(rng.integers(30, 70)),
                    folder / part / (text if part != "sentences" else ".") / f"{voice}-{k}-{take}.wav")
            for k, text in enumerate(texts) for voice in voices for take in range(takes)
        ]  # fmt: skip

    parts = [
        spoken(_sentences(), _TRAIN, "sentences"),
        spoken(_DIGITS, _TRAIN, "train"),
        spoken(_DIGITS, _TEST, "test", _TAKES),
    ]
    rows: list[Rows] = []
    for part in parts:
        list(ahead(_speak, part))
        rows.append([{"audio": str(s.file), "label": s.text, "speaker": s.voice} for s in part])
    return rows[0], rows[1], rows[2]


def _sentences() -> list[str]:
    """The aphorisms of the Zen of Python, which every Python has."""
    with contextlib.redirect_stdout(io.StringIO()):
        zen = importlib.import_module("this")
    return [line for line in codecs.decode(zen.s, "rot13").splitlines()[2:] if line]


def _speak(what: _Spoken) -> None:
    what.file.parent.mkdir(parents=True, exist_ok=True)
    words = ["espeak-ng", "-v", what.voice, "-s", str(what.speed), "-p", str(what.pitch), "-w", str(what.file)]
    subprocess.run([*words, what.text], check=True, capture_output=True)


def _few(pool: Rows, seed: int) -> Rows:
    """The same number of each digit, drawn at random."""
    return [pool[i] for i in drawn([r["label"] for r in pool], _DIGITS, _PER_CLASS, seed)]


def _support_vectors(rows: Sequence[dict[str, Any]], held: Sequence[dict[str, Any]], seed: int) -> list[str]:
    """On means and deviations of 20 MFCCs and their changes."""
    sounds, held_sounds = ([r["audio"] for r in part] for part in (rows, held))
    return mfcc_svm(sounds, [r["label"] for r in rows], held_sounds, rate=RATE, seed=seed)


def _page(
    out: Path, own: RunResult, heard: tuple[list[Any], list[Any]], budget: str, seed: int, seeds: int, parts: list[Part]
) -> Path:
    predictor = load(out / f"own-{seed}")
    files = [Path(r["audio"]) for part in heard for r in part]
    hours = sum(header(str(f)).seconds for f in files) / 3600
    result: DemoResult = {
        "title": "pretune demo: speech",
        "question": "Which digit was spoken?",
        "steps": [
            "Let espeak-ng speak: all of this is synthetic speech, which is far more regular than people's.",
            f"Pre-trained a small conformer ({_OBJECTIVE}) on {hours:.1f} hours of {len(_TRAIN)} voices for {budget}.",
            f"Fine-tuned it, and the same model from random weights, on {_PER_CLASS} labels a digit.",
            "Trained a support vector machine on the MFCCs of the same labelled recordings.",
            f"Scored all three on {len(_TEST)} voices that none of them had heard; {seeds} times, with other labels.",
        ],
        "command": f"pretune demo speech --budget {budget} --seed {seed} --seeds {seeds}",
        "data": {
            "num_documents": len(files),
            "corpus_bytes": sum(f.stat().st_size for f in files),
            "num_train": len(parts[0]["train"]),
            "num_test": len(parts[0]["test"]),
            "held_out": "By voice: other variants of espeak-ng, with other accents.",
        },
        **measured(own.path, predictor, parts, list(_DIGITS), budget=budget, baseline="MFCC + SVM"),
        "example": _example(predictor, parts[0]),
        "wording": _WORDING,
        "pictures": [picture_of(f) for f in sorted((own.path / "pictures").glob("*.png"))],
    }  # fmt: skip
    return render_demo(result, out / "report.html")


def _example(predictor: Predictor, part: Part) -> Any:
    found, facts = explained(predictor, part, "audio")
    assert isinstance(found, SoundExplanation)
    what = "heard, and what of it decided (blue for the answer, red against)"
    return facts | {"pictures": [(what, address_of(found.picture()))]}
