"""Does `predict --ood` tell other data from the pool's own, and flag one in twenty of the pool's own?

    python benchmarks/unlike_pool.py runs/pre --pool ../shared/data/imdb_unlabelled/train.txt.gz \
        --like ../shared/data/imdb_unlabelled/valid.txt --unlike ../shared/data/sst2/test.jsonl --shuffled --short

For each set the area under the ROC curve of the p-values (records of ``--like`` against it) and the share that is
flagged, which of ``--like`` should be 0.05; means over seeds of all that is drawn, with Student's t intervals. Beside
them the area of the cosine distance to the tenth neighbour, which is what `predict --ood` used to go by.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from pretune.embedding import Embedder, unit
from pretune.errors import DataError
from pretune.gathering import gather
from pretune.intervals import mean_interval
from pretune.nearest import Nearest
from pretune.pool_novelty import MOST, PoolNovelty
from pretune.reservoir import sampled

Records = list[dict[str, Any]]
Examples = list[dict[str, Any]]


def drawn(embedder: Embedder, source: str, number: int, letters: int | None, seed: int) -> Records:
    """Records of a source, drawn at random, in random order."""
    rows = embedder.modality.unlabelled_records(source, length=letters)
    found = sampled((record for record, _ in rows if record is not None), number, seed=seed)
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))]


def shuffled(records: Iterable[Mapping[str, Any]], rng: np.random.Generator) -> Records:
    """The same words, or letters, in random order."""
    found = []
    for record in records:
        role = "text" if "text" in record else "sequence"
        parts = record[role].split() if role == "text" else list(record[role])
        found.append({**record, role: (" " if role == "text" else "").join(rng.permutation(parts))})
    return found


def noise(embedder: Embedder, number: int, rng: np.random.Generator) -> Examples:
    """Pictures of random pixels, or seconds of white noise."""
    if embedder.modality.kind == "pixels":
        modality: Any = embedder.modality
        shape = (modality.image_size, modality.image_size, modality.num_channels)
        return [{"pixel_values": rng.integers(0, 256, shape, dtype=np.uint8)} for _ in range(number)]
    return quiet(number, rng, 3000)


def quiet(number: int, rng: np.random.Generator, loudness: float = 3) -> Examples:
    """Recordings of the noise of a microphone, 0.5 to 4 s."""
    sizes = rng.integers(8_000, 64_000, number)
    return [{"input_values": rng.normal(0, loudness, n).astype(np.int16)} for n in sizes]


def short(embedder: Embedder, examples: Examples, rng: np.random.Generator) -> Examples:
    """Pieces of 8 to 40 tokens or frames."""
    return [embedder.modality.piece(e, int(rng.integers(8, 41)), rng) for e in examples]


def usable(embedder: Embedder, records: Records) -> Examples:
    return [e for e in embedder.process(records) if not isinstance(e, DataError)]


def sets(given: argparse.Namespace, embedder: Embedder, seed: int) -> dict[str, Examples]:
    """What is compared; the first is like the pool."""
    rng = np.random.default_rng([seed, 3])
    like = drawn(embedder, given.like, given.num, given.letters, seed)
    found = {"like": usable(embedder, like)}
    for name in given.unlike:
        found[name] = usable(embedder, drawn(embedder, name, given.num, given.letters, seed))
    if given.shuffled:
        found["shuffled"] = usable(embedder, shuffled(like, rng))
    if given.noise:
        found["noise"] = noise(embedder, given.num, rng)
    if given.silence:
        found["silence"] = quiet(given.num, rng)
    if given.short:
        found["short pieces"] = short(embedder, found["like"], rng)
    return found


def once(given: argparse.Namespace, embedder: Embedder, seed: int) -> dict[str, tuple[float, float, float]]:
    """Of each set the share that is flagged, the area under the curve, and that of the distance to neighbours."""
    pool = ((r, None) for r in drawn(embedder, given.pool, given.num_pool, given.letters, seed))
    kept = gather(pool, embedder, lambda _: {}, distinct=True, keep=MOST)
    fitted = PoolNovelty.fitted(embedder, kept.examples, share=0.95, seed=seed)
    near = Nearest(unit(kept.vectors))
    scores: dict[str, Any] = {}
    for name, examples in sets(given, embedder, seed).items():
        judged = fitted.judge(embedder, examples)
        far = 1 - near.find(unit(embedder.examples(examples)), 10)[0][:, -1]
        scores[name] = np.array([(j["flagged"], -j["p"], d) for j, d in zip(judged, far, strict=True)])
    own = scores["like"]
    return {n: (s[:, 0].mean(), area(own[:, 1], s[:, 1]), area(own[:, 2], s[:, 2])) for n, s in scores.items()}


def area(own: Any, other: Any) -> float:
    return float(roc_auc_score(np.repeat([0, 1], [len(own), len(other)]), np.concatenate([own, other])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--like", required=True)
    parser.add_argument("--unlike", nargs="*", default=[])
    for name in ("shuffled", "noise", "silence", "short"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument("--num_pool", type=int, default=2000)
    parser.add_argument("--letters", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    embedder = Embedder.load(given.run)
    found: dict[str, list[Any]] = defaultdict(list)
    for seed in range(given.seeds):
        for name, row in once(given, embedder, seed).items():
            found[name].append(row)
    for name, rows in found.items():
        flagged, new, old = (
            (mean_interval(column) if len(rows) > 1 else column[0]) for column in zip(*rows, strict=True)
        )
        print(f"{name}: flagged {flagged}, AUROC {new}, of distance alone {old}", flush=True)


if __name__ == "__main__":
    main()
