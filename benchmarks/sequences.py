"""Was own pre-training on DNA and proteins worth it? Few-label test scores beside scratch and classical baselines.

    python benchmarks/sequences.py --data ../shared/data --budget 20m --seeds 3 --out runs/sequences
    python benchmarks/sequences.py --data ../shared/data --sets cb513 --objectives mlm,electra ...

Each objective pre-trains once a modality for the same budget (an interrupted run goes on): on the E. coli genome for
DNA, on protein_unlabelled for proteins. Every cell (set, labels, seed, arm) then fine-tunes on the same labels for the
same steps and is appended to OUT/TEST.jsonl when it is done; running again adds what is missing. Baselines:
`classical` is logistic or ridge regression on k-mers or one letter a place, chosen by cross-validation on the same
labels; for residues `one_hot` and `blosum62` are logistic regressions on windows of 15; `majority` always answers the
same. Every cell of contacts also has `random_long_p_l5` and `nearest_long_p_l5`, which need no model. The text of
ecoli_coding's test windows is in the genome, without labels; no other test sequence was looked for in the pools.
Prints Markdown. Choose options with ``--test valid``, never on the test set.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import pretune
from few_labels import pretrained, sample, table
from pretune import sequence_baselines
from quality import measured

SETS: dict[str, dict[str, Any]] = {
    "ecoli_coding": {"modality": "dna", "task": "classification", "labels": (64, 256), "score": "accuracy"},
    "uci_splice": {"modality": "dna", "task": "classification", "labels": (60, 240), "score": "accuracy"},
    "deeploc_small": {"modality": "protein", "task": "classification", "labels": (100, 400), "score": "accuracy"},
    "tem1_dms": {"modality": "protein", "task": "regression", "labels": (96, 384), "score": "spearman"},
    "cb513": {"modality": "protein", "task": "tagging", "labels": (20, 80), "score": "accuracy"},
    "cb513_q8": {
        "folder": "cb513", "column": "ss8", "modality": "protein", "task": "tagging", "labels": (20, 80),
        "score": "accuracy",
    },
    "db55_contacts": {"modality": "protein", "task": "contacts", "labels": (49, 196), "score": "long_p_l5"},
}  # fmt: skip
POOLS = {"dna": "ecoli_k12_genome/ecoli_k12_mg1655.fna.gz", "protein": "protein_unlabelled/train.fasta.gz"}
BATCH_SIZES = {"contacts": 4}
LABELS = {"classification": ("label", "label"), "regression": ("target", "label"), "tagging": ("ss3", "tags")}


def records(data: Path, name: str, part: str) -> list[dict[str, Any]]:
    folder = data / SETS[name].get("folder", name)
    if SETS[name]["task"] == "contacts":
        table = pd.read_json(folder / f"{part}.jsonl", lines=True)
        return table[["id", "sequence", "cb"]].to_dict("records")
    column, role = LABELS[SETS[name]["task"]]
    column = SETS[name].get("column", column)
    table = pd.read_csv(folder / f"{part}.csv")
    return [{"sequence": s.upper(), role: v} for s, v in zip(table.sequence, table[column].tolist(), strict=True)]


def few(found: list[dict[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """As many of every class as the number allows; of other labels, any."""
    if isinstance(found[0].get("label"), str):
        return sample(found, number, seed)
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:number]]


def accuracy(guess: list[Any], truth: list[Any]) -> dict[str, float]:
    return {"accuracy": float(np.mean([g == t for g, t in zip(guess, truth, strict=True)]))}


def classical(
    arm: str, task: str, train: list[dict[str, Any]], test: list[dict[str, Any]], seed: int
) -> dict[str, float]:
    """Scores of a baseline."""
    sequences, held = [r["sequence"] for r in train], [r["sequence"] for r in test]
    role = LABELS[task][1]
    labels, truth = [r[role] for r in train], [r[role] for r in test]
    if task == "regression":
        return {"spearman": float(spearmanr(sequence_baselines.kmer_ridge(sequences, labels, held, seed), truth)[0])}
    flat, true = ("".join(labels), "".join(truth)) if task == "tagging" else (labels, truth)
    if arm == "majority":
        return accuracy([Counter(flat).most_common(1)[0][0]] * len(true), list(true))
    if task == "tagging":
        tags = sequence_baselines.window_logistic(sequences, labels, held, letters=arm)
        return accuracy([t for row in tags for t in row], list(true))
    found = sequence_baselines.kmer_logistic(sequences, labels, held, seed)
    return accuracy([f["label"] for f in found], truth)


def modality_of(options: argparse.Namespace, name: str) -> dict[str, Any]:
    kmer = {"tokenizer": "kmer", "kmer": options.kmer} if options.kmer and name == "dna" else {}
    return {"name": name, "max_length": options.max_length, **kmer}


def tuned(
    options: argparse.Namespace, name: str, source: str, train: list[dict[str, Any]], test: Any, *, scratch: bool,
    seed: int,
) -> dict[str, float]:  # fmt: skip
    """Test scores of fine-tuning from a run, or from scratch with that run's architecture."""
    folder = tempfile.mkdtemp(prefix="pretune-sequences-")
    result = pretune.finetune(
        train, out=f"{folder}/run", from_=source, scratch=scratch, task=SETS[name]["task"], test=test, seed=seed,
        strategy=options.strategy, valid_rate=0.0, budget=f"{options.steps}steps", lr=options.lr,
        batch_size=BATCH_SIZES.get(SETS[name]["task"], 16),
        checkpoint_every="1h", modality={"name": SETS[name]["modality"], "max_length": options.max_length},
    )  # fmt: skip
    shutil.rmtree(folder)
    scores = {k.removeprefix("test_"): v for k, v in result.metrics.items() if k.startswith("test_")}
    return scores | {"seconds": result.fitted.seconds if result.fitted else 0.0}


def arms_of(name: str, objectives: list[str]) -> list[str]:
    own = {"classification": ["majority", "classical"], "regression": ["classical"], "contacts": []}
    return [*own.get(SETS[name]["task"], ["majority", "one_hot", "blosum62"]), "scratch", *objectives]


def health(runs: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Held-out loss beside the floor of k-mer statistics."""
    lines = ["| modality | objective | million tokens | held-out loss | k-mer floor |", "|---|---|---|---|---|"]
    for (modality, objective), run in runs.items():
        loss = run.get("valid_mlm_loss", run.get("valid_loss"))
        lines.append(f"| {modality} | {objective} | {run['seen'] / 1e6:.1f} | {loss:.3f} | {run['floor']:.3f} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--objectives", default="mlm")
    parser.add_argument("--option", action="append", default=[], help="OBJECTIVE.OPTION=VALUE")
    parser.add_argument("--budget", default="20m", help="of each pre-training")
    parser.add_argument("--size", default="mini")
    parser.add_argument("--family", default="modernbert")
    parser.add_argument("--max_length", type=int, default=256)
    parser.add_argument("--kmer", type=int, help="bases in a token of DNA; not given: one")
    parser.add_argument("--labels", help="N,N for all sets; not given: two for each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="of fine-tuning, in batches of 16 (contacts: 4)")
    parser.add_argument("--strategy", default="full")
    parser.add_argument("--lr", type=float, help="of fine-tuning")
    parser.add_argument("--arms", help="only these, such as scratch,mlm")
    parser.add_argument("--test", default="test", choices=["test", "valid"])
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def cells(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Everything to measure."""
    every = []
    for name in options.sets.split(","):
        numbers = [int(n) for n in options.labels.split(",")] if options.labels else SETS[name]["labels"]
        seeds = range(options.seeds)
        arms = [a for a in arms_of(name, options.objectives.split(",")) if a in (options.arms or a).split(",")]
        every += [{"set": name, "labels": n, "seed": s, "arm": a} for n in numbers for s in seeds for a in arms]
    return every


def main() -> None:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    objectives, names = options.objectives.split(","), options.sets.split(",")
    runs = {
        (modality, objective): pretrained(
            options, objective, str(options.data / POOLS[modality]), options.out / f"{modality}-{objective}",
            modality=modality_of(options, modality), family=options.family,
        )
        for modality in dict.fromkeys(SETS[n]["modality"] for n in names) for objective in objectives
    }  # fmt: skip
    parts = {name: [records(options.data, name, part) for part in ("train", options.test)] for name in names}

    def measure(cell: dict[str, Any]) -> dict[str, float]:
        name, number, seed, arm = cell.values()
        train, test = parts[name]
        chosen = few(train, number, seed)
        if arm not in ("scratch", *objectives):
            return classical(arm, SETS[name]["task"], chosen, test, seed)
        run = runs[SETS[name]["modality"], objectives[0] if arm == "scratch" else arm]
        return tuned(options, name, run["folder"], chosen, test, scratch=arm == "scratch", seed=seed)

    done = measured(options.out / f"{options.test}.jsonl", cells(options), measure)
    print(table(done, SETS, lambda name: arms_of(name, objectives)), health(runs), sep="\n\n")


if __name__ == "__main__":
    main()
