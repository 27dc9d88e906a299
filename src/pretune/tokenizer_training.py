"""Trains WordPiece and byte-level BPE tokenizers, and says what a given tokenizer is."""

from __future__ import annotations

__all__ = [
    "SPECIAL_TOKENS",
    "TokenizerFacts",
    "describe",
    "num_unused",
    "train",
    "with_prefix_space",
    "wrapped",
]

import json
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import BertTokenizer, PreTrainedTokenizerFast

from pretune.errors import ConfigError, DataError, did_you_mean

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ALGORITHMS = ("wordpiece", "bpe")

_SAMPLE_CHARACTERS = 20_000_000
_MIN_FREQUENCY = 2


def train(texts: Iterable[str], *, algorithm: str, vocab_size: int, lowercase: bool) -> Tokenizer:
    """Trains on an evenly spread sample of at most 20 million characters.

    When the texts do not give `vocab_size` entries, ``[unused0]`` ... fill it up to a multiple of 64.

    Raises:
        ConfigError: Unknown algorithm, or `vocab_size` is not a positive multiple of 64.
        DataError: No text.
    """
    if algorithm not in ALGORITHMS:
        listed, hint = ", ".join(ALGORITHMS), did_you_mean(algorithm, ALGORITHMS)
        raise ConfigError(f'There is no tokenizer "{algorithm}"; there are: {listed}.{hint}')
    if vocab_size <= 0 or vocab_size % 64:
        above = max(1, -(-vocab_size // 64)) * 64
        raise ConfigError(f"vocab_size must be a multiple of 64, found {vocab_size}; take {above}.")
    if algorithm == "bpe" and vocab_size < 320:
        raise ConfigError(f"vocab_size must be at least 320 for bpe (it starts with 256 bytes), found {vocab_size}.")
    sample = _spread(texts, _SAMPLE_CHARACTERS)
    if not any(text.strip() for text in sample):
        raise DataError("There is no text to train a tokenizer on; give a source that has some.")
    make = _wordpiece if algorithm == "wordpiece" else _byte_level_bpe
    tokenizer, trainer = make(sample, vocab_size, lowercase)
    tokenizer.train_from_iterator(sample, trainer, length=len(sample))
    return _with_template(_filled(tokenizer), algorithm)


def _spread(texts: Iterable[str], num_characters: int) -> list[str]:
    """Every n-th text, n being the smallest power of two with which they fit; one pass, bounded memory."""
    kept: list[str] = []
    step, size = 1, 0
    for number, text in enumerate(texts):
        if number % step:
            continue
        kept.append(text[:num_characters])
        size += len(kept[-1])
        while size > num_characters and len(kept) > 1:
            kept, step = kept[::2], step * 2
            size = sum(map(len, kept))
    return kept


def _wordpiece(sample: list[str], vocab_size: int, lowercase: bool) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    # an alphabet may not fill a small vocabulary: rare characters become [UNK]
    alphabet = _alphabet(sample, tokenizer.normalizer, _alphabet_size(vocab_size))
    # the trainer numbers "##x" in random order, and breaks ties by number: fixed numbers make it reproducible
    inside = [f"##{c}" for c in alphabet if not _stands_alone(c)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        special_tokens=[*SPECIAL_TOKENS, *inside],
        show_progress=False,
    )
    return tokenizer, trainer


def _alphabet_size(vocab_size: int) -> int:
    """A share of the vocabulary, but room for Latin letters, digits and signs where there is any."""
    return max(min(1000, vocab_size // 16), min(128, vocab_size // 4))


def _alphabet(sample: list[str], normalizer: Any, limit: int) -> list[str]:
    """The most frequent characters after normalisation, sorted."""
    raw, counts = Counter[str](), Counter[str]()
    for text in sample:
        raw.update(text)
    for character, count in raw.items():
        counts.update({c: count for c in normalizer.normalize_str(character) if not c.isspace()})
    return sorted(sorted(counts, key=lambda c: (-counts[c], c))[:limit])


def _stands_alone(character: str) -> bool:
    """Whether BERT's pre-tokenizer makes it a word of its own, so that it never continues one."""
    ideograph = "\u3400" <= character <= "\u9fff"
    return ideograph or character in string.punctuation or unicodedata.category(character).startswith("P")


def _byte_level_bpe(sample: list[str], vocab_size: int, lowercase: bool) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.BPE())
    forms = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer.normalizer = normalizers.Sequence(forms)
    # the first word of a text gets the same token as elsewhere, so words can be aligned
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        # the space before the mask belongs to it, as the space before a word belongs to the word
        special_tokens=[*SPECIAL_TOKENS[:-1], AddedToken("[MASK]", lstrip=True, special=True)],
        show_progress=False,
    )
    return tokenizer, trainer


def _filled(tokenizer: Tokenizer) -> Tokenizer:
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] in SPECIAL_TOKENS]
    for i in range(-len(vocabulary) % 64):
        # part of the model, not an added token: no text can contain it
        vocabulary[f"[unused{i}]"] = len(vocabulary)
    return Tokenizer.from_str(json.dumps(content))


def num_unused(tokenizer: Tokenizer) -> int:
    """How many entries only fill the vocabulary up."""
    return sum(token.startswith("[unused") for token in tokenizer.get_vocab())


def _with_template(tokenizer: Tokenizer, algorithm: str) -> Tokenizer:
    template = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    if algorithm == "bpe":  # offsets of a word do not include the space before it
        trim = processors.ByteLevel(trim_offsets=True)
        tokenizer.post_processor = processors.Sequence([trim, template])
    else:
        tokenizer.post_processor = template
    return tokenizer


def wrapped(tokenizer: Tokenizer, *, lowercase: bool, max_length: int) -> PreTrainedTokenizerFast:
    """The transformers tokenizer of a trained one: a BertTokenizer for WordPiece."""
    names = ["input_ids", "token_type_ids", "attention_mask"]
    if describe(tokenizer).algorithm == "wordpiece":
        return BertTokenizer(
            vocab=tokenizer.get_vocab(),
            do_lower_case=lowercase,
            model_max_length=max_length,
            model_input_names=names,
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=names,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token=AddedToken("[MASK]", lstrip=True, special=True),
    )


class TokenizerFacts(NamedTuple):
    """The algorithm's name in lower case, and whether case is lost."""

    algorithm: str
    lowercase: bool


def describe(tokenizer: Tokenizer) -> TokenizerFacts:
    """What a tokenizer is, found by looking at it."""
    normalizer = tokenizer.normalizer
    lowercase = normalizer is not None and normalizer.normalize_str("A") == "a"
    return TokenizerFacts(type(tokenizer.model).__name__.lower(), lowercase)


def with_prefix_space(tokenizer: Tokenizer) -> Tokenizer:
    """A copy for lists of words: if byte-level, every word, also the first, has the space before it."""
    content = json.loads(tokenizer.to_str())
    for step in _steps(content.get("pre_tokenizer")):
        if step.get("type") == "ByteLevel":
            step["add_prefix_space"] = True
    return Tokenizer.from_str(json.dumps(content))


def _steps(pre_tokenizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    if pre_tokenizer is None:
        return []
    return [pre_tokenizer, *pre_tokenizer.get("pretokenizers", [])]
