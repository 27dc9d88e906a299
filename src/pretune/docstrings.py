"""A corpus and a labelled task that need no download: the docstrings of the installed Python packages."""

from __future__ import annotations

__all__ = ["LIBRARIES", "Docstring", "docstring_corpus", "docstring_task", "harvest"]

import ast
import functools
import gc
import gzip
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import random
import re
import sys
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pretune import prose
from pretune.errors import DataError
from pretune.prose import key, paragraphs

LIBRARIES = {
    "torch": r"(?:py)?torch(?:script)?|aten|libtorch",
    "transformers": r"transformers|hugging ?face",
    "scipy": r"scipy|sp",
    "sklearn": r"sklearn|scikit(?:[- ]learn)?",
    "pandas": r"pandas|pd",
    "numpy": r"numpy|np",
    "matplotlib": r"matplotlib|mpl|plt|pyplot|pylab",
    "sympy": r"sympy",
}
"""The classes of the task, and the words that name each library; those words are masked in every text."""

MASK = "library"
"""What stands in a text where a library was named."""

_SOURCE_BYTES = 75_000_000
_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "testing", "_test", "idlelib", "lib2to3", "_vendor", "site-packages", "__pycache__"}
)
_STDLIB = os.path.realpath(sysconfig.get_paths()["stdlib"])
_NAMES = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(LIBRARIES.values())})(?![a-z])", re.IGNORECASE)
_FEWEST_TESTS = 50
_TEST_SHARE = 4  # one module in four of the task's libraries is held out


class Docstring(NamedTuple):
    """The prose of one docstring.

    Attributes:
        library: The top-level package, e.g. ``"torch"``; ``"python"`` for the standard library.
        module: Path of the file inside its library folder, e.g. ``"torch/nn/functional.py"``.
        owner: The top-level class or function it belongs to; an empty string for the module itself.
        paragraphs: Clean prose, in order, library names masked.
    """

    library: str
    module: str
    owner: str
    paragraphs: list[str]

    @property
    def text(self) -> str:
        """All paragraphs in one line."""
        return " ".join(self.paragraphs)

    @property
    def held_out(self) -> bool:
        """Whether its module belongs to the test side; depends on the module's name only."""
        digest = hashlib.sha256(self.module.encode()).digest()
        return self.library in LIBRARIES and digest[0] % _TEST_SHARE == 0


def harvest(cache: str | Path) -> list[Docstring]:
    """Reads, cleans and de-duplicates the docstrings of the running environment; cached by package versions.

    Nothing is imported: files are parsed with `ast` in two worker processes. The work is bounded by size, not
    by time, so that the same packages give the same corpus on any machine: the 75 MB of source with most
    docstrings are read, about 15 seconds on two cores.

    Args:
        cache: Folder that receives ``docstrings-<key>.jsonl.gz``.
    """
    path = Path(cache) / f"docstrings-{_versions_key()}.jsonl.gz"
    if not path.is_file():
        _write_lines(path, (json.dumps(d) for d in _unique(_read_all())))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [Docstring(*json.loads(line)) for line in file]


def docstring_corpus(cache: str | Path) -> Path:
    """The unlabelled demo corpus: a text file with one document a line, for ``pretune pretrain``.

    A document is a top-level class with its methods, or a top-level function. Modules that `docstring_task`
    tests on are left out, and so is every paragraph of which half the 8-word sequences also occur in one.

    Args:
        cache: Folder for the result and the harvested docstrings.

    Returns:
        Path of the text file.
    """
    path = Path(cache) / f"corpus-{_versions_key()}.txt"
    if not path.is_file():
        found = harvest(cache)
        seen = {s for d in found if d.held_out for p in d.paragraphs for s in _shingles(p)}
        kept = (d for d in found if not d.held_out)
        _write_lines(path, _corpus_lines(kept, seen))
    return path


def docstring_task(
    cache: str | Path,
    *,
    seed: int = 0,
    num_train_per_class: int = 32,
    num_test_per_class: int = 240,
    min_words: int = 12,
    max_words: int = 100,
) -> tuple[Path, Path]:
    """The labelled demo task: which library does this docstring come from?

    Modules are either train or test, by a hash of their name: the test side is the same for every seed. No
    test text has half of its 8-word sequences in common with texts that could be training texts. Both sides
    are balanced, and each module gives one text before any gives a second: no module decides the result.

    Args:
        cache: Folder for the results and the harvested docstrings.
        seed: Chooses the training texts.
        num_train_per_class: Labelled texts a library.
        num_test_per_class: Test texts a library; fewer, and equally many, when a library has not as many.
        min_words: Texts below this are left out.
        max_words: Texts are cut after this many words.

    Returns:
        Paths of train.jsonl and test.jsonl with ``text``, ``label``, ``module``.

    Raises:
        DataError: Fewer than two of `LIBRARIES` have enough docstrings.
    """
    usable = [d for d in harvest(cache) if d.library in LIBRARIES and len(d.text.split()) >= min_words]
    train_pool = _by_library([d for d in usable if not d.held_out])
    known = {s for group in train_pool.values() for d in group for s in _shingles(d.text)}
    test_pool = _by_library([d for d in usable if d.held_out and _overlap(d.text, known) < 0.5])
    labels = [
        x
        for x in LIBRARIES
        if len(train_pool.get(x, ())) >= num_train_per_class and len(test_pool.get(x, ())) >= _FEWEST_TESTS
    ]
    if len(labels) < 2:
        counts = ", ".join(f"{x} {len(train_pool.get(x, ()))}" for x in LIBRARIES)
        raise DataError(
            f"The docstring task needs {num_train_per_class} texts of each of two libraries, found {counts}; "
            "install pretune with its dependencies, or ask for fewer labels."
        )
    num_test = min(num_test_per_class, *(len(test_pool[x]) for x in labels))
    stem = f"{_versions_key()}-{num_train_per_class}-{num_test}-{min_words}-{max_words}"
    train = Path(cache) / f"train-{stem}-seed{seed}.jsonl"
    test = Path(cache) / f"test-{stem}.jsonl"
    _write_rows(train, train_pool, labels, num_train_per_class, seed, max_words)
    _write_rows(test, test_pool, labels, num_test, 0, max_words)
    return train, test


def _write_rows(
    path: Path,
    pool: dict[str, list[Docstring]],
    labels: list[str],
    number: int,
    seed: int,
    max_words: int,
) -> None:
    rng = random.Random(f"{seed}-{path.name.partition('-')[0]}")
    rows = [(d, label) for label in labels for d in _spread(pool[label], number, rng)]
    rng.shuffle(rows)
    _write_lines(
        path,
        (
            json.dumps({"text": " ".join(d.text.split()[:max_words]), "label": label, "module": d.module})
            for d, label in rows
        ),
    )


def _spread(pool: list[Docstring], number: int, rng: random.Random) -> list[Docstring]:
    """Draws `number` texts, taking from every module once before any module gives a second one."""
    modules = defaultdict(list)
    for d in rng.sample(pool, len(pool)):
        modules[d.module].append(d)
    turns = [(turn, d) for group in modules.values() for turn, d in enumerate(group)]
    turns.sort(key=lambda pair: pair[0])
    return [d for _, d in turns[:number]]


def _by_library(docstrings: Iterable[Docstring]) -> dict[str, list[Docstring]]:
    groups = defaultdict(list)
    for d in docstrings:
        groups[d.library].append(d)
    return dict(groups)


def _corpus_lines(docstrings: Iterable[Docstring], seen: set[int]) -> Iterator[str]:
    for _, group in groupby(docstrings, key=lambda d: (d.module, d.owner)):
        kept = [p for d in group for p in d.paragraphs if _overlap(p, seen) < 0.5]
        if kept:
            yield " ".join(kept)


def _shingles(text: str, every: int = 1) -> Iterator[int]:
    words = key(text).split()
    for i in range(0, max(1, len(words) - 7), every):
        yield hash(tuple(words[i : i + 8]))


def _overlap(text: str, known: set[int]) -> float:
    own = list(_shingles(text, every=4))  # a sample of them gives the share as well
    return sum(s in known for s in own) / len(own)


@functools.cache
def _versions_key() -> str:
    """Identifies Python, every installed package, and the rules of this file and of `prose`."""
    installed = importlib.metadata.distributions()
    packages = sorted({f"{d.name}=={d.version}" for d in installed if d.name != "pretune"})
    rules = [Path(f).read_text(encoding="utf-8") for f in (__file__, prose.__file__)]
    return hashlib.sha256("\n".join([sys.version, *rules, *packages]).encode()).hexdigest()[:12]


def _source_files() -> list[tuple[str, str]]:
    """(folder, path inside it) of every Python file of the environment that is not a test."""
    paths = sysconfig.get_paths()
    roots = dict.fromkeys(os.path.realpath(paths[k]) for k in ("stdlib", "purelib", "platlib"))
    found = []
    for root in roots:
        for folder, inner, names in os.walk(root):
            inner[:] = sorted(x for x in inner if x not in _SKIPPED_FOLDERS)
            within = Path(folder).relative_to(root)
            found += [(root, (within / n).as_posix()) for n in sorted(names) if n.endswith(".py")]
    return found


def _read_all() -> Iterator[tuple[Docstring, list[bytes]]]:
    """Docstrings of the densest files in the order of the files, with a digest of each paragraph."""
    files = _source_files()
    # spawn: the parent may have torch's threads running, which do not survive a fork
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        sizes = list(pool.map(_measure, files, chunksize=256))
        parts = pool.map(_read_file, _densest(files, sizes), chunksize=32)
        for part in parts:
            yield from part


def _densest(files: list[tuple[str, str]], sizes: list[tuple[int, int]]) -> list[tuple[str, str]]:
    """The files with the largest share of quoted text, up to the limit of source, in their own order."""
    order = sorted(range(len(files)), key=lambda i: -sizes[i][0] / (sizes[i][1] + 1))
    chosen, total = [], 0
    for i in order:
        total += sizes[i][1]
        if total > _SOURCE_BYTES or not sizes[i][0]:
            break
        chosen.append(i)
    return [files[i] for i in sorted(chosen)]


def _measure(file: tuple[str, str]) -> tuple[int, int]:
    """(bytes inside triple quotes, bytes) of one file; a file above 2 MB is data, not prose."""
    try:
        source = Path(*file).read_bytes()
    except OSError:
        return 0, 0
    if len(source) > 2_000_000:
        return 0, len(source)
    return sum(map(len, source.split(b'"""')[1::2])), len(source)


def _read_file(file: tuple[str, str]) -> list[tuple[Docstring, list[bytes]]]:
    """Cleaned docstrings of one file, with digests of their paragraphs; none when it is not valid Python."""
    gc.disable()  # syntax trees have no cycles, and collecting them takes a third of the time
    root, module = file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(Path(root, module).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    stdlib = root == _STDLIB
    library = "python" if stdlib else module.partition("/")[0].removesuffix(".py")
    name = f"python/{module}" if stdlib else module
    found = ((owner, _masked(raw)) for owner, raw in _docstrings(tree))
    return [(Docstring(library, name, owner, text), list(map(_digest, text))) for owner, text in found if text]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(key(text).encode(), digest_size=12).digest()


def _masked(raw: str) -> list[str]:
    return [_NAMES.sub(MASK, p) for p in paragraphs(raw)]


def _docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(top-level name, docstring) in source order; expressions are not visited, which is most of the tree."""
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        owner, node = stack.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield owner, text
        for child in reversed(getattr(node, "body", ())):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                stack.append((owner or child.name, child))
            elif isinstance(child, ast.If | ast.Try | ast.With):
                stack.append((owner, child))


def _unique(docstrings: Iterable[tuple[Docstring, list[bytes]]]) -> Iterator[Docstring]:
    """Leaves out paragraphs of which the digest came before."""
    seen: set[bytes] = set()
    for docstring, digests in docstrings:
        kept = []
        for text, digest in zip(docstring.paragraphs, digests, strict=True):
            if digest not in seen:
                seen.add(digest)
                kept.append(text)
        if kept:
            yield docstring._replace(paragraphs=kept)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = "".join(f"{line}\n" for line in lines).encode()
    temporary.write_bytes(gzip.compress(text, 3, mtime=0) if path.suffix == ".gz" else text)
    temporary.replace(path)
