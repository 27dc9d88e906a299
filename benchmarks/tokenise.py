"""Tokenising a corpus: pretune (read, tokenise, split, write, open) against `tokenizers` alone (encode, ids).

``python benchmarks/tokenise.py corpus.txt``: both in turn on the first 20 MB, medians; the goal is 0.9.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from pretune import data
from pretune.corpus import encoder_of, open_or_build
from pretune.modalities.text import Text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", help="a text file with one document a line (.txt or .txt.gz)")
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sentences", action="store_true", help="also segment into sentences")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "sample.txt"
        source.write_text("\n".join(head(options.path, options.megabytes * 1e6)), encoding="utf-8")
        text = Text().learn_from(d.text for d in data.documents(source))
        tokenizer = text.hf.backend_tokenizer
        plain, ours = [], []
        for repeat in range(options.repeats):
            plain.append(timed(lambda: alone(tokenizer, source)))
            cache = Path(folder) / str(repeat)
            ours.append(timed(lambda c=cache: build(text, source, c, options.sentences)))
    size = options.megabytes
    print(f"tokenizers alone {size / statistics.median(plain):6.2f} MB/s  {[round(t, 2) for t in plain]} s")
    print(f"pretune          {size / statistics.median(ours):6.2f} MB/s  {[round(t, 2) for t in ours]} s")
    print(f"ratio            {statistics.median(plain) / statistics.median(ours):6.3f}")


def head(path: str, num_bytes: float) -> list[str]:
    texts: list[str] = []
    for document in data.documents(path):
        texts.append(document.text)
        num_bytes -= len(document.text.encode()) + 1
        if num_bytes <= 0:
            break
    return texts


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alone(tokenizer: Tokenizer, source: Path) -> None:
    """What one would write with `tokenizers`: the texts are already in memory, the ids are dropped."""
    tokenizer.no_truncation()
    with source.open(encoding="utf-8") as lines:
        for batch in iter(lambda: list(itertools.islice(lines, 1000)), []):
            _ = [e.ids for e in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]


def build(text: Text, source: Path, cache: Path, sentences: bool) -> None:
    open_or_build(
        lambda: (d.text for d in data.documents(source)),
        encode=encoder_of(text.hf.backend_tokenizer),
        special=text.special,
        vocab_size=text.vocab_size,
        cache=cache,
        key="benchmark",
        sentences=sentences,
    )


if __name__ == "__main__":
    main()
