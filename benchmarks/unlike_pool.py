"""Does the distance to the pre-training pool tell other data from the pool's own?

    python benchmarks/unlike_pool.py runs/pre/text --pool ../shared/data/imdb_unlabelled/train.txt.gz \
        --like ../shared/data/imdb_unlabelled/valid.txt --unlike ../shared/data/sst2/test.jsonl --shuffled --num 300

Prints, for each set of other data, the area under the ROC curve of the distance (records of ``--like`` against it), and
the share that `predict --ood` would flag; of ``--like``, which no training has seen, that share should be 0.05.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from pretune.embedding import Embedder, unit
from pretune.gathering import gather
from pretune.indexing import K, _index
from pretune.neighbour_index import Index
from pretune.novelty import kth_distances
from pretune.reservoir import sampled

Records = list[dict[str, Any]]


def drawn(embedder: Embedder, source: str, number: int, letters: int | None) -> Records:
    """Records of a source, drawn at random."""
    rows = embedder.modality.unlabelled_records(source, length=letters)
    return sampled((record for record, _ in rows if record is not None), number, seed=1)


def shuffled(records: Iterable[Mapping[str, Any]], rng: np.random.Generator) -> Records:
    """The same words, or letters, in random order."""
    found = []
    for record in records:
        role = "text" if "text" in record else "sequence"
        parts = record[role].split() if role == "text" else list(record[role])
        found.append({**record, role: (" " if role == "text" else "").join(rng.permutation(parts))})
    return found


def noise(embedder: Embedder, number: int, rng: np.random.Generator) -> Records:
    """Pictures of random pixels, or seconds of white noise."""
    if embedder.modality.kind == "pixels":
        modality: Any = embedder.modality
        shape = (modality.image_size, modality.image_size, modality.num_channels)
        return [{"image": rng.integers(0, 256, shape, dtype=np.uint8), "_file": "", "_row": 0} for _ in range(number)]
    waves = (0.1 * rng.standard_normal((number, 16_000))).clip(-1, 1).astype(np.float32)
    return [{"audio": _wave(w), "_file": "", "_row": 0} for w in waves]


def _wave(samples: Any) -> dict[str, Any]:
    from pretune.audio_reading import wav

    return {"bytes": wav(samples, 16_000), "path": None}


def distances(index: Index, embedder: Embedder, records: Records) -> Any:
    return kth_distances(index.near_pool, unit(vectors(embedder, records)), K)


def vectors(embedder: Embedder, records: Records) -> Any:
    return gather(((r, None) for r in records), embedder, lambda _: {}, distinct=False).vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--like", required=True)
    parser.add_argument("--unlike", nargs="*", default=[])
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--num", type=int, default=300)
    parser.add_argument("--num_pool", type=int, default=2000)
    parser.add_argument("--letters", type=int)
    given = parser.parse_args()
    embedder, rng = Embedder.load(given.run), np.random.default_rng(0)
    rows = ((r, None) for r in drawn(embedder, given.pool, given.num_pool, given.letters))
    index = _index({"pool": gather(rows, embedder, lambda _: {}, distinct=True)}, 0)
    index.facts.update({"k": K, "share": 0.95})
    like = drawn(embedder, given.like, given.num, given.letters)
    others = {name: drawn(embedder, name, given.num, given.letters) for name in given.unlike}
    others |= {"shuffled": shuffled(like, rng)} if given.shuffled else {}
    others |= {"noise": noise(embedder, given.num, rng)} if given.noise else {}
    own = distances(index, embedder, like)
    print(f"pool {len(index.pool)} + {len(index.held)} held out; {given.like}: flagged {_flagged(index, own):.3f}")
    for name, records in others.items():
        far = distances(index, embedder, records)
        truth = np.repeat([0, 1], [len(own), len(far)])
        area = roc_auc_score(truth, np.concatenate([own, far]))
        print(f"{name}: AUROC {area:.3f}, flagged {_flagged(index, far):.3f}", flush=True)


def _flagged(index: Index, found: Any) -> float:
    return float(np.mean([row["flagged"] for row in index.novelty.judge(found)]))


if __name__ == "__main__":
    main()
