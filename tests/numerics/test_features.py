"""Cached features: bit-equal to the whole model on the same batch, no more stored than the head uses."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertModel

from pretune import encoder, features
from pretune.errors import ConfigError
from pretune.features import FrozenFeatures, cached
from pretune.modalities.text import Text
from pretune.strategies.freeze import Freeze
from pretune.strategies.full import Full
from pretune.tasks.classification import Classification
from pretune.tasks.tagging import Tagging

TEXTS = ["a fine film", "dull, slow and far too long", "I would see it again tomorrow", "no", "why not ?"]
LABELS = ["pos", "neg", "pos", "neg", "pos"]
WORDS = [t.split() for t in TEXTS]
TAGS = [["B-X" if len(w) > 3 else "O" for w in words] for words in WORDS]


def classification(source: Any, minilm: Path, strategy: Any, **options: Any) -> tuple[Classification, list[Any], Any]:
    task = Classification(**options)
    task.learn_labels(LABELS)
    modality = Text(max_length=32).load(str(minilm))
    torch.manual_seed(0)
    report = task.setup_from(source, modality)
    task.model = strategy.setup(task.model, report.new)
    examples = [task.labelled(modality.process({"text": t}), y) for t, y in zip(TEXTS, LABELS, strict=True)]
    return task, examples, report


def tagging(minilm: Path, strategy: Any, max_length: int = 32) -> tuple[Tagging, list[Any]]:
    task = Tagging()
    task.learn_labels(TAGS)
    torch.manual_seed(0)
    report = task.setup_from(str(minilm), Text(max_length=max_length).load(str(minilm)))
    task.model = strategy.setup(task.model, report.new)
    long = [[*WORDS[0] * 8, *WORDS[1]], *WORDS[1:]]
    tags = [[*TAGS[0] * 8, *TAGS[1]], *TAGS[1:]]
    examples = task.process([{"tokens": w} for w in long])
    return task, [task.labelled(e, t) for e, t in zip(examples, tags, strict=True)]


def assert_replayed(task: Any, examples: list[Any], store: FrozenFeatures) -> None:
    """Same batch as the encoder had: bit-equal logits, loss, gradients. Another batch: nearly."""
    order = sorted(range(len(examples)), key=lambda i: -task.modality.length(examples[i]))
    results = []
    for source in (examples, store):
        torch.manual_seed(5)
        task.zero_grad()
        outputs = task.train()(task.collate([source[i] for i in order]))
        outputs["loss"].backward()
        gradients = [p.grad.clone() for p in task.parameters() if p.grad is not None]
        results.append((outputs["logits"][task_words(task, examples, order)], outputs["loss"], gradients))
    (plain, loss, grads), (replayed, cached_loss, cached_grads) = results
    assert torch.equal(plain, replayed)
    assert torch.equal(loss, cached_loss)
    assert len(grads) == len(cached_grads) > 0
    assert all(torch.equal(a, b) for a, b in zip(grads, cached_grads, strict=True))
    task.eval()
    alone = task(task.collate([store[3]]))["loss"]
    torch.testing.assert_close(alone, task(task.collate([examples[3]]))["loss"], rtol=1e-4, atol=1e-5)


def task_words(task: Any, examples: list[Any], order: list[int]) -> Any:
    if not isinstance(task, Tagging):
        return slice(None)
    return task.collate([examples[i] for i in order])["word_index"] >= 0


def test_loaded_pooler_is_all_that_is_stored(minilm: Path) -> None:
    task, examples, report = classification(str(minilm), minilm, Freeze())
    assert not any("pooler" in n for n in report.new)
    with closing(FrozenFeatures(task, examples)) as store:
        assert_replayed(task, examples, store)
        assert set(store[0]["features"][0]) == {"pooler_output"}
        assert store.num_bytes == 5 * 384 * 4


def test_new_pooler_is_trained_on_the_stored_first_position(minilm: Path, tmp_path: Path) -> None:
    BertModel.from_pretrained(minilm, add_pooling_layer=False).save_pretrained(tmp_path)
    task, examples, report = classification(tmp_path, minilm, Freeze())
    assert "bert.pooler.dense.weight" in report.new
    with closing(FrozenFeatures(task, examples)) as store:
        assert_replayed(task, examples, store)
        assert task.model.bert.pooler.dense.weight.grad is not None
        assert store.num_bytes == 5 * 384 * 4


@pytest.mark.parametrize("layers", [1, 4, 6])
def test_lowest_blocks(minilm: Path, layers: int) -> None:
    task, examples, _ = classification(str(minilm), minilm, Freeze(layers=layers))
    for module in task.modules():  # dropout above the frozen part draws the same noise in both
        module.p = 0.0 if isinstance(module, torch.nn.Dropout) else getattr(module, "p", None)
    with closing(FrozenFeatures(task, examples, layers=layers)) as store:
        assert_replayed(task, examples, store)


@pytest.mark.parametrize("strategy", [Freeze(), Freeze(layers=5)], ids=["whole", "blocks"])
@pytest.mark.parametrize("max_length", [16, 64])
def test_tagging_with_windows(minilm: Path, strategy: Freeze, max_length: int) -> None:
    task, examples = tagging(minilm, strategy, max_length)
    assert ("more" in examples[0]) is (max_length == 16)
    with closing(FrozenFeatures(task, examples, layers=strategy.layers)) as store:
        assert_replayed(task, examples, store)


def test_mean_pooling_needs_every_position(minilm: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ModernBertConfig(
        vocab_size=30522, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        pad_token_id=0, bos_token_id=101, eos_token_id=102, cls_token_id=101, sep_token_id=102,
        reference_compile=False,
    )  # fmt: skip
    transformers.ModernBertModel(config).save_pretrained(tmp_path)
    for pooling, per_text in (("mean", None), ("cls", 1)):
        source = encoder.read_config(tmp_path)
        source.classifier_pooling = pooling
        source.save_pretrained(tmp_path)
        task, examples, _ = classification(tmp_path, minilm, Freeze())
        with closing(FrozenFeatures(task, examples)) as store:
            assert_replayed(task, examples, store)
            tokens = sum(len(e["input_ids"]) for e in examples)
            assert store.num_bytes == 4 * 32 * (5 * per_text if per_text else tokens)


def test_other_architectures(minilm: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"vocab_size": 30522, "pad_token_id": 0}
    configs = [
        transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=32, **small),
        transformers.RobertaConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, **small
        ),
        transformers.ElectraConfig(
            hidden_size=32, embedding_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, **small,
        ),
    ]  # fmt: skip
    for config in configs:
        folder = tmp_path / config.model_type
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        for layers in (None, 1):
            task, examples, _ = classification(folder, minilm, Freeze(layers=layers))
            task.model.eval()
            with closing(FrozenFeatures(task, examples, layers=layers)) as store:
                order = sorted(range(5), key=lambda i: -len(examples[i]["input_ids"]))
                both = [task(task.collate([s[i] for i in order]))["logits"] for s in (examples, store)]
                assert torch.equal(*both), config.model_type
                if layers is None:
                    assert store.num_bytes == 5 * 32 * 4


def test_large_features_lie_in_a_file_that_is_removed(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "MEMORY_LIMIT", 100)
    task, examples = tagging(minilm, Freeze())
    store = FrozenFeatures(task, examples, folder=tmp_path)
    assert [f.stat().st_size for f in tmp_path.iterdir()] == [store.num_bytes]
    assert_replayed(task, examples, store)
    assert [e["words"] for e in store[1:3]] == [e["words"] for e in examples[1:3]]
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_cached_follows_the_strategies(minilm: Path) -> None:
    task, examples, _ = classification(str(minilm), minilm, Full())
    with cached(task, [Full()], examples, examples[:2]) as (train, valid):
        assert train is examples
        assert len(valid) == 2
    freeze = Freeze(layers=2)
    task, examples, _ = classification(str(minilm), minilm, freeze)
    with cached(task, [Full(), freeze], examples, examples[:2]) as (train, valid):
        assert set(train[0]["features"][0]) == set(valid[0]["features"][0]) == {"block_2"}


def test_a_moving_encoder_cannot_be_cached(minilm: Path) -> None:
    task, examples, _ = classification(str(minilm), minilm, Full())
    with pytest.raises(ConfigError, match="Only a frozen encoder"):
        FrozenFeatures(task, examples)
    with pytest.raises(ConfigError, match="Only a frozen encoder"):
        FrozenFeatures(task, examples, layers=1)


def test_the_auto_class_is_the_one_tested() -> None:
    assert Classification().auto_class_for("tokens") is AutoModelForSequenceClassification
