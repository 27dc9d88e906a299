"""Segmentation from folders of masks to masks: reading, learning, scoring, writing, explaining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pretune
from planted_images import NUMBERS, VOID, mask_folder, masked, opened
from pretune import data
from pretune.checks import check
from pretune.errors import ConfigError, DataError
from pretune.evaluation import to_device
from pretune.mask_sources import class_names_of, read_mask
from pretune.run import evaluate, explain, predict
from pretune.tasks.segmentation import Segmentation, decoded

TASK = {"name": "segmentation", "ignore_index": VOID}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    mask_folder(folder / "data" / "train", 24)
    mask_folder(folder / "data" / "test", 8, 1)
    return folder


@pytest.fixture(scope="module")
def run(files: Path) -> Path:
    """Trained for seconds on two dozen images."""
    found = pretune.finetune(
        str(files / "data:train"),
        out=str(files / "run"),
        task=TASK,
        modality={"name": "image", "image_size": 32},
        scratch=True,
        size="tiny",
        valid_rate=0.2,
        budget="80steps",
        batch_size=8,
        lr=2e-3,
        num_validations=1,
    )
    assert found.metrics["miou"] > 0.6
    return found.path


def read(task: Segmentation, source: Any) -> list[dict[str, Any]]:
    roles = {**(task.roles or {}), "mask": task.label_columns}
    return [dict(r) for r in data.read_records(task.source(source), roles=roles, required=("image", "mask"))]


def test_folders_pair_images_with_masks_and_keep_class_numbers(files: Path) -> None:
    task = Segmentation(ignore_index=VOID)
    found = read(task, str(files / "data" / "train"))
    assert len(found) == 24
    assert all(np.array_equal(read_mask(r["mask"]), t["mask"]) for r, t in zip(found, masked(24), strict=True))
    task.learn_labels([r["mask"] for r in found])
    assert task.numbers == sorted(NUMBERS.values())
    assert task.labels == ["0", "3", "7"]


def test_check_counts_the_masks_that_have_a_class(files: Path) -> None:
    report = check(str(files / "data:train"), task="segmentation", modality="image")
    assert report.status == 0
    assert report.facts["labels"]["0"] == report.facts["labels"][str(VOID)] == 24


def test_masks_in_memory_are_read(files: Path) -> None:
    picture = opened(files / "data" / "train" / "masks" / "000.png")
    assert picture.mode == "P"
    rows = [{"image": np.zeros((40, 56, 3), np.uint8), "mask": m} for m in (picture, np.asarray(picture))]
    found = read(Segmentation(), rows)
    assert np.array_equal(read_mask(found[0]["mask"]), np.asarray(picture))
    assert np.array_equal(read_mask(found[1]["mask"]), np.asarray(picture))


def test_tables_give_paths_from_where_they_lie(files: Path) -> None:
    table = files / "data" / "train" / "pairs.csv"
    table.write_text("image,mask\nimages/000.png,masks/000.png\n")
    assert read_mask(read(Segmentation(), str(table))[0]["mask"]).shape == (40, 56)
    table.unlink()


def test_class_names_come_from_a_list_or_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("sky\nroad\n")
    (tmp_path / "names.json").write_text('["sky", "road"]')
    for given in (["sky", "road"], "sky, road", str(tmp_path / "names.txt"), str(tmp_path / "names.json")):
        assert class_names_of(given) == ["sky", "road"]
    with pytest.raises(ConfigError, match="cannot read"):
        class_names_of(str(tmp_path / "absent.txt"))
    (tmp_path / "broken.json").write_text('["sky", "road"')
    with pytest.raises(ConfigError, match=r'cannot read ".*broken.json" \(Expecting'):
        class_names_of(str(tmp_path / "broken.json"))
    with pytest.raises(ConfigError, match='"sky" twice'):
        class_names_of(["sky", "sky"])


def test_masks_that_cannot_be_used(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "colours.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    for name, message in (("colours", "has colours"), ("broken", "Cannot read the mask"), ("none", "no mask")):
        with pytest.raises(DataError, match=message):
            read_mask(str(tmp_path / f"{name}.png"))
    with pytest.raises(DataError, match="class numbers from 0 to 255"):
        read_mask(np.full((3, 3), 300))
    ids = np.array([[0, 1], [1, 4]])
    with pytest.raises(DataError, match="class number 4, and classes names 0 to 1"):
        Segmentation(classes=["a", "b"]).learn_labels([ids])
    with pytest.raises(DataError, match="at least two classes"):
        Segmentation(ignore_index=1).learn_labels([np.ones((2, 2), np.uint8)])
    task = Segmentation()
    task.learn_labels([ids])
    with pytest.raises(DataError, match="class number 9, which training data has not"):
        task._indices(np.array([[9]]))


def test_an_image_without_mask_and_a_mask_of_another_size_are_named(tmp_path: Path) -> None:
    folder = mask_folder(tmp_path / "a", 3)
    (folder / "masks" / "001.png").unlink()
    with pytest.raises(DataError, match=r"001\.png.*no mask"):
        read(Segmentation(), str(folder))
    rows = [r | {"mask": r["mask"][:-2]} for r in masked(2)]
    with pytest.raises(DataError, match="56 x 38 pixels and its image 56 x 40"):
        pretune.finetune(rows, out=str(tmp_path / "run"), task=TASK, modality="image", scratch=True, valid_rate=0)


def test_check_finds_what_training_refuses_and_leaves_out(tmp_path: Path) -> None:
    folder = mask_folder(tmp_path / "a", 4)
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(folder / "masks" / "more.png")
    Image.fromarray(np.zeros((20, 28), np.uint8)).save(folder / "masks" / "001.png")
    report = check(str(folder), task="segmentation", modality="image")
    assert "row 2: " in report.problems[0]
    assert "has 28 x 20 pixels and its image 56 x 40; they must be the same" in report.problems[0]
    assert any('such as "more.png": left out.' in w for w in report.warnings)
    (folder / "images" / "002.jpg").write_bytes((folder / "images" / "002.png").read_bytes())
    with pytest.raises(DataError, match=r'002\.jpg" and "002\.png" have the same mask'):
        read(Segmentation(), str(folder))
    (folder / "images" / "002.jpg").unlink()
    (folder / "masks" / "002.tif").write_bytes((folder / "masks" / "002.png").read_bytes())
    with pytest.raises(DataError, match=r'002\.png" and "002\.tif" are two masks of one image'):
        check(str(folder), task="segmentation", modality="image")


def test_no_mask_is_written_over_an_overlay(run: Path, tmp_path: Path) -> None:
    for place in ("a/x.png", "a/x-overlay.png", "b/x.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((40, 56, 3), np.uint8)).save(tmp_path / place)
    assert len(list(predict(str(run), str(tmp_path), files=str(tmp_path / "out")))) == 3
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_scores_are_the_worked_example_and_resample() -> None:
    task = Segmentation(ignore_index=9)
    true = [np.array([[0, 0], [1, 9]]), np.array([[1, 1], [1, 1]])]
    task.learn_labels(true)
    found = [np.array([[0, 1], [1, 0]]), np.array([[1, 1], [0, 1]])]
    predictions = [{"mask": _png(m)} for m in found]
    scores = task.metrics(predictions, true)
    assert scores == pytest.approx({"miou": (1 / 3 + 4 / 6) / 2, "accuracy": 5 / 7, "iou_0": 1 / 3, "iou_1": 4 / 6})
    assert task.rescored(predictions, true)([1, 1]) == pytest.approx({"miou": 0.75, "accuracy": 0.75, "iou_1": 0.75})


def test_prediction_writes_masks_at_the_size_of_each_image(run: Path, files: Path, tmp_path: Path) -> None:
    rows = list(predict(str(run), str(files / "data:test"), files=str(tmp_path)))
    for row, truth in zip(rows, masked(8, 1), strict=True):
        mask = decoded(row["mask"])
        assert mask.shape == (40, 56)
        assert sum(row["shares"].values()) == pytest.approx(1, abs=1e-4)
        assert (mask == truth["mask"]).mean() > 0.8
    picture = opened(tmp_path / "000.png")
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), decoded(rows[0]["mask"]))
    assert (tmp_path / "000-overlay.png").is_file()
    wide = pretune.load(str(run)).predict([np.zeros((30, 91, 3), np.uint8)])
    assert decoded(wide[0]["mask"]).shape == (30, 91)


def test_evaluation_has_intervals(run: Path, files: Path) -> None:
    found = evaluate(str(run), str(files / "data:test"))
    assert {"miou", "accuracy", "iou_0", "iou_3", "iou_7"} == set(found.metrics)
    for name, interval in found.intervals.items():
        assert interval.low <= found.metrics[name] <= interval.high


def test_a_segment_is_explained_by_its_mean_logit(run: Path, files: Path) -> None:
    task: Any = pretune.load(str(run)).task
    examples = task.process([{"image": str(files / "data" / "test" / "images" / "000.png")}])
    batch = to_device(task.collate(examples), task.device)
    with torch.no_grad():
        logits = task(batch)["logits"]
    segment = task.segment(logits, "0")
    expected = logits[0, 0][logits[0].argmax(0) == 0].mean()
    torch.testing.assert_close(task.target(logits, batch, of="0"), expected[None])
    torch.testing.assert_close(task.target(logits * 2, batch, of=segment), 2 * expected[None])
    with pytest.raises(ConfigError, match='no label "road"'):
        task.target(logits, batch, of="road")


def test_segments_have_heat_maps(run: Path, files: Path) -> None:
    record = [{"image": str(files / "data" / "test" / "images" / "000.png")}]
    found = explain(str(run), record, explainer="occlusion", num_random=2)
    assert [e.target for e in found] == ["0"]
    assert 0.5 < found[0].answer <= 1
    named = explain(str(run), record, explainer="occlusion", of="3", num_random=0)
    assert named[0].target == "3"


def test_real_roads_are_read(shared: Path) -> None:
    found = read(Segmentation(ignore_index=11), f"{shared}/camvid:valid")
    assert len(found) == 101
    assert read_mask(found[0]["mask"]).shape == (360, 480)


def _png(mask: np.ndarray) -> str:
    from pretune.tasks.segmentation import _encoded

    return _encoded(mask.astype(np.uint8))
