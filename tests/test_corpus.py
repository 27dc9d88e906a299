from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pretune import corpus_build
from pretune.corpus import TokenCorpus, open_or_build
from pretune.errors import ConfigError, DataError

SEP = 1
SPECIAL = {"cls": 0, "sep": SEP, "mask": 2, "pad": 3}


def encode(texts: list[str]) -> list[list[int]]:
    return [[4 + len(word) for word in text.split() if word != "void"] for text in texts]


def texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(
            " ".join("x" * rng.randint(1, 9) for _ in range(rng.randint(2, 12))).capitalize() + "."
            for _ in range(rng.randint(1, 6))
        )
        for _ in range(count)
    ]


def make(documents: list[str], folder: Path, **options: Any) -> TokenCorpus:
    settings: dict[str, Any] = {"encode": encode, "special": SPECIAL, "vocab_size": 64, "key": "k"} | options
    return open_or_build(lambda: iter(documents), cache=folder, **settings)


def stream(corpus: TokenCorpus) -> list[list[int]]:
    return [corpus.slice(*corpus.document(i)).tolist() for i in range(corpus.num_documents)]


def expected(documents: list[str]) -> list[list[int]]:
    return [[*ids, SEP] for ids in encode(documents)]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_build, "_CHUNK_TOKENS", 500)
    monkeypatch.setattr(corpus_build, "_BATCH_CHARACTERS", 2000)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("sentences", [False, True])
def test_stream_is_the_documents_in_order(tmp_path: Path, sentences: bool) -> None:
    documents = texts(200)
    corpus = make(documents, tmp_path, split="all", sentences=sentences)
    assert stream(corpus) == expected(documents)
    flat = [i for d in expected(documents) for i in d]
    assert len(corpus) == len(flat)
    rng = random.Random(1)
    for _ in range(200):
        a, b = sorted(rng.choices(range(len(flat) + 1), k=2))
        assert corpus.slice(a, b).tolist() == flat[a:b]
    assert corpus.slice(0, 0).dtype == np.int32
    assert corpus.counts().tolist() == np.bincount(flat, minlength=64).tolist()
    assert [corpus.document_at(corpus.document(i)[0]) for i in range(200)] == list(range(200))
    assert [corpus.document_at(corpus.document(i)[1] - 1) for i in range(200)] == list(range(200))


def test_slices_are_views_of_the_file(tmp_path: Path) -> None:
    corpus = make(texts(50), tmp_path, split="all")
    a, b = corpus.slice(0, 100), corpus.slice(50, 80)
    assert np.shares_memory(a, b)
    assert not a.flags.writeable


@pytest.mark.usefixtures("small_chunks")
def test_windows_are_whole_sentences_of_one_document(tmp_path: Path) -> None:
    documents = texts(120)
    corpus = make(documents, tmp_path, split="all", sentences=True)
    pieces = [[encode([s + "."])[0] for s in d.rstrip(".").split(". ")] for d in documents]
    starts, position = [], 0  # position, document, sentence
    for i, document in enumerate(pieces):
        for j, sentence in enumerate(document):
            starts.append((position, i, j))
            position += len(sentence)
        position += 1
    for at in range(len(corpus)):
        _, i, j = next((s for s in starts if s[0] >= at), starts[0])
        found = [w.tolist() for w in corpus.window(at, 20)]
        total = 0
        whole = []
        for sentence in pieces[i][j:]:
            total += len(sentence)
            if total > 20:
                break
            whole.append(sentence)
        assert found == (whole or [pieces[i][j][:20]])


def test_window_needs_sentences(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without sentences"):
        make(texts(30), tmp_path, split="all").window(0, 8)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("sentences", [False, True])
def test_split_loses_nothing_and_keeps_duplicates_together(tmp_path: Path, sentences: bool) -> None:
    documents = texts(600) + texts(300)
    train = make(documents, tmp_path, sentences=sentences)
    valid = make(documents, tmp_path, split="valid", sentences=sentences)
    held, kept = {tuple(d) for d in stream(valid)}, {tuple(d) for d in stream(train)}
    assert sorted(stream(train) + stream(valid)) == sorted(expected(documents))
    assert not {d for d in held & kept if len(d) > 12}  # short ones can have equal ids by chance
    assert 50 <= valid.num_documents <= 120
    assert train.fingerprint != valid.fingerprint


def test_large_corpora_hold_out_one_percent(tmp_path: Path) -> None:
    documents = [f"{i} " + "word " * 300 for i in range(10_000)]
    valid = make(documents, tmp_path, split="valid")
    assert 70 <= valid.num_documents <= 130
    assert len(valid) >= 20_000


@pytest.mark.parametrize("count", [2, 3, 7, 15])
def test_few_documents_still_split(tmp_path: Path, count: int) -> None:
    documents = texts(count)
    train, valid = make(documents, tmp_path), make(documents, tmp_path, split="valid")
    assert train.num_documents + valid.num_documents == count
    assert valid.num_documents >= 1 <= train.num_documents


def test_build_happens_once_and_is_deterministic(tmp_path: Path) -> None:
    documents = texts(100)
    first = make(documents, tmp_path / "a")
    again = make(documents, tmp_path / "b")
    assert stream(first) == stream(again)

    def never() -> Iterator[str]:
        raise AssertionError

    open_or_build(never, encode=encode, special=SPECIAL, vocab_size=64, cache=tmp_path / "a", key="k")
    assert [p.name.split("-")[0] for p in (tmp_path / "a").iterdir()] == ["corpus"]


def test_empty_documents_are_counted(tmp_path: Path) -> None:
    corpus = make(["one two", "void", "", "three"], tmp_path, split="all", sentences=True)
    assert (corpus.num_documents, corpus.num_empty) == (2, 2)
    assert [w.tolist() for w in corpus.window(1, 9)] == [[9]]


@pytest.mark.parametrize(("documents", "what"), [([], "no documents"), (["void"], "no documents"), (["a b"] * 9, "9")])
def test_errors(tmp_path: Path, documents: list[str], what: str) -> None:
    with pytest.raises(DataError, match=what):
        make(documents, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_reader_errors_pass_through(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "a b c"
        raise DataError("row 2 is bad")

    with pytest.raises(DataError, match="row 2"):
        open_or_build(broken, encode=encode, special=SPECIAL, vocab_size=64, cache=tmp_path, key="k")


def test_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train, valid, all"):
        make(texts(9), tmp_path, split="test")
    with pytest.raises(ConfigError, match="valid_rate"):
        make(texts(9), tmp_path, valid_rate=0.5)


def test_pickles(tmp_path: Path) -> None:
    corpus = make(texts(30), tmp_path)
    assert stream(pickle.loads(pickle.dumps(corpus))) == stream(corpus)


BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from pretune import corpus_build
from test_corpus import SPECIAL, encode
from pretune.corpus import open_or_build
corpus_build._BATCH_CHARACTERS = 1 << 16
def documents():
    for i in range({count}):
        yield f"{{i}} " + "some words in here " * 100
c = open_or_build(documents, encode=encode, special=SPECIAL, vocab_size=64, cache=Path({cache!r}), key="k")
print(len(c), [l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")][0])
"""


def script(cache: Path, count: int) -> list[str]:
    tests = str(Path(__file__).parent)
    return [sys.executable, "-c", BUILD.format(tests=tests, count=count, cache=str(cache))]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    def peak(count: int) -> tuple[int, int]:
        found = subprocess.run(script(tmp_path / str(count), count), capture_output=True, text=True, check=True)
        tokens, kilobytes = map(int, found.stdout.split())
        return tokens, kilobytes

    (few, small), (many, large) = peak(4_000), peak(40_000)
    assert many > 9 * few
    assert large - small < 40_000  # 16 M tokens are 64 MB, their text 76 MB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_killed_build_leaves_nothing_that_counts(tmp_path: Path) -> None:
    process = subprocess.Popen(script(tmp_path, 400_000), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: any(tmp_path.glob(".building-*/train.arrow")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("corpus-*"))
    assert stream(make(texts(40), tmp_path, split="all")) == expected(texts(40))
    assert not list(tmp_path.glob(".building-*"))


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(300):
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen in 30 s")
