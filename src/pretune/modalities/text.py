"""Text: words and sub-words, with a tokenizer learnt from the corpus or taken from a checkpoint."""

from __future__ import annotations

__all__ = ["Text"]

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import datasets
import numpy as np
from tokenizers import Encoding, Tokenizer
from transformers import PretrainedConfig

from pretune import data, text_config, tokenizer_training
from pretune.corpus import TokenCorpus, corpus_key, encoder_of, open_or_build
from pretune.corruptions.base import Corruption
from pretune.errors import ConfigError, DataError, ModelError
from pretune.modalities.base import Example
from pretune.progress import say
from pretune.token_modality import TokenModality, no_tokenizer, required_tokenizer

if TYPE_CHECKING:
    from pretune.classical import Classical
    from pretune.tasks.base import Task

_MAX_LENGTH = 128
_BATCH = 1024
_SHOWN = 1000
"""Characters of a text that stand for it where records are listed."""


class Text(TokenModality):
    """Text in any language that has spaces, one or two texts a record, or a list of words.

    Args:
        tokenizer: ``wordpiece`` (as BERT) or ``bpe`` (byte-level, as RoBERTa and GPT): what `learn` trains.
        vocab_size: Entries of a learnt vocabulary, a multiple of 64.
        lowercase: Whether a learnt tokenizer ignores case (WordPiece: accents too).
        max_length: Tokens of an example with its special tokens; what is longer is truncated and counted.
        boundary: A document of an unlabelled .txt file: a ``line``, up to a ``blank`` one, the ``file``.

    Attributes:
        hf: The transformers tokenizer, after `learn` or `load`.
        num_truncated: Records that `process` and `process_many` have truncated so far.
    """

    words: ClassVar[bool] = True
    inputs: ClassVar[Mapping[str, Sequence[str]]] = data.TEXT_COLUMNS
    learnt: ClassVar[Sequence[str]] = ("tokenizer", "vocab_size", "lowercase")
    unlabelled: ClassVar[Sequence[str]] = ("boundary",)
    sizes: ClassVar[Collection[str]] = tuple(text_config.SIZES)
    families: ClassVar[Collection[str]] = text_config.FAMILIES

    def __init__(
        self,
        *,
        tokenizer: str = "wordpiece",
        vocab_size: int = 8192,
        lowercase: bool = True,
        max_length: int = _MAX_LENGTH,
        boundary: str = "line",
    ) -> None:
        if max_length < 8:
            raise ConfigError(f"max_length must be at least 8 tokens, found {max_length}.")
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.lowercase = lowercase
        self.max_length = max_length
        self.boundary = boundary
        self.columns = {}
        self.num_truncated = 0

    def baseline(self, task: Task) -> Classical | None:
        """TF-IDF and a linear model; for tagging each word's most frequent tag."""
        from pretune import text_baselines

        return text_baselines.for_task(task)

    def learn(self, source: Any) -> None:
        """Trains the tokenizer on the texts of `source` (an evenly spread sample of them when they are many).

        Raises:
            ConfigError: An unknown tokenizer, or a vocab_size that is not a multiple of 64.
            DataError: The source cannot be read or has no text.
        """
        if isinstance(source, datasets.Dataset):  # labelled records, their columns named by role
            roles = [role for role in ("text", "text_pair", "tokens") if role in source.column_names]
            values = (record[role] for record in source.select_columns(roles) for role in roles)
            self.learn_from(v if isinstance(v, str) else " ".join(v) for v in values if v)
        else:
            self.learn_from(d.text for d in self._documents(source))

    def learn_from(self, texts: Iterable[str]) -> Self:
        """Like `learn`, from texts; returns self."""
        trained = tokenizer_training.train(
            texts, algorithm=self.tokenizer, vocab_size=self.vocab_size, lowercase=self.lowercase
        )
        found = trained.get_vocab_size() - tokenizer_training.num_unused(trained)
        if found < self.vocab_size:
            say(
                f"tokenizer: the corpus gives {found:,} of {self.vocab_size:,} entries; "
                f"the vocabulary is padded to {trained.get_vocab_size():,}"
            )
        self.hf = tokenizer_training.wrapped(trained, lowercase=self.lowercase, max_length=self.max_length)
        self._adopt()
        return self

    def load(self, folder: str) -> Self:
        """Takes the tokenizer of a model directory or Hub name; the options then say what it is.

        Raises:
            ModelError: There is no (fast) tokenizer.
            ConfigError: max_length is more than the model's positions.
        """
        self.hf = required_tokenizer(folder)
        if not self.hf.is_fast:
            raise ModelError(no_tokenizer(folder))
        self.limit_to(folder)
        self._adopt()
        return self

    def _adopt(self) -> None:
        """Makes the tokenizers that `process` uses, which the settings of `hf` calls cannot disturb."""
        facts = tokenizer_training.describe(self.hf.backend_tokenizer)
        self.tokenizer, self.lowercase, self.vocab_size = facts.algorithm, facts.lowercase, len(self.hf)
        self._texts = self._limited(self.hf.backend_tokenizer)
        self._words = self._limited(tokenizer_training.with_prefix_space(self.hf.backend_tokenizer))

    def _limited(self, backend: Tokenizer) -> Tokenizer:
        own = Tokenizer.from_str(backend.to_str())
        own.no_padding()
        own.enable_truncation(self.max_length, strategy="longest_first")
        return own

    def corpus(self, source: Any, *, cache: Path, split: str, units: str = "stream") -> TokenCorpus:
        """Tokenises unlabelled text once; see `pretune.corpus.open_or_build`.

        Args:
            source: Anything `pretune.data.documents` reads.
            cache: Folder for tokenised corpora.
            split: ``train``, ``valid`` or ``all``.
            units: ``stream``, or ``sentences`` to keep their borders.
        """
        plain = Tokenizer.from_str(self.hf.backend_tokenizer.to_str())
        plain.no_truncation()
        plain.no_padding()
        content = hashlib.blake2b(plain.to_str().encode(), digest_size=16).hexdigest()
        return open_or_build(
            lambda: (d.text for d in self._documents(source)),
            encode=encoder_of(plain),
            special=self.special,
            vocab_size=len(self.hf),
            cache=cache,
            key=corpus_key(data.fingerprint(source), content, self.columns, self.boundary),
            split=split,
            sentences=units == "sentences",
        )

    def _documents(self, source: Any) -> data.Documents:
        return data.documents(source, text_column=self.columns.get("text"), boundary=self.boundary)

    def unlabelled_records(
        self, source: Any, *, length: int | None = None
    ) -> Iterator[tuple[dict[str, Any] | None, data.RowError | None]]:
        """Documents as pre-training has them: empty ones are none, and `boundary` says where one ends."""
        for item in self._documents(source).tolerant():
            if isinstance(item, data.RowError):
                yield None, item
            else:
                yield {"text": item.text, "_file": item.file, "_row": item.row}, None

    def shown(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """``text``, of words with spaces between them, and ``text_pair``; long ones without their end."""
        whole = record["text"] if record.get("text") else " ".join(record["tokens"])
        texts = {"text": whole, "text_pair": record.get("text_pair")}
        return {k: v if len(v) <= _SHOWN else f"{v[:_SHOWN]}…" for k, v in texts.items() if v}

    def process(self, record: Mapping[str, Any]) -> Example:
        """Tokenises ``text`` (and ``text_pair``), or the words ``tokens``, to at most max_length tokens.

        Returns:
            ``input_ids``, with special tokens; for pairs ``token_type_ids`` where the model has them; for
            words ``word_ids``, the word of each token, -1 for special tokens.

        Raises:
            DataError: A value that is not text.
        """
        return self.process_many([record])[0]

    def process_many(self, records: Sequence[Mapping[str, Any]]) -> list[Example]:
        """`process` for many records, on all cores; all must have the same roles."""
        if not records:
            return []
        words = "tokens" in records[0] and "text" not in records[0]
        read = _words if words else _texts
        # the fast one does not say which word a token is of
        encode = self._words.encode_batch if words else self._texts.encode_batch_fast
        examples: list[Example] = []
        for start in range(0, len(records), _BATCH):
            inputs = [read(record) for record in records[start : start + _BATCH]]
            try:
                encodings = encode(inputs, is_pretokenized=words)
            except (TypeError, UnicodeEncodeError) as error:
                raise DataError(f"A text has characters that are no Unicode ({error}); clean it.") from error
            examples += [self._example(e, words, isinstance(i, tuple)) for e, i in zip(encodings, inputs, strict=True)]
        return examples

    def _example(self, encoding: Encoding, words: bool, pair: bool) -> Example:
        example: Example = {"input_ids": encoding.ids}
        if len(example["input_ids"]) == self.max_length and encoding.overflowing:
            self.num_truncated += 1
        if words:
            example["word_ids"] = [-1 if i is None else i for i in encoding.word_ids]
        elif pair and "token_type_ids" in self.hf.model_input_names:
            example["token_type_ids"] = encoding.type_ids
        return example

    def corruptions(self) -> Sequence[Corruption]:
        """Slips of the fingers, case, lost words."""
        from pretune.corruptions.text import CORRUPTIONS

        return CORRUPTIONS

    def config(self, size: str, family: str) -> PretrainedConfig:
        """The config of a size preset (tiny, mini, small, medium, base) of a family (bert, modernbert).

        Also makes the tokenizer give the inputs that the family reads: ModernBERT has no token types.
        """
        config = text_config.text_config(
            size, family, vocab_size=len(self.hf), max_length=self.max_length, special=self.special
        )
        names = ["input_ids", "token_type_ids", "attention_mask"]
        if family != "bert":
            names.remove("token_type_ids")
        self.read_by(names)
        return config


def _texts(record: Mapping[str, Any]) -> str | tuple[str, str]:
    text, pair = record.get("text"), record.get("text_pair")
    for value in (text, *([] if pair is None else [pair])):
        if not isinstance(value, str):
            raise DataError(f"A text was expected, found {value!r}; remove the row or name another column.")
    return str(text) if pair is None else (str(text), pair)


def _words(record: Mapping[str, Any]) -> list[str]:
    words = list(record["tokens"]) if isinstance(record["tokens"], (Sequence, np.ndarray)) else None
    if words is None or isinstance(record["tokens"], str) or not all(isinstance(w, str) for w in words):
        raise DataError(f"A list of words was expected, found {record['tokens']!r}.")
    return words
