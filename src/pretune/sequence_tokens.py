"""Tokenizers of sequences: one letter a token, k letters a token, or byte-pair encoding; and their fast encoding."""

from __future__ import annotations

__all__ = ["STRANDS", "SequenceTokenizer", "own_tokenizer", "trained_bpe", "vocabulary"]

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, Self

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from pretune.alphabets import DNA, PROTEIN, Alphabet
from pretune.errors import ModelError

STRANDS = "|"
"""Between the two strands of a document of an unlabelled corpus; becomes the end token."""

_START, _END = ("<cls>", "<pad>", "<eos>", "<unk>"), ("<null_1>", "<mask>")
_ROLES = {
    "cls_token": "<cls>",
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_BPE_WORD = 256


def vocabulary(alphabet: Alphabet, k: int = 1) -> list[str]:
    """Tokens in the order of their ids; for proteins the first 33 are those of ESM, as fair-esm numbers them.

    Args:
        alphabet: Its letters are tokens.
        k: Above 1, all strings of k standard letters are tokens too.
    """
    letters, late = alphabet.standard + alphabet.others, "J*"
    kmers = ["".join(some) for some in product(alphabet.standard, repeat=k)] if k > 1 else []
    first = [c for c in letters if c not in late]
    return [*_START, *first, *_END, *(c for c in letters if c in late), *kmers]


def own_tokenizer(ids: Mapping[str, int], *, k: int, alphabet: Alphabet, max_length: int) -> PreTrainedTokenizerFast:
    """A fast transformers tokenizer of a fixed vocabulary: k standard letters a token, others alone."""
    backend = Tokenizer(models.WordLevel(dict(ids), unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_pattern(k, alphabet)), "isolated")
    return _wrapped(backend, alphabet, max_length)


def trained_bpe(
    sequences: Iterable[str], *, vocab_size: int, alphabet: Alphabet, max_length: int
) -> PreTrainedTokenizerFast:
    """Byte-pair encoding of sequences (as DNABERT-2, Zhou et al. 2024), trained on pieces of 256 letters."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*_START, *_END],
        initial_alphabet=list(alphabet.standard + alphabet.others),
        show_progress=False,
    )
    backend.train_from_iterator((w for s in sequences for w in _words(s)), trainer)
    return _wrapped(backend, alphabet, max_length)


def _words(sequence: str) -> list[str]:
    return [sequence[i : i + _BPE_WORD] for i in range(0, len(sequence), _BPE_WORD)]


def _pattern(k: int, alphabet: Alphabet) -> str:
    return f"[{alphabet.standard}]{{{k}}}|." if k > 1 else "."


def _wrapped(backend: Tokenizer, alphabet: Alphabet, max_length: int) -> PreTrainedTokenizerFast:
    letters = alphabet.standard + alphabet.others
    folds = [(c.lower(), c) for c in letters if c.isalpha()]
    folds += [(form, c) for old, c in alphabet.folded.items() for form in (old, old.lower())]
    backend.normalizer = normalizers.Sequence([normalizers.Replace(old, new) for old, new in folds])
    ends = [(token, backend.token_to_id(token)) for token in ("<cls>", "<eos>")]
    backend.post_processor = processors.TemplateProcessing(single="<cls> $A <eos>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        **{role: AddedToken(token, special=True, normalized=False) for role, token in _ROLES.items()},
    )


class SequenceTokenizer(NamedTuple):
    """Encodes clean sequences; the same ids as the transformers tokenizer, faster.

    Attributes:
        hf: The transformers tokenizer, which is saved.
        algorithm: ``single``, ``kmer`` or ``bpe``.
        k: Letters a token of ``kmer``; otherwise 1.
        ids: Id of every token.
        end: Id of the end token.
    """

    hf: PreTrainedTokenizerFast
    algorithm: str
    k: int
    ids: Mapping[str, int]
    end: int

    @classmethod
    def of(cls, loaded: Any, alphabet: Alphabet, max_length: int) -> Self:
        """Takes over a tokenizer: this module's, ESM's, or one of k-mers.

        Raises:
            ModelError: It does not know the letters of the alphabet.
        """
        ids: Mapping[str, int] = loaded.get_vocab()
        missing = [c for c in alphabet.standard if c not in ids]
        pieces = any(len(token) > 1 and token.isalpha() for token in ids)  # as of byte-pair encoding of any letters
        if alphabet is DNA and set(PROTEIN.standard) <= ids.keys() and not pieces:
            raise ModelError("Its tokens are amino acids and not bases; give a model that was pre-trained on DNA.")
        if missing or loaded.mask_token is None:
            raise ModelError(
                f"Its tokenizer does not know the letters {', '.join(missing[:5])} of {alphabet.name} sequences; give "
                "a model that was pre-trained on them."
            )
        if loaded.is_fast and isinstance(loaded.backend_tokenizer.model, models.BPE):
            return cls(loaded, "bpe", 1, ids, _end(loaded))
        proper = [t for t in ids if set(t) <= set(alphabet.standard)]
        k = max(map(len, proper))
        own = loaded if loaded.is_fast else own_tokenizer(ids, k=k, alphabet=alphabet, max_length=max_length)
        return cls(own, "kmer" if k > 1 else "single", k, ids, _end(loaded))

    def encode(self, sequences: Sequence[str], alphabet: Alphabet) -> list[list[int]]:
        """Ids of clean sequences without special tokens; `STRANDS` becomes the end token."""
        if self.algorithm == "bpe":
            return [self._bpe(s) for s in sequences]
        if self.k > 1:
            split = re.compile(_pattern(self.k, alphabet)).findall
            ids, unknown = {**self.ids, STRANDS: self.end}, self._unknown
            return [[ids.get(token, unknown) for token in split(s)] for s in sequences]
        table = self._table()
        return [table[np.frombuffer(s.encode("latin-1"), np.uint8)].tolist() for s in sequences]

    @property
    def _unknown(self) -> int:
        return int(self.hf.unk_token_id if self.hf.unk_token_id is not None else self.ids["X"])

    def _table(self) -> Any:
        table = np.full(256, self._unknown, np.int32)
        for token, i in self.ids.items():
            if len(token) == 1 and ord(token) < 256:
                table[ord(token)] = i
        table[ord(STRANDS)] = self.end
        return table

    def _bpe(self, sequence: str) -> list[int]:
        parts = [self.hf.backend_tokenizer.encode(p, add_special_tokens=False).ids for p in sequence.split(STRANDS)]
        return [i for n, part in enumerate(parts) for i in ([self.end, *part] if n else part)]


def _end(loaded: Any) -> int:
    return int(loaded.eos_token_id if loaded.eos_token_id is not None else loaded.sep_token_id)
