"""The report: sections by what exists, escaping, nothing from outside, wrong inputs, the command to do it again."""

from __future__ import annotations

import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import planted
import planted_images
import planted_sounds
import pretune
from pretune.cli import main
from pretune.errors import ConfigError, DataError, RunError
from pretune.reporting.commands import command_of
from pretune.reporting.examples import Example, Examples, wrongness
from pretune.reporting.facts import gather
from pretune.reporting.measured import RIGHT, WRONG
from pretune.reporting.page import page_of
from pretune.reporting.records import Room, piece_of
from pretune.reporting.section import duration, metric_text, points
from pretune.reporting.stages import name_of, read_stage
from pretune.reporting.word_views import _marked

HOSTILE = '<script>alert("x")</script>'
SHORT = {"budget": "2steps", "batch_size": 8}


class Page(HTMLParser):
    """Headings, sections, addresses and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.unnamed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        attributes = dict(given)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "section" and "id" in attributes:
            self.sections.append(str(attributes["id"]))
        if "id" in attributes:
            self.ids.append(str(attributes["id"]))
        self.scripts += tag == "script"
        if tag == "a":
            self.links.append(str(attributes["href"]))
        elif tag != "use":
            self.addresses += [str(v) for k, v in given if k in ("src", "href", "xlink:href", "srcset", "data")]
        if tag == "img" and not attributes.get("alt"):
            self.unnamed.append(str(attributes.get("src"))[:40])


def assert_sound(text: str) -> Page:
    """What must hold for every page."""
    page = Page(text)
    assert all(a.startswith("data:") for a in page.addresses)
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert page.scripts == 1
    assert not page.unnamed
    return page


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-trained run, and one that was fine-tuned from it with a test set."""
    folder = tmp_path_factory.mktemp("report")
    rows = planted.reviews(60)
    rows[3]["text"] += f" {HOSTILE}"
    tested = planted.reviews(40, seed=1)
    for row in tested[:12]:
        row["text"] = f"{HOSTILE} {row['text']}"
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    pd.DataFrame(tested).to_csv(folder / "test.csv", index=False)
    (folder / "corpus.txt").write_text("".join(f"{r['text']}.\n" for r in planted.reviews(300)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRETUNE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        text = {"name": "text", "vocab_size": 320, "max_length": 32}
        pretune.pretrain("corpus.txt", out="pre", modality=text, size="tiny", budget="3steps", batch_size=8)
        pretune.finetune("labels.csv", out="ft", from_="pre", test="test.csv", strategy="l2sp", **SHORT)
    return folder


@pytest.fixture(scope="module")
def tuned(place: Path) -> str:
    return page_of(gather(str(place / "ft"), num_explained=2))


def test_a_fine_tuned_run_has_its_sections(tuned: str) -> None:
    found = assert_sound(tuned).sections
    wanted = ["verdict", "lineage", "data", "cost", "results", "confusion", "calibration", "explanations", "curves"]
    assert found == [*wanted, "health", "limits", "reproduce"]


def test_a_pre_trained_run_has_its_sections(place: Path) -> None:
    text = page_of(gather(str(place / "pre")))
    found = assert_sound(text).sections
    assert found == ["verdict", "lineage", "data", "cost", "curves", "health", "limits", "reproduce"]
    assert "word frequenc" in text


def test_hostile_text_is_shown_and_not_run(tuned: str) -> None:
    assert "&lt;script&gt;alert(" in tuned
    assert HOSTILE not in tuned
    assert Page(tuned).scripts == 1


def test_results_are_those_of_evaluate(place: Path) -> None:
    facts = gather(str(place / "ft"))
    own = pretune.evaluate(str(place / "ft"), str(place / "test.csv"))
    assert facts.measured is not None
    assert facts.measured.evaluation.metrics == own.metrics
    assert facts.measured.evaluation.intervals == own.intervals


def test_examples_lie_in_their_cells_surest_first(place: Path) -> None:
    measured = gather(str(place / "ft")).measured
    assert measured is not None
    for cell in [c for c in measured.examples.sorts if isinstance(c, tuple)]:
        found = measured.examples.of(cell)
        assert all((e.label, e.prediction["label"]) == cell for e in found)
        sure = [e.prediction["probabilities"][cell[1]] for e in found]
        assert sure == sorted(sure, reverse=True)
    assert all(e.label == e.prediction["label"] for e in measured.examples.of(RIGHT))
    assert all(e.label != e.prediction["label"] for e in measured.examples.of(WRONG))


def test_changed_test_data_is_not_used(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (place / "test.csv").read_text()
    try:
        (place / "test.csv").write_text(content + "fine film,good\n")
        facts = gather(str(place / "ft"))
        text = page_of(facts)
    finally:
        (place / "test.csv").write_text(content)
    assert facts.measured is None
    assert "has other content" in text
    found = assert_sound(text).sections
    assert "confusion" in found  # from test.json
    assert "explanations" not in found


def test_what_other_verbs_left_is_shown(place: Path) -> None:
    run = place / "ft"
    (run / "inspection").mkdir()
    Image.new("RGB", (8, 8)).save(run / "inspection" / "drift.png")
    (run / "inspection.json").write_text(json.dumps({"sentences": ["Layer 2 moved most."], "notes": []}))
    (run / "calibration.json").write_text(json.dumps({"temperature": 1.5, "num_records": 99}))
    try:
        text = page_of(gather(str(run), num_explained=0))
    finally:
        for name in ("inspection/drift.png", "inspection.json", "calibration.json"):
            (run / name).unlink()
        (run / "inspection").rmdir()
    assert "inspection" in assert_sound(text).sections
    assert "Layer 2 moved most." in text
    assert "temperature 1.5" in text
    assert "up to 99.0% can be promised" in text


# -- studies -------------------------------------------------------------------------------------------------------


STUDY = {
    "verb": "study", "verdict": f"Own pre-training helps {HOSTILE}.", "question": "Was it worth it?",
    "metric": "accuracy",
    "higher_is_better": True, "num_test": 200, "level": 0.95, "difference_level": 0.975, "labels": [16, 64],
    "arms": [{"name": "own", "title": "own"}, {"name": "scratch", "title": "from scratch"}],
    "scores": [{"arm": "own", "labels": 16, "seed": s, "score": 0.7} for s in range(5)],
    "means": [
        {"arm": a, "labels": n, "value": v, "low": v - 0.03, "high": v + 0.03, "n": 5, "seconds": 12.0}
        for a, n, v in (("own", 16, 0.7), ("own", 64, 0.8), ("scratch", 16, 0.6), ("scratch", 64, 0.75))
    ],
    "comparisons": [
        {"arm": "own", "against": "scratch", "labels": 16, "difference": 0.1, "low": 0.04, "high": 0.16, "p": 0.001,
         "adjusted_p": 0.002, "clear": True, "n": 5},
        {"arm": "own", "against": "scratch", "labels": 64, "difference": 0.01, "low": -0.1, "high": 0.1, "p": 0.7,
         "adjusted_p": 1.0, "clear": False, "n": 5},
    ],
    "labels_saved": [{"arm": "own", "labels": 16, "equivalent": 40.0, "low": 30.0, "high": 50.0, "note": ""},
                     {"arm": "own", "labels": 64, "equivalent": 16.0, "low": 16.0, "high": 16.0, "note": ""}],
    "pretraining": [{"arm": "own", "seconds": 600.0, "seen": 1000000, "counted": "tokens"}],
    "command": "pretune study --from pre",
}  # fmt: skip


def study_in(folder: Path, content: object) -> str:
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(content))
    return str(folder)


def test_a_study_is_drawn_from_its_numbers(tmp_path: Path) -> None:
    text = page_of(gather(study_in(tmp_path / "s", STUDY)))
    assert assert_sound(text).sections == ["verdict", "study", "reproduce"]
    assert HOSTILE not in text
    assert re.findall(r"<td>(yes|no)</td></tr>", text) == ["yes", "no"]
    for said in ("+10.0 points, 97.5% interval +4.0 to +16.0", "as good as scratch with about 40 [30, 50]", "10.0 min",
                 "with 64 labels is no better than scratch with 16."):  # fmt: skip
        assert said in text
    assert text.count("<svg") == 2


@pytest.mark.parametrize("missing", [k for k in STUDY if k != "verb"])
def test_a_study_may_lack_anything(missing: str, tmp_path: Path) -> None:
    assert_sound(page_of(gather(study_in(tmp_path / "s", {k: v for k, v in STUDY.items() if k != missing}))))


def test_a_study_gives_a_run_its_verdict(place: Path, tmp_path: Path) -> None:
    text = page_of(gather(str(place / "pre"), study=study_in(tmp_path / "s", STUDY)))
    assert "study" in assert_sound(text).sections
    assert "Own pre-training helps" in text
    other = study_in(tmp_path / "other", STUDY | {"modality": "image"})
    with pytest.raises(RunError, match=r"is a study of image, and .*pre a run of text; give its study"):
        gather(str(place / "pre"), study=other)


# -- from the shell ------------------------------------------------------------------------------------------------


def test_report_writes_one_file_and_overwrites_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", str(place / "pre"), "--out", str(place / "made.html")]
    assert main(words) == 0
    first = (place / "made.html").read_text()
    assert main(words) == 2
    assert "is there already; give --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert (place / "made.html").read_text() == first


def test_an_unfinished_run_is_one_sentence(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").write_text((place / "ft" / "recipe.yaml").read_text())
    with pytest.raises(RunError, match=r"has not finished .* repeat its command"):
        pretune.report(str(run))
    assert not (run / "report.html").exists()


def test_wrong_inputs_are_one_sentence(place: Path, tmp_path: Path) -> None:
    run = str(place / "ft")
    with pytest.raises(RunError, match='"nowhere" does not exist'):
        pretune.report("nowhere")
    with pytest.raises(ConfigError, match=r"ends with \.html"):
        pretune.report(run, out=str(tmp_path / "x.pdf"))
    with pytest.raises(ConfigError, match="num_explained"):
        pretune.report(run, num_explained=-1)
    with pytest.raises(RunError, match=r"has no study\.json"):
        pretune.report(run, study=str(tmp_path))
    with pytest.raises(RunError, match="no labels to test"):
        pretune.report(str(place / "pre"), test=str(place / "test.csv"), out=str(tmp_path / "x.html"))
    (tmp_path / "other.csv").write_text("text,label\nfine,unheard\n")
    with pytest.raises(DataError, match=r"row 2.*unheard"):
        pretune.report(run, test=str(tmp_path / "other.csv"), out=str(tmp_path / "x.html"))
    (tmp_path / "lineage.json").write_text("{")
    (tmp_path / "recipe.yaml").write_text("verb: pretrain")
    with pytest.raises(RunError, match="is damaged"):
        pretune.report(str(tmp_path))
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("name", ["pre", "ft"])
def test_the_command_makes_the_same_recipe(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = read_stage(place / name).recipe
    words = shlex.split(command_of(recipe, out="again"))
    assert words[0] == "pretune"
    capsys.readouterr()
    assert main([*words[1:], "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    same = recipe.keys() - {"out", "overwrite", "verb", "strategy"}
    assert {k: recipe[k] for k in same} == {k: printed[k] for k in same}
    assert name_of(recipe.get("strategy", "")) == (printed.get("strategy") or {"name": ""})["name"]


def test_options_of_all_sorts_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(
        "finetune --scratch --data 'a b.csv' --text_column review --task regression --strategy l2sp+layer_decay "
        "--strategy.decay 0.5 --schedule cosine --seeds 3 --lr 0.001 --modality.max_length 99 --out x"
    )
    assert main([*words, "--print_config"]) == 0
    recipe = {"verb": "finetune"} | yaml.safe_load(capsys.readouterr().out)
    assert main([*shlex.split(command_of(recipe, out="x"))[1:], "--print_config"]) == 0
    assert {"verb": "finetune"} | yaml.safe_load(capsys.readouterr().out) == recipe


# -- every task ----------------------------------------------------------------------------------------------------


def made(folder: Path, rows: list, **options: object) -> str:
    pretune.finetune(rows, out=str(folder), scratch=True, size="tiny", **(SHORT | options))
    return str(folder)


def test_numbers_are_drawn(tmp_path: Path) -> None:
    rows = [{"text": r["text"], "label": float(len(r["text"]))} for r in planted.reviews(40)]
    facts = gather(made(tmp_path / "r", rows, task="regression"), test=rows[:20], num_explained=1)
    assert "values" in assert_sound(text := page_of(facts)).sections
    assert "data in memory" in text
    assert "no command makes it again" in text
    largest = facts.measured.examples.of(WRONG)[0]  # type: ignore[union-attr]
    assert largest.wrong == pytest.approx(max(abs(p["value"] - y["label"]) for p, y in
        zip(facts.measured.predicted, rows[:20], strict=True)))  # type: ignore[union-attr]  # fmt: skip


def test_sets_of_labels_are_scored_one_by_one(tmp_path: Path) -> None:
    rows = [{"text": r["text"], "label": [r["label"], "film"][: 1 + i % 2]} for i, r in enumerate(planted.reviews(40))]
    run = made(tmp_path / "r", rows, task={"name": "classification", "multi_label": True})
    assert "labels" in assert_sound(page_of(gather(run, test=rows, num_explained=0))).sections


def test_tags_are_marked_in_their_context(tmp_path: Path) -> None:
    rows = planted.sentences(40)
    rows[0]["tokens"][0] = HOSTILE
    run = made(tmp_path / "r", rows, task="tagging")
    text = page_of(gather(run, test=rows[:20], num_explained=1))
    assert "tags" in assert_sound(text).sections
    assert HOSTILE not in text
    assert re.search(r'class="off">\S+ <small>', text)


def test_boxes_stand_beside_the_truth(tmp_path: Path) -> None:
    rows = planted_images.boxed(12)
    image = {"name": "image", "image_size": 32}
    run = made(tmp_path / "r", rows, task="detection", modality=image, family="resnet")
    text = page_of(gather(run, test=rows[:8], num_explained=1))
    assert "drawn" in assert_sound(text).sections
    assert text.count('alt="truth of') == 6  # four worst, two best


def test_transcripts_show_their_edits(tmp_path: Path) -> None:
    rows = planted_sounds.spoken(12)
    run = made(tmp_path / "r", rows, task="ctc", modality="audio")
    text = page_of(gather(run, test=rows[:4], num_explained=0))
    assert "transcripts" in assert_sound(text).sections
    assert "<ins>" in text
    assert 'src="data:audio/wav' in text


# -- pieces --------------------------------------------------------------------------------------------------------


def test_examples_are_few_and_the_foremost() -> None:
    kept = Examples(most=3)
    for i in range(100):
        kept.offer("a", i % 50, Example({"number": i}, "", {}, 0.0))
    assert [e.record["number"] for e in kept.of("a")] == [49, 99, 48]
    assert kept.of("b") == []


def test_a_full_room_leaves_pictures_out() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3)).astype(np.uint8)
    room = Room(20_000)
    found = [piece_of({"image": noise}, None, room) for _ in range(20)]  # type: ignore[arg-type]
    assert found[0].address is not None
    assert found[-1].address is None
    assert sum(len(p.address or "") for p in found) <= 20_000
    assert room.left_out == sum(p.address is None for p in found)


def test_wrongness_of_a_class_is_the_probability_of_the_wrong_answer() -> None:
    prediction = {"label": "a", "probabilities": {"a": 0.7, "b": 0.3}}
    assert wrongness(None, prediction, "a") == 0  # type: ignore[arg-type]
    assert wrongness(None, prediction, "b") == 0.7  # type: ignore[arg-type]


def test_numbers_are_written_as_people_do() -> None:
    assert [duration(s) for s in (42.4, 210, 7560)] == ["42 s", "3.5 min", "2.1 h"]
    assert [metric_text("accuracy", 0.6319), metric_text("mae", 0.5), metric_text("r2", float("nan"))] == [
        "63.2%", "0.500", "not defined",
    ]  # fmt: skip
    assert points("macro_f1", 0.1, 0.05, 0.15, level=0.95) == "+10.0 points, 95% interval +5.0 to +15.0"


def test_wrong_letters_stand_above_their_marks() -> None:
    example = Example({"sequence": "ACGT" * 10}, list("HHEE" * 10), {"tags": "HHEE" * 9 + "HCEE"}, 1.0)
    rows = _marked(example, entities=False)["rows"].splitlines()
    letters, true, found, mark = rows[:4]
    at = mark.index("^")
    assert (letters[at], true[at], found[at]) == ("C", "H", "C")
    assert "".join(r[6:] for r in rows[::4]) == ("ACGT" * 10)[17:]
