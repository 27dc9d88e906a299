"""`pretune demo digits`: the whole way on the handwritten digits that come with scikit-learn; nothing is downloaded."""

from __future__ import annotations

__all__ = ["run"]

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split

from pretune.demo import DemoResult, Wording, picture_of, render_demo
from pretune.demo_comparison import Part, compare, concluded, drawn, explained, measured, repeated
from pretune.heat_map import HeatMap, address_of
from pretune.predicting import Predictor, load
from pretune.pretraining import RunResult, pretrain
from pretune.progress import say

Pictures: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""Images and their labels."""

_OBJECTIVE = "autoencoder"
_FINETUNE_STEPS = "200steps"
_PER_CLASS, _NUM_TEST = 5, 500
_SHOWN = 40

_WORDING: Wording = {
    "items": "pictures",
    "documents": "pictures",
    "baseline": "Logistic regression on the pixels",
    "short": "logistic regression",
    "seen": "pictures",
    "loss": "squared error",
    "floor": "mean pixels alone",
    "gained": "learnt what digits look like",
}


def run(*, out: Path, budget: str = "20s", seed: int = 0, seeds: int = 3) -> Path:
    """Pre-trains, fine-tunes from it and from scratch, compares with logistic regression, explains; leaves a page.

    Args:
        out: Folder for the data, the runs and the page; an earlier demo there is replaced.
        budget: Of pre-training.
        seed: First seed.
        seeds: Paired repetitions: each draws other labels.

    Returns:
        The page.
    """
    shutil.rmtree(out, ignore_errors=True)
    say("1. reading scikit-learn's handwritten digits")
    pool, test = _data(out / "data")
    say(f"2. pre-training on {len(pool[0]):,} pictures without their labels for {budget}")
    own = pretrain(
        str(out / "data" / "unlabelled.npy"),
        out=str(out / "pretrained"),
        objective=_OBJECTIVE,
        modality="image",
        size="tiny",
        family="vit",
        budget=budget,
        seed=seed,
    )
    parts = repeated(seed, seeds, lambda s: _compare(out, own.path, pool, test, s))
    page = _page(out, own, pool[0], budget, seed, seeds, parts)
    words = f"{out}/own-{seed} {out}/data/test.npz"
    return concluded(page, parts, classical=_WORDING["baseline"], predict=words)


def _compare(out: Path, own: Path, pool: Pictures, test: Pictures, seed: int) -> Part:
    images, labels = _few(*pool, seed)
    train = out / "data" / f"labelled-{seed}.npz"
    np.savez_compressed(train, images=images, labels=labels)
    return compare(
        out,
        own,
        seed,
        train=str(train),
        rows=_rows(images, labels),
        held=_rows(*test),
        role="image",
        items="pictures",
        baseline=_logistic,
        modality={"name": "image", "flip": False},
        budget=_FINETUNE_STEPS,
    )


def _data(folder: Path) -> tuple[Pictures, Pictures]:
    """Pictures and labels of the pool and of the test set, always the same ones; also written as array files."""
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    pool, test, labels, truth = train_test_split(
        images, digits.target, test_size=_NUM_TEST, stratify=digits.target, random_state=0
    )
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "unlabelled.npy", pool)
    np.savez_compressed(folder / "test.npz", images=test, labels=truth)
    return (pool, labels), (test, truth)


def _few(images: NDArray[Any], labels: NDArray[Any], seed: int) -> Pictures:
    """The same number of each class, drawn at random."""
    at = drawn(labels, np.unique(labels), _PER_CLASS, seed)
    return images[at], labels[at]


def _rows(images: NDArray[Any], labels: NDArray[Any]) -> list[dict[str, Any]]:
    return [{"image": x, "label": str(y)} for x, y in zip(images, labels, strict=True)]


def _logistic(rows: Sequence[dict[str, Any]], held: Sequence[dict[str, Any]], seed: int) -> list[str]:
    """Multinomial, on pixels from 0 to 1; its penalty is chosen by cross-validation on the training labels alone."""
    x, x_test = (np.stack([r["image"].reshape(-1) for r in part]) / 255 for part in (rows, held))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = GridSearchCV(LogisticRegression(max_iter=2000), {"C": [0.01, 0.1, 1.0, 10.0, 100.0]}, cv=folds)
    found: list[str] = model.fit(x, [r["label"] for r in rows]).predict(x_test).tolist()
    return found


def _page(out: Path, own: RunResult, pool: NDArray[Any], budget: str, seed: int, seeds: int, parts: list[Part]) -> Path:
    labels = [str(i) for i in range(10)]
    predictor = load(out / f"own-{seed}")
    result: DemoResult = {
        "title": "pretune demo: digits",
        "question": "Which digit is this?",
        "steps": [
            f"Took scikit-learn's 1,797 handwritten digits of 8 x 8 pixels and put {_NUM_TEST} aside for the test.",
            f"Pre-trained a small ViT ({_OBJECTIVE}) on the others, without their labels, for {budget}.",
            f"Fine-tuned it, and the same model from random weights, on {_PER_CLASS} labels a digit.",
            "Trained logistic regression on the pixels of the same labelled pictures.",
            f"Scored all three on the test pictures; did it {seeds} times with other labels.",
        ],
        "command": f"pretune demo digits --budget {budget} --seed {seed} --seeds {seeds}",
        "data": {
            "num_documents": len(pool),
            "corpus_bytes": pool.nbytes,
            "num_train": len(parts[0]["train"]),
            "num_test": len(parts[0]["test"]),
            "held_out": "At random, by class; the same people wrote both sides, which the data does not let one undo.",
        },
        **measured(own.path, predictor, parts, labels, budget=budget, baseline="logistic regression on pixels"),
        "example": _example(predictor, parts[0]),
        "wording": _WORDING,
        "pictures": _pictures(own.path, parts[0]),
    }  # fmt: skip
    return render_demo(result, out / "report.html")


def _example(predictor: Predictor, part: Part) -> Any:
    found, facts = explained(predictor, part, "image")
    assert isinstance(found, HeatMap)
    return facts | {"pictures": found.sources()}


def _pictures(run: Path, part: Part) -> list[tuple[str, str]]:
    """Some predictions, and what the objective drew."""
    found = [(f"the first {_SHOWN} test pictures with their predictions, wrong ones red", address_of(_gallery(part)))]
    return found + [picture_of(file) for file in sorted((run / "pictures").glob("*.png"))]


def _gallery(part: Part, *, side: int = 56, columns: int = 10) -> Image.Image:
    rows = -(-_SHOWN // columns)
    sheet = Image.new("RGB", (columns * side, rows * (side + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    shown = zip(part["test"][:_SHOWN], part["own"]["labels"], part["own"]["right"], strict=False)
    for number, (row, label, right) in enumerate(shown):
        left, top = number % columns * side, number // columns * (side + 16)
        picture = Image.fromarray(row["image"]).resize((side - 4, side - 4), Image.Resampling.NEAREST)
        sheet.paste(picture.convert("RGB"), (left, top))
        draw.text((left + side // 2 - 5, top + side - 3), label, fill="black" if right else (216, 65, 47))
    return sheet
