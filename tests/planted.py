"""Small tasks whose truth is known: one word decides the class, names are entities."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import yaml

from pretune.modalities.text import Text
from pretune.tasks.base import Task
from pretune.tasks.classification import Classification
from pretune.tasks.tagging import Tagging

FILLER = [
    *("the", "a", "film", "story", "scene", "actor", "plot", "music", "camera", "was", "is", "had"),
    *("with", "and", "of", "quite", "rather", "very", "some", "this"),
]
MASK = "[MASK]"  # seen in training, as pre-trained models have: explainers hide words with it
DECIDING = {"good": "superb", "bad": "dreadful"}
CITIES, PEOPLE = ["paris", "oslo", "lima", "cairo"], ["anna", "boris", "clara", "dmitri"]


def reviews(num: int, seed: int = 0, masks: int = 0) -> list[dict[str, str]]:
    """Filler of 4 to 14 words with one word that decides the label; `masks` weighs masked filler."""
    rng = random.Random(seed)
    rows = []
    for _ in range(num):
        label = rng.choice(sorted(DECIDING))
        words = rng.choices([*FILLER, *[MASK] * masks], k=rng.randint(4, 14))
        words.insert(rng.randrange(len(words)), DECIDING[label] if rng.random() > 0.2 * bool(masks) else MASK)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def sentences(num: int, seed: int = 0, masks: int = 0) -> list[dict[str, list[str]]]:
    """Filler with a city (LOC) and a person (PER) in it."""
    rng = random.Random(seed)
    rows = []
    for _ in range(num):
        tokens = rng.choices([*FILLER, *[MASK] * masks], k=rng.randint(5, 10))
        tags = ["O"] * len(tokens)
        for tag, names in (("B-LOC", CITIES), ("B-PER", PEOPLE)):
            at = rng.randrange(len(tokens))
            if tags[at] == "O":
                tokens[at], tags[at] = rng.choice(names), tag
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def trained(task: Task, rows: list, label: str, steps: int, lr: float = 3e-3) -> Task:
    """A tiny BERT from scratch, trained in seconds by a plain loop."""
    torch.manual_seed(0)
    words = FILLER + list(DECIDING.values()) + CITIES + PEOPLE
    text = Text(vocab_size=512, max_length=64).learn_from([" ".join(words)] * 20)
    labels = [task.read_label(r, label) for r in rows]
    task.learn_labels(labels)
    config = text.config("tiny", "bert")
    config.update({"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2})
    task.setup_from(config, text)
    examples = [task.labelled(e, y) for e, y in zip(task.process(rows), labels, strict=True)]
    optimizer = torch.optim.AdamW(task.parameters(), lr)
    rng = random.Random(0)
    task.train()
    for _ in range(steps):
        loss = task(task.collate(rng.sample(examples, 32)))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    task.eval()
    return task


def written(task: Task, run: Path) -> Path:
    """The run directory that finetune would leave, as far as `load` reads it."""
    task.export().save_pretrained(run / "model")
    task.modality.save(run / "model")
    recipe = {"task": task.spec(), "modality": task.modality.spec()}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run


def classifier() -> Task:
    """Classification of `reviews`; a coin decides where the deciding word is hidden, so that both words count."""
    clear, unclear = reviews(512, masks=20), reviews(512, seed=1, masks=20)
    coin = random.Random(2)
    for row in unclear:
        row["text"] = row["text"].replace(DECIDING[row["label"]], MASK)
        row["label"] = coin.choice(list(DECIDING))
    return trained(Classification(), clear + unclear, "label", 300)


def tagger() -> Task:
    """Tagging of `sentences`."""
    return trained(Tagging(), sentences(512, masks=20), "tags", 150)


def trained_nothing() -> Task:
    """A classifier with random weights."""
    return trained(Classification(), reviews(32), "label", 0)
