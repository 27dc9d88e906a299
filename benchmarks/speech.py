"""Was own pre-training on sound worth it? Test scores of few labels after each objective and from scratch, paired.

    python benchmarks/speech.py --data ../shared/data --budget 20m --seeds 3 --out runs/speech
    python benchmarks/speech.py --data ../shared/data --sets ravdess_12 --objectives masked_audio,wav2vec2 ...
    python benchmarks/speech.py --data ../shared/data --sets ravdess_12 --strategy freeze --layers ...

Every objective pre-trains once for the same budget on one pool: the training recordings of all sets, without labels
and without the speakers that are tested (an interrupted run goes on). Every cell (set, labels, seed, arm) then
fine-tunes on the same labels for the same steps and is appended to OUT/TEST.jsonl when it is done; running again adds
what is missing. `mfcc+svm` is a support vector machine on means and deviations of MFCCs and their changes. Speakers:
fsdd and fsdd_strings learn from george, jackson and lucas, validate on nicolas and test on theo and yweweler;
ravdess_12 has its own speaker-disjoint split; barista_speech does not name speakers. ``--layers`` adds each arm with
--task.layer_weights and the paired difference that makes. Prints Markdown. Choose options
with ``--test valid``, never on the test set.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, recall_score

import pretune
from few_labels import losses, pretrained, sample, table
from pretune.mfcc import mfcc_svm
from quality import measured, shown

SPEAKERS = {"train": ("george", "jackson", "lucas"), "valid": ("nicolas",), "test": ("theo", "yweweler")}
SETS: dict[str, dict[str, Any]] = {
    "fsdd": {"label": "label", "labels": (50, 200), "score": "accuracy"},
    "ravdess_12": {"label": "label", "labels": (64, 480), "score": "uar"},
    "barista_speech": {"label": "coffeeDrink", "labels": (100, 440), "score": "accuracy"},
    "fsdd_strings": {"label": "text", "labels": (50, 300), "score": "wer"},
}
RATE = 16_000
LAYERS = "+layers"


def records(data: Path, name: str, part: str) -> list[dict[str, Any]]:
    """Paths with labels; of fsdd, training recordings of some speakers and every recording of others."""
    table = pd.read_csv(data / name / "manifest.csv")
    if name.startswith("fsdd"):
        kept = table.speaker.isin(SPEAKERS[part])
        table = table[kept & (table.split == "train") if part == "train" else kept]
    else:
        table = table[table.split == part]
    role = "text" if name == "fsdd_strings" else "label"
    paths = [str(data / name / p) for p in table.path]
    return [{"audio": p, role: str(v)} for p, v in zip(paths, table[SETS[name]["label"]], strict=True)]


def few(found: list[dict[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """As many of every class as the number allows; of transcripts, any."""
    if "label" in found[0]:
        return sample(found, number, seed)
    order = np.random.default_rng(seed).permutation(len(found))
    return [found[i] for i in order[:number]]


def support_vectors(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> dict[str, float]:
    """The classical baseline."""
    sounds, held = ([r["audio"] for r in part] for part in (train, test))
    guess = mfcc_svm(sounds, [r["label"] for r in train], held, rate=RATE)
    truth = [r["label"] for r in test]
    return {
        "accuracy": accuracy_score(truth, guess),
        "uar": recall_score(truth, guess, labels=sorted(set(truth)), average="macro", zero_division=0.0),
    }


def tuned(
    options: argparse.Namespace, name: str, source: str, train: list[dict[str, Any]], test: Any, *, scratch: bool,
    seed: int, layers: bool,
) -> dict[str, float]:  # fmt: skip
    """Test scores of fine-tuning from a run, or from scratch with that run's architecture."""
    folder = tempfile.mkdtemp(prefix="pretune-speech-")
    steps = int(np.clip(options.epochs * len(train) / 16, options.steps, 3000))
    task: dict[str, Any] = {"name": "ctc" if name == "fsdd_strings" else "classification"}
    task |= {"layer_weights": True} if layers else {}
    result = pretune.finetune(
        train, out=f"{folder}/run", from_=source, scratch=scratch, task=task, test=test, strategy=options.strategy,
        valid_rate=0.0, budget=f"{steps}steps", batch_size=16, seed=seed, lr=options.lr, checkpoint_every="1h",
        modality={"name": "audio", "augmentation": options.augmentation},
    )  # fmt: skip
    shutil.rmtree(folder)
    scores = {k.removeprefix("test_"): v for k, v in result.metrics.items() if k.startswith("test_")}
    return scores | {"steps": steps, "seconds": result.fitted.seconds if result.fitted else 0.0}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--pool", default=",".join(SETS), help="sets whose training recordings are pre-trained on")
    parser.add_argument("--objectives", default="masked_audio,wav2vec2,autoencoder,contrastive")
    parser.add_argument("--option", action="append", default=[], help="OBJECTIVE.OPTION=VALUE")
    parser.add_argument("--budget", default="20m", help="of each pre-training")
    parser.add_argument("--size", default="mini")
    parser.add_argument("--family", default="wav2vec2-bert")
    parser.add_argument("--labels", help="N,N for all sets; not given: two for each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of fine-tuning, in batches of 16")
    parser.add_argument("--steps", type=int, default=300, help="fewest of fine-tuning; at most 3,000")
    parser.add_argument("--strategy", default="full")
    parser.add_argument("--augmentation", default="light")
    parser.add_argument("--normalise", default="bins", choices=["bins", "recording"], help="how spectra are scaled")
    parser.add_argument("--layers", action="store_true", help="also with layer_weights, of classification")
    parser.add_argument("--lr", type=float, help="of fine-tuning")
    parser.add_argument("--pre_lr", type=float, help="of pre-training")
    parser.add_argument("--test", default="test", choices=["test", "valid"])
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def cells(options: argparse.Namespace, arms: list[str]) -> list[dict[str, Any]]:
    """Everything to measure; the classical baseline does not transcribe."""
    every = []
    for name in options.sets.split(","):
        numbers = [int(n) for n in options.labels.split(",")] if options.labels else SETS[name]["labels"]
        mine = [a for a in arms if (a, name) != ("mfcc+svm", "fsdd_strings")]
        seeds = range(options.seeds)
        every += [{"set": name, "labels": n, "seed": s, "arm": a} for n in numbers for s in seeds for a in mine]
    return every


def difference(done: list[dict[str, Any]]) -> str:
    """What layer_weights changes, paired by seed."""
    found = {(d["set"], d["labels"], d["arm"], d["seed"]): d[SETS[d["set"]]["score"]] for d in done}
    lines = ["| set | labels | arm | with layer_weights, difference |", "|---|---|---|---|"]
    for name, number, arm in sorted({k[:3] for k in found if k[2].endswith(LAYERS)}):
        seeds = [k[3] for k in found if k[:3] == (name, number, arm)]
        changes = [found[name, number, arm, s] - found[name, number, arm.removesuffix(LAYERS), s] for s in seeds]
        lines.append(f"| {name} | {number} | {arm.removesuffix(LAYERS)} | {shown(changes)} |")
    return "\n".join(lines)


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    pool = [{"audio": r["audio"]} for name in options.pool.split(",") for r in records(options.data, name, "train")]
    modality = {"name": "audio", "normalise": options.normalise}
    more = {"modality": modality, "family": options.family, "lr": options.pre_lr}
    runs = {n: pretrained(options, n, pool, options.out / n, **more) for n in options.objectives.split(",")}
    first = next(iter(runs.values()))["folder"]
    parts = {
        name: [records(options.data, name, part) for part in ("train", options.test)]
        for name in options.sets.split(",")
    }

    def measure(cell: dict[str, Any]) -> dict[str, float]:
        name, number, seed, arm = cell.values()
        train, test = parts[name]
        chosen = few(train, number, seed)
        if arm == "mfcc+svm":
            return support_vectors(chosen, test)
        plain = arm.removesuffix(LAYERS)
        source = first if plain == "scratch" else runs[plain]["folder"]
        return tuned(options, name, source, chosen, test, scratch=plain == "scratch", seed=seed, layers=plain != arm)

    arms = ["mfcc+svm", *([] if options.strategy == "freeze" else ["scratch"]), *runs]
    arms += [f"{arm}{LAYERS}" for arm in arms[1:]] if options.layers else []
    done = measured(options.out / f"{options.test}.jsonl", cells(options, arms), measure)
    print(table(done, SETS, lambda _: arms), losses(runs, seen="hours heard", shown=".1f", unit=3600), sep="\n\n")
    if options.layers:
        print(difference(done))


if __name__ == "__main__":
    main()
