"""The docstring corpus and task, and the page of the demo."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from pretune import demo_digits, demo_speech, docstrings
from pretune.demo import TEXT, DemoResult, render_demo, verdict
from pretune.docstrings import docstring_corpus, docstring_task, harvest
from pretune.errors import ConfigError, DataError
from pretune.prose import key, paragraphs

STARTS, ENDS = ("bra", "clo", "dri", "fle", "gru", "pla", "sto", "tra"), ("nd", "st", "mp", "ck", "nt")
WORDS = [a + b for a in STARTS for b in ENDS]
SHARED = "This very sentence stands in every single module of every library without any change at all."


def _module(library: str, rng: random.Random) -> str:
    functions = []
    for i in range(6):
        own = " ".join(rng.choices(WORDS, k=25))
        functions.append(
            f'def f{i}(x):\n    """Uses {library}: {own}.\n\n    {SHARED}\n\n    >>> f{i}(1)\n    2\n    """\n'
        )
    return "\n".join(functions)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed environment of three libraries, and files that cannot be read as Python."""
    root, rng = tmp_path / "site", random.Random(0)
    for library in ("torch", "scipy", "other"):
        for i in range(60):
            file = root / library / f"m{i}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_module(library, rng), encoding="utf-8")
    (root / "other" / "broken.py").write_text('"""Looks like prose, is not Python.""" def (:\n', encoding="utf-8")
    (root / "other" / "bytes.py").write_bytes(b'"""\xff\xfe not UTF-8"""\n')
    files = [(str(root), f.relative_to(root).as_posix()) for f in sorted(root.rglob("*.py"))]
    monkeypatch.setattr(docstrings, "_source_files", lambda: files)
    return tmp_path / "cache"


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_harvest_masks_names_and_repeats_nothing(environment: Path) -> None:
    found = harvest(environment)
    texts = [d.text for d in found]
    assert len(found) == 3 * 60 * 6
    assert sum("This very sentence" in t for t in texts) == 1
    assert not any(re.search(r"torch|scipy|>>>", t) for t in texts)
    assert all("library" in t for t in texts if not t.startswith("Uses other"))


def test_harvest_is_cached_and_the_same(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = harvest(environment)
    monkeypatch.setattr(docstrings, "_read_all", lambda: pytest.fail("read again"))
    assert harvest(environment) == first
    assert not [f for f in environment.iterdir() if f.name.startswith(".")]


def test_task_is_balanced_split_by_module_and_absent_from_the_corpus(environment: Path) -> None:
    train, test = (_rows(p) for p in docstring_task(environment, num_train_per_class=16, num_test_per_class=60))
    corpus = docstring_corpus(environment).read_text(encoding="utf-8")
    for rows, number in ((train, 16), (test, 60)):
        labels = [r["label"] for r in rows]
        assert {x: labels.count(x) for x in set(labels)} == {"torch": number, "scipy": number}
    assert not {r["module"] for r in train} & {r["module"] for r in test}
    assert len({r["module"] for r in train}) == 32  # one text a module as long as there are modules
    own = [r["text"].partition(": ")[2].partition(".")[0] for r in test]
    assert not any(text in corpus for text in own)
    assert any(r["text"].partition(": ")[2].partition(".")[0] in corpus for r in train)


def test_seed_changes_training_texts_only(environment: Path) -> None:
    first, second = (docstring_task(environment, seed=s, num_train_per_class=16) for s in (0, 1))
    assert first[1] == second[1]
    assert first[0].read_text() != second[0].read_text()
    again = first[0].read_text()
    docstring_task(environment, seed=0, num_train_per_class=16)
    assert first[0].read_text() == again


def test_too_few_docstrings_is_one_sentence(environment: Path) -> None:
    with pytest.raises(DataError, match=r"5000 texts of each of two libraries, found torch \d+"):
        docstring_task(environment, num_train_per_class=5000)


@pytest.mark.slow
def test_the_real_environment_has_prose_enough(tmp_path: Path) -> None:
    corpus = docstring_corpus(tmp_path)
    assert corpus.stat().st_size > 5e6
    train, test = (_rows(p) for p in docstring_task(tmp_path))
    assert len({r["label"] for r in test}) >= 6
    assert len(test) >= 1200
    assert not {key(r["text"]) for r in train} & {key(r["text"]) for r in test}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Return the sum of ``x`` and `y`.", ["Return the sum of x and y."]),
        ("See :class:`~torch.nn.Linear` for what this layer does.", ["See Linear for what this layer does."]),
        ("Read [the guide](https://a.b/c) before you start here.", ["Read the guide before you start here."]),
        ("A line of plain words::\n\n    x = code(1)\n\nAnd more plain words after it.",
         ["A line of plain words:", "And more plain words after it."]),
        ("Plain words come first here.\n\n>>> f(1)\n2\n\nPlain words come last here.",
         ["Plain words come first here.", "Plain words come last here."]),
        ("Fits a model to data.\n\nParameters\n----------\nx : array (n,)\n    The values to which it is fitted.",
         ["Fits a model to data.", "The values to which it is fitted."]),
        ("Fits a model to data.\n\nArgs:\n    x (`int`, *optional*): The values to which it is fitted.",
         ["Fits a model to data.", "The values to which it is fitted."]),
        ("A table of numbers follows here:\n\n=====  =====\nA      B\n=====  =====\n1      2\n=====  =====",
         ["A table of numbers follows here:"]),
        ("```python\nfor x in y: print(x)\n```\nThis prints all the values.", ["This prints all the values."]),
        (".. math:: a^2 + b^2\n\n.. note::\n    These words are kept.", ["These words are kept."]),
        ("x_1 = 3 + y * 2 / z", []),
    ],
)  # fmt: skip
def test_prose_of_a_docstring(raw: str, expected: list[str]) -> None:
    assert paragraphs(raw) == expected


def test_key_ignores_class_names_and_case() -> None:
    assert key("Builds a BertModel, with 12 layers.") == key("builds a GPT2Model with 6 layers")
    assert key("Builds a model") != key("Builds a layer")


def _result(seeds: int = 2) -> DemoResult:
    rng = np.random.default_rng(0)
    rates = {"own pre-training": 0.7, "from scratch": 0.5, "TF-IDF": 0.6}
    systems = [{"name": n, "correct": (rng.random((seeds, 400)) < p).tolist()} for n, p in rates.items()]
    return DemoResult(
        title="The demo", question="Which <library>?", steps=["Read & cleaned."], command="pretune demo text",
        labels=["a", "b"],
        data={"num_documents": 10, "corpus_bytes": 2_000_000, "num_train": 64, "num_test": 400,
              "held_out": "By module."},
        cost={"budget": "60s", "device": "cpu", "num_parameters": 5_000_000, "num_tokens": 1_234_567,
              "pretrain_seconds": 60.0, "finetune_seconds": 9.0, "baseline_seconds": 1.0},
        curve={"tokens": [1000, 2000], "loss": [8.0, 6.0], "floor": 6.5},
        own=systems[0], scratch=systems[1], baseline=systems[2],
        confusion=[[150, 50], [70, 130]],
        example={"label": "a", "predicted": "b", "probability": 0.6, "words": ["<b>", "of"],
                 "scores": [0.5, -1.0]},
        wording=TEXT, pictures=[],
    )  # fmt: skip


def test_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    page = render_demo(_result(), tmp_path / "demo.html").read_text(encoding="utf-8")
    assert "Which &lt;library&gt;?" in page
    assert "&lt;b&gt;" in page
    assert "1,234,567" in page
    assert "0.50 nats below" in page
    assert "That is wrong: it is a." in page
    assert not re.search(r"<script|<link|src=|url\((?!#)", page)
    assert "#010203" not in page  # every colour of the pictures follows the style sheet
    assert page.count("<svg") == 2


def test_a_page_of_pictures_says_so(tmp_path: Path) -> None:
    wording = {"items": "pictures", "documents": "drawings", "baseline": "Logistic regression", "short": "regression",
               "seen": "pixels", "loss": "loss", "floor": "mean patches", "gained": "learnt shapes"}  # fmt: skip
    example = {"label": "a", "predicted": "a", "probability": 0.9, "pictures": [("why", "data:image/png;base64,AA")]}
    further = [("a gallery", "data:image/png;base64,BB")]
    result = _result() | {"wording": wording, "example": example, "pictures": further}
    result["curve"] = {"tokens": [1000, 2000], "loss": [8.0, 6.0], "floor": None}
    page = render_demo(result, tmp_path / "demo.html").read_text(encoding="utf-8")
    assert "held-out pictures" in page
    assert "unlabelled drawings" in page
    assert "Logistic regression" in page
    assert "TF-IDF +" not in page
    assert "base64,AA" in page
    assert "base64,BB" in page
    assert "million pixels seen" in page


def test_digits_are_split_and_drawn_by_class(tmp_path: Path) -> None:
    pool, (images, truth) = demo_digits._data(tmp_path)
    assert len(pool[0]) + len(images) == 1797
    assert images.dtype == np.uint8
    assert images.max() == 255
    assert not {x.tobytes() for x in pool[0]} & {x.tobytes() for x in images}
    few, labels = demo_digits._few(*pool, 0)
    assert np.bincount(labels).tolist() == [5] * 10
    assert not np.array_equal(few, demo_digits._few(*pool, 1)[0])
    rows, held = demo_digits._rows(few, labels), demo_digits._rows(images, truth)
    found = demo_digits._logistic(rows, held, 0)
    assert np.mean(np.array(found) == truth.astype(str)) > 0.7


def test_verdict_says_whatever_wins() -> None:
    rng = np.random.default_rng(0)
    low, middle, high = ((rng.random((3, 800)) < p).astype(float) for p in (0.4, 0.55, 0.7))
    assert verdict(high, low, middle).startswith("Pre-training paid: ")
    assert "It also beats TF-IDF" in verdict(high, low, middle)
    assert verdict(low, high, low).startswith("Pre-training hurt: ")
    assert "takes seconds, does better" in verdict(low, low, high)
    assert verdict(low, low, low).startswith("Pre-training made no clear difference")
    assert "as good within the interval" in verdict(low[0], low[0], low[0])


def test_seeds_that_disagree_are_no_clear_difference() -> None:
    rng = np.random.default_rng(0)
    own = np.stack([(rng.random(2000) < p).astype(float) for p in (0.385, 0.34, 0.62)])
    scratch = (rng.random((3, 2000)) < 0.5).astype(float)
    assert verdict(own, scratch, scratch).startswith("Pre-training made no clear difference")


def test_verdict_wants_the_same_texts() -> None:
    with pytest.raises(DataError, match="found 3 and 2"):
        verdict([1, 0, 1], [1, 0], [1, 0, 1])
    with pytest.raises(DataError, match="different lengths"):
        verdict([[1, 0], [1]], [1, 0], [1, 0])


def test_spoken_digits_are_held_out_by_voice(tmp_path, monkeypatch):
    assert len(demo_speech._sentences()) == 19
    assert not {v.partition("+")[2] for v in demo_speech._TRAIN} & {v.partition("+")[2] for v in demo_speech._TEST}
    monkeypatch.setattr(demo_speech, "_speak", lambda _: None)
    sentences, pool, test = demo_speech._data(tmp_path)
    voices = [{r["speaker"] for r in part} for part in (sentences, pool, test)]
    assert voices[0] == voices[1] == set(demo_speech._TRAIN)
    assert voices[2] == set(demo_speech._TEST)
    files = [r["audio"] for r in (*sentences, *pool, *test)]
    assert len(set(files)) == len(files)
    few = demo_speech._few(pool, 0)
    assert sorted(r["label"] for r in few) == sorted(2 * demo_speech._DIGITS)
    assert few == demo_speech._few(pool, 0) != demo_speech._few(pool, 1)


def test_the_speech_demo_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt install espeak-ng"):
        demo_speech.run(out=tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
