"""`pretrain` from Python: the start of the embeddings, options without effect, and what is written."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

import pretune
from pretune import cooccurrence
from pretune.errors import ConfigError
from pretune.modalities.text import Text


@pytest.fixture(scope="module")
def reviews() -> list[str]:
    """Two topics whose words never meet."""
    rng = random.Random(0)
    topics = ["cat dog fur paw tail bark", "stock bond rate bank fund yield"]
    return [" ".join(rng.choices(topics[k % 2].split(), k=12)) + "." for k in range(400)]


def small(reviews: list[str], out: Path, **options: object) -> pretune.run.RunResult:  # type: ignore[name-defined]
    defaults = {"size": "tiny", "budget": "4steps", "batch_size": 4, "modality": {"name": "text", "vocab_size": 256}}
    return pretune.pretrain(reviews, out=str(out), **(defaults | options))


def test_words_of_one_topic_start_close(reviews: list[str], tmp_path: Path) -> None:
    text = Text(vocab_size=256, max_length=32).learn_from(reviews)
    corpus = text.corpus(reviews, cache=tmp_path, split="all", units="stream")
    vectors = cooccurrence.word_vectors(corpus, 8)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, 1e-9)
    ids = {w: text.hf.convert_tokens_to_ids(w) for w in ("cat", "dog", "stock", "bond")}
    assert all(norms[i] > 0 for i in ids.values())
    same = unit[ids["cat"]] @ unit[ids["dog"]]
    other = unit[ids["cat"]] @ unit[ids["stock"]]
    assert same > other + 0.5


def test_vectors_have_length_one_and_unseen_rows_stay(reviews: list[str], tmp_path: Path) -> None:
    text = Text(vocab_size=256, max_length=32).learn_from(reviews)
    corpus = text.corpus(reviews, cache=tmp_path, split="all", units="stream")
    model = AutoModelForMaskedLM.from_config(text.config("tiny", "modernbert"))
    weight = model.get_input_embeddings().weight
    before = weight.detach().clone()
    cooccurrence.initialise(model, corpus)
    ids = np.unique(np.asarray(corpus.slice(0, len(corpus)), dtype=np.int64))
    seen = torch.zeros(len(weight), dtype=torch.bool)
    seen[ids[ids != corpus.special["sep"]]] = True
    assert torch.equal(weight[~seen], before[~seen])
    torch.testing.assert_close(weight[seen].norm(dim=1), torch.ones(int(seen.sum())))
    assert not weight.requires_grad


def test_no_pair_crosses_a_document(tmp_path: Path) -> None:
    texts = ["cat dog", "stock bond"] * 300
    text = Text(vocab_size=256, max_length=32).learn_from(texts)
    corpus = text.corpus(texts, cache=tmp_path, split="all", units="stream")
    counts = cooccurrence.counts(corpus, (1, 2, 3))
    cat, dog, stock = (text.hf.convert_tokens_to_ids(w) for w in ("cat", "dog", "stock"))
    assert counts[cat, dog] == counts[dog, cat] == 300
    assert counts[dog, stock] == counts[cat, stock] == 0


def test_a_left_out_distance_counts_with_the_next(tmp_path: Path) -> None:
    texts = ["one two three four"] * 100
    text = Text(vocab_size=256, max_length=32).learn_from(texts)
    corpus = text.corpus(texts, cache=tmp_path, split="all", units="stream")
    counts = cooccurrence.counts(corpus, (1, 3))
    one, two, three, four = (text.hf.convert_tokens_to_ids(w) for w in ["one", "two", "three", "four"])
    assert counts[one, two] == 100
    assert counts[one, three] == 0
    assert counts[one, four] == pytest.approx(100 * (1 / 2 + 1 / 3))


def test_pre_training_leaves_the_word_vectors_alone(reviews: list[str], tmp_path: Path) -> None:
    runs = [small(reviews, tmp_path / b, budget=b) for b in ("1steps", "6steps")]
    models = [AutoModelForMaskedLM.from_pretrained(r.path / "model") for r in runs]
    first, second = (m.get_input_embeddings().weight for m in models)
    assert torch.equal(first, second)
    assert not torch.equal(models[0].model.layers[0].mlp.Wi.weight, models[1].model.layers[0].mlp.Wi.weight)
    assert second.requires_grad  # fine-tuning moves them


def test_init_changes_the_model(reviews: list[str], tmp_path: Path) -> None:
    runs = {init: small(reviews, tmp_path / str(init), init=init) for init in (None, "cooccurrence", "random")}
    weights = {
        k: AutoModelForMaskedLM.from_pretrained(r.path / "model").get_input_embeddings().weight for k, r in runs.items()
    }
    assert torch.equal(weights[None], weights["cooccurrence"])
    assert not torch.equal(weights[None], weights["random"])


@pytest.mark.parametrize("option", [{"size": "tiny"}, {"family": "bert"}, {"init": "random"}])
def test_options_of_a_new_model_are_refused_with_a_checkpoint(
    option: dict[str, str], minilm: Path, reviews: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="has no effect with --from"):
        pretune.pretrain(reviews, out=str(tmp_path / "run"), from_=str(minilm), **option)
    if "init" not in option:
        with pytest.raises(ConfigError, match="has no effect with --from"):
            pretune.finetune(reviews, out=str(tmp_path / "run"), from_=str(minilm), **option)
    assert not (tmp_path / "run").exists()


def test_an_unknown_init_is_refused(reviews: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='Did you mean "random"'):
        small(reviews, tmp_path / "run", init="randm")


def test_continues_from_the_real_model(minilm: Path, reviews: list[str], tmp_path: Path) -> None:
    run = pretune.pretrain(reviews, out=str(tmp_path / "run"), from_=str(minilm), budget="2steps", batch_size=2)
    continued = AutoModelForMaskedLM.from_pretrained(run.path / "model")
    assert continued.config.hidden_size == 384
