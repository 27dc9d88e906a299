"""What DNA and proteins share: letters to tokens, corpora of long records, both strands."""

from __future__ import annotations

__all__ = ["SequenceModality"]

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import datasets
import numpy as np
from transformers import PretrainedConfig

from pretune import data, homology, sequence_config
from pretune.alphabets import Alphabet, reverse_complement
from pretune.corpus import TokenCorpus, corpus_key, open_or_build
from pretune.errors import ConfigError, DataError
from pretune.modalities.base import Example
from pretune.progress import say
from pretune.sequence_tokens import STRANDS, SequenceTokenizer, own_tokenizer, trained_bpe, vocabulary
from pretune.token_modality import TokenModality, required_tokenizer

if TYPE_CHECKING:
    from pretune.classical import Classical
    from pretune.tasks.base import Task

_PIECE, _SEGMENT = 2048, 32
"""Letters of a document of a corpus, into which contigs are cut; and of its segments, where windows may begin."""

_BPE_LETTERS = 5_000_000

_LOOKED_AT = 100
"""Sequences by which it is judged what they are."""

_SHOWN = 60
"""Letters of a sequence that stand for it where records are listed."""

_MOST_RELATED = 0.5
"""Share of the records in one group of near sequences from which on groups cannot be held out."""


class SequenceModality(TokenModality):
    """Base of `dna` and `protein`.

    Attributes:
        alphabet: What letters there are.
    """

    words: ClassVar[bool] = False
    names: ClassVar[Mapping[str, Sequence[str]]] = data.ID_COLUMNS
    sizes: ClassVar[Collection[str]] = tuple(sequence_config.SIZES)
    families: ClassVar[Collection[str]] = sequence_config.FAMILIES
    alphabet: ClassVar[Alphabet]

    tokenizer: str = "single"
    kmer: int = 1
    vocab_size: int = 0
    both_strands: bool = False
    reverse_complement: bool = False

    def __init__(self, max_length: int) -> None:
        if max_length < 8:
            raise ConfigError(f"max_length must be at least 8 tokens, found {max_length}.")
        self.max_length = max_length
        self.columns = {}
        self.num_truncated = 0

    @property
    def letters(self) -> bool:
        """Whether a token is a letter, so that tags and contacts fall on tokens."""
        return self.tokenizer == "single"

    def baseline(self, task: Task) -> Classical | None:
        """A linear model of k-mers; for tagging of proteins, of windows."""
        from pretune import sequence_baselines

        return sequence_baselines.for_task(task, self.alphabet)

    def learn(self, source: Any) -> None:
        """Makes the vocabulary; only byte-pair encoding is learnt from `source`."""
        if self.tokenizer == "bpe":
            hf = trained_bpe(
                self._sample(source), vocab_size=self.vocab_size, alphabet=self.alphabet, max_length=self.max_length
            )
        else:
            k = self.kmer if self.tokenizer == "kmer" else 1
            ids = {token: i for i, token in enumerate(vocabulary(self.alphabet, k))}
            hf = own_tokenizer(ids, k=k, alphabet=self.alphabet, max_length=self.max_length)
        self._adopt(hf)

    def _say_if_bases(self, sequences: Sequence[str]) -> None:
        """Warns of proteins that are spelt in the letters of DNA, as no protein of some length is."""
        if self.name == "protein" and sequences and not set("".join(sequences)) - set("ACGTUN"):
            say("all sequences are spelt in A, C, G, T, U and N: are they DNA (--modality dna)?")

    def load(self, folder: str) -> Self:
        """Takes the tokenizer of a model directory or Hub name (ESM's, k-mers); the options then say what it is.

        Raises:
            ModelError: There is none, or it does not know the letters.
            ConfigError: max_length is more than the model's positions.
        """
        self._adopt(required_tokenizer(folder))
        self.limit_to(folder)
        return self

    def _adopt(self, loaded: Any) -> None:
        self._tokens = SequenceTokenizer.of(loaded, self.alphabet, self.max_length)
        self.hf = self._tokens.hf
        self.tokenizer, self.vocab_size = self._tokens.algorithm, len(self.hf)
        if self.tokenizer == "kmer":
            self.kmer = self._tokens.k

    def _sample(self, source: Any) -> Iterator[str]:
        size = 0
        for sequence in self._sequences(source):
            yield sequence[: _BPE_LETTERS - size]
            size += len(sequence)
            if size >= _BPE_LETTERS:
                return

    def _sequences(self, source: Any) -> Iterator[str]:
        """Clean sequences of unlabelled data or of labelled records, one record in memory at a time."""
        if isinstance(source, datasets.Dataset) and "sequence" in source.column_names:
            rows: Any = ((record, None) for record in source)
        else:
            roles = {"sequence": self.inputs["sequence"]}
            rows = data.stream_records(source, roles=roles, columns=self.columns, required=("sequence",))
        for record, error in rows:
            if error is not None:
                raise error
            yield self._clean(record)

    def _clean(self, record: Mapping[str, Any]) -> str:
        try:
            return self.alphabet.clean(record["sequence"])
        except DataError as bad:
            raise DataError(f"{record.get('_file', 'the data')}, row {record.get('_row', '?')}: {bad}") from bad

    def _documents(self, source: Any) -> Iterator[str]:
        """Pieces of the sequences; with both strands a piece and its reverse complement are one document."""
        for sequence in self._sequences(source):
            for start in range(0, len(sequence), _PIECE):
                piece = sequence[start : start + _PIECE]
                yield f"{piece}{STRANDS}{reverse_complement(piece)}" if self.both_strands else piece

    def corpus(self, source: Any, *, cache: Path, split: str, units: str = "stream") -> TokenCorpus:
        """Encodes unlabelled sequences once; see `pretune.corpus.open_or_build`.

        Contigs are cut into pieces of 2,048 letters, so that part of a genome can be held out; a piece is held out
        with its other strand.
        """
        if split != "valid":
            self._say_if_bases(list(islice(self._sequences(source), _LOOKED_AT)))
        made = (self.name, self.tokenizer, self.kmer, self.hf.backend_tokenizer.to_str(), self.both_strands, _PIECE)
        return open_or_build(
            lambda: self._documents(source),
            encode=partial(self._tokens.encode, alphabet=self.alphabet),
            special=self.special,
            vocab_size=len(self.hf),
            cache=cache,
            key=corpus_key(data.fingerprint(source), *made, self.columns),
            split=split,
            sentences=units == "sentences",
            segment=_segments,
        )

    def related(self, records: Any) -> list[int] | None:
        """Groups of near sequences by shared k-mers (`pretune.homology`), which a validation split keeps together."""
        sequences = [self._clean(record) for record in records]
        self._say_if_bases(sequences)
        wanted = homology.near(self.name, max(map(len, sequences)))
        groups = homology.clusters(sequences, k=wanted.k, identity=wanted.identity, strands=wanted.strands)
        num_groups, largest = int(groups.max()) + 1, int(np.bincount(groups).max())
        if largest > _MOST_RELATED * len(groups):
            say(
                f"{largest:,} of {len(groups):,} sequences are near one another: validation is a random share of them, "
                "and says how well variants of these are predicted, not other sequences"
            )
            return None
        if num_groups == len(groups):
            return None
        say(f"validation holds out whole groups of near sequences, of {num_groups:,}")
        return [int(g) for g in groups]

    def origin(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The ``id`` of the record, as of a FASTA header."""
        return {"id": record["id"]} if record.get("id") is not None else {}

    def shown(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """``id``, where there is one, the first letters as ``start``, and ``num_letters``."""
        text = self.alphabet.clean("".join(record["tokens"]) if "tokens" in record else record["sequence"])
        return self.origin(record) | {"start": text[:_SHOWN], "num_letters": len(text)}

    def unlabelled_records(
        self, source: Any, *, length: int | None = None
    ) -> Iterator[tuple[dict[str, Any] | None, data.RowError | None]]:
        """Pieces of the sequences, since contigs are longer than any model reads; a piece's ``id`` says its place."""
        size = length or self.max_length - 2
        for record, error in super().unlabelled_records(source):
            if record is None:
                yield record, error
                continue
            try:
                yield from ((piece, None) for piece in self._cut(record, size))
            except DataError as bad:
                yield None, data.RowError(record["_file"], record["_row"], str(bad))

    def _cut(self, record: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
        """The record itself, or pieces of `size` letters; a shorter rest belongs to the last piece but is not read."""
        text = self.alphabet.clean(record["sequence"])
        if len(text) <= size:
            yield record
            return
        name = record.get("id") or f"row {record['_row']}"
        for start in range(0, len(text) - size + 1, size):
            yield record | {"sequence": text[start : start + size], "id": f"{name}:{start + 1}-{start + size}"}

    def process(self, record: Mapping[str, Any]) -> Example:
        """One ``sequence`` to at most max_length tokens; see `process_many`."""
        return self.process_many([record])[0]

    def process_many(self, records: Sequence[Mapping[str, Any]]) -> list[Example]:
        """Encodes sequences; what is longer than max_length loses its end, and is counted.

        Returns:
            ``input_ids`` with start and end token; with reverse_complement also ``reverse``, those of the other strand;
            of records with ``tokens`` (a list of letters) ``word_ids``, the letter of each token, -1 for special ones.

        Raises:
            DataError: No sequence, or a letter that is none.
        """
        texts = [self.alphabet.clean("".join(r["tokens"]) if "tokens" in r else r.get("sequence")) for r in records]
        examples = [self._example(ids) for ids in self._tokens.encode(texts, self.alphabet)]
        for record, text, example in zip(records, texts, examples, strict=True):
            if "tokens" in record:
                example["word_ids"] = [-1, *range(len(example["input_ids"]) - 2), -1]
            elif self.reverse_complement:
                example["reverse"] = self._framed(self._tokens.encode([reverse_complement(text)], self.alphabet)[0])
        return examples

    def _example(self, ids: list[int]) -> Example:
        self.num_truncated += len(ids) > self.max_length - 2
        return {"input_ids": self._framed(ids)}

    def _framed(self, ids: list[int]) -> list[int]:
        ends = self.special
        return [ends["cls"], *ids[: self.max_length - 2], self._tokens.end]

    def config(self, size: str, family: str) -> PretrainedConfig:
        """The config of a size preset (tiny, mini, small, medium, base) of a family (modernbert, esm, bert)."""
        self.read_by(["input_ids", "attention_mask"])
        return sequence_config.sequence_config(
            size, family, vocab_size=len(self.hf), max_length=self.max_length, special=self.special
        )


def _segments(document: str) -> list[str]:
    return [document[i : i + _SEGMENT] for i in range(0, len(document), _SEGMENT)]
