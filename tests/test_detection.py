"""Detection from files to files: COCO and VOC are read, squares are found, boxes are written and explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pretune
from planted_images import boxed, coco, opened, voc
from pretune import data
from pretune.box_sources import things
from pretune.checks import check
from pretune.errors import DataError
from pretune.evaluation import to_device
from pretune.run import evaluate, explain, predict
from pretune.tasks.detection import Detection

RUN: dict[str, Any] = {
    "task": "detection",
    "modality": {"name": "image", "image_size": 32},
    "scratch": True,
    "size": "tiny",
    "batch_size": 8,
    "lr": 2e-3,
    "num_validations": 1,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boxes")
    coco(folder / "train", 24)
    coco(folder / "test", 8, 1)
    return folder


@pytest.fixture(scope="module")
def run(files: Path) -> Path:
    """Trained for seconds on two dozen images."""
    found = pretune.finetune(str(files / "train.json"), out=str(files / "run"), valid_rate=0.2, budget="80steps", **RUN)
    assert found.metrics["map50"] > 0.5
    card = (found.path / "model" / "README.md").read_text()
    assert "pretune.load" in card
    assert "AutoModel.from_pretrained" in card
    return found.path


def read(task: Detection, source: Any) -> list[dict[str, Any]]:
    roles = {**(task.roles or {}), "objects": task.label_columns}
    return [dict(r) for r in data.read_records(task.source(source), roles=roles, required=("image", "objects"))]


def test_coco_and_voc_say_the_same(tmp_path: Path) -> None:
    task = Detection()
    one = read(task, str(coco(tmp_path / "a", 5)))
    two = read(task, str(voc(tmp_path / "b", 5)))
    assert [r["image_id"] for r in one] == [100, 101, 102, 103, 104]
    for first, second, truth in zip(one, two, boxed(5), strict=True):
        labels = [[(t["label"], t["box"]) for t in task.read_label(r, "objects")] for r in (first, second)]
        assert labels[0] == labels[1] == [(o["label"], [float(v) for v in o["box"]]) for o in truth["objects"]]
        assert opened(first["image"]).size == opened(second["image"]).size == (56, 40)


def test_images_without_objects_crowds_and_other_forms_of_objects_are_read(tmp_path: Path) -> None:
    file = coco(tmp_path / "a", 3)
    content = json.loads(file.read_text())
    content["annotations"] = content["annotations"][:1]
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    found = read(Detection(), str(file))
    assert [len(r["objects"]) for r in found] == [1, 0, 0]
    assert things(found[0]["objects"])[0]["crowd"]
    assert things({"bbox": [[1, 2, 3, 4]], "category": ["x"]}) == things('[{"box": [1, 2, 3, 4], "label": "x"}]')


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([{"label": "a", "box": [0, 0, 0, 5]}], "no area"),
        ([{"label": "a", "box": [0, 0, 5]}], "four numbers"),
        ([{"box": [0, 0, 5, 5]}], "label and a box"),
        ({"bbox": [[0, 0, 1, 1]], "category": []}, "equal length"),
        ("hello", "JSON"),
    ],
)
def test_objects_that_cannot_be_used_name_their_row(objects: Any, message: str) -> None:
    record = {"objects": objects, "_file": "boxes.jsonl", "_row": 7}
    with pytest.raises(DataError, match=f"boxes.jsonl, row 7: .*{message}"):
        Detection().read_label(record, "objects")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    file = coco(tmp_path / "a", 2)
    content = json.loads(file.read_text())
    lost = content["annotations"][1] | {"image_id": str(content["images"][0]["id"])}
    file.write_text(json.dumps(content | {"annotations": [content["annotations"][0], lost]}))
    with pytest.raises(DataError, match="annotation 2: image_id '100' is the id of none of the 2 images"):
        read(Detection(), str(file))
    content["annotations"][1]["category_id"] = 77
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"image 1.*category_id"):
        read(Detection(), str(file))
    (tmp_path / "a" / "000.png").rename(tmp_path / "moved.png")
    with pytest.raises(DataError, match=r'Cannot find "000\.png".*--task\.images'):
        read(Detection(), str(file))
    folder = voc(tmp_path / "b", 2)
    (folder / "Annotations" / "001.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"001\.xml, line 1: not valid XML"):
        read(Detection(), str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][1].update(id=100), "image 2: the id 100 is that of an earlier image"),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotation 1: expected a bbox of four numbers.*found None"),
        (lambda c: c["annotations"][0].update(bbox="1 2 3 4"), r"annotation 1: expected a bbox.*found '1 2 3 4'"),
        (lambda c: c["annotations"][0].update(category_id=77), "category_id 77 is the id of none of the 2 categories"),
    ],
)
def test_wrong_coco_names_image_or_annotation(change: Any, message: str, tmp_path: Path) -> None:
    file = coco(tmp_path / "a", 2)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read(Detection(), str(file))


def test_a_coco_file_that_is_cut_off_is_no_table(tmp_path: Path) -> None:
    file = coco(tmp_path / "a", 4)
    file.write_text(file.read_text()[:-40])
    with pytest.raises(DataError, match=r"a\.json\" is a COCO file that is cut off or damaged"):
        read(Detection(), str(file))


def test_voc_errors_name_the_file(tmp_path: Path) -> None:
    file = voc(tmp_path, 3) / "Annotations" / "001.xml"
    for name in ("", "<name> </name>"):
        file.write_text(f"<annotation><object>{name}<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
                        "</bndbox></object></annotation>")  # fmt: skip
        with pytest.raises(DataError, match=r"001\.xml, file 2: .*the label of object 1 is empty"):
            read(Detection(), str(tmp_path))


def test_an_image_without_xml_is_said_to_be_left_out(tmp_path: Path) -> None:
    folder = voc(tmp_path, 3)
    (folder / "Annotations" / "001.xml").unlink()
    report = check(str(folder), task="detection", modality="image")
    assert report.warnings[0].endswith(f'1 file has no partner below "{folder}", such as "001.png": left out.')


def test_a_box_outside_of_its_image_is_refused(tmp_path: Path) -> None:
    file = coco(tmp_path / "a", 4)
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [500, 500, 10, 10]
    file.write_text(json.dumps(content))
    message = r"row 1: the box of object 1, \[500\.0, 500\.0, 10\.0, 10\.0\], lies outside of its image of 56 x 40"
    with pytest.raises(DataError, match=message):
        pretune.finetune(str(file), out=str(tmp_path / "run"), budget="1steps", **RUN)
    (problem,) = check(str(file), task="detection", modality="image").problems
    assert "lies outside of its image of 56 x 40 pixels" in problem


@pytest.mark.parametrize(
    ("size", "refused"), [((28, 20), True), ((56, 40), False), ((0, 0), False), ((None, 40), False)]
)
def test_boxes_drawn_on_another_size_are_refused(size: tuple[Any, Any], refused: bool, tmp_path: Path) -> None:
    file, folder = coco(tmp_path / "a", 4), voc(tmp_path / "b", 4)
    content = json.loads(file.read_text())
    content["images"][0] |= dict(zip(("width", "height"), size, strict=True))
    file.write_text(json.dumps(content))
    xml = sorted((folder / "Annotations").iterdir())[0]
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size><object>"
    xml.write_text(xml.read_text().replace("<object>", stated, 1))
    message = "row 1: the image has 56 x 40 pixels, and its boxes were drawn on 28 x 20"
    for source in (file, folder):
        problems = check(str(source), task="detection", modality="image").problems
        assert [message in p for p in problems] == [True] * int(refused)
        if refused:
            with pytest.raises(DataError, match=message):
                pretune.finetune(str(source), out=str(tmp_path / "run"), budget="1steps", **RUN)


def test_check_counts_objects_and_names_bad_ones(tmp_path: Path) -> None:
    file = coco(tmp_path / "a", 4)
    report = check(str(file), task="detection", modality="image")
    assert report.status == 0
    assert sum(report.facts["labels"].values()) == 8
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 0
    file.write_text(json.dumps(content))
    report = check(str(file), task="detection", modality="image")
    assert report.status == 2
    assert "row 1: the box of object 1" in report.problems[0]


def test_labels_that_cannot_be_learnt_or_are_unknown() -> None:
    with pytest.raises(DataError, match="found none in 2 images"):
        Detection().learn_labels([[], []])
    task = Detection()
    task.labels = ["cat", "dog"]
    with pytest.raises(DataError, match='Did you mean "cat"'):
        task._number("cats")


def test_prediction_writes_boxes_pictures_and_coco_results(run: Path, files: Path, tmp_path: Path) -> None:
    rows = list(predict(str(run), str(files / "test.json"), files=str(tmp_path)))
    assert [len(r["boxes"]) > 0 for r in rows] == [True] * 8
    assert all(0 <= b["box"][0] <= 56 and b["box"][0] + b["box"][2] <= 56.01 for r in rows for b in r["boxes"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert sum(len(r["boxes"]) for r in rows) == len(results)
    assert {r["category_id"] for r in results} <= {2, 5}
    assert {r["image_id"] for r in results} == set(range(100, 108))
    picture = np.asarray(opened(tmp_path / "000.png").convert("RGB"))
    plain = np.asarray(opened(files / "test" / "000.png").resize(picture.shape[1::-1], 0))
    assert (picture != plain).any()


def test_boxes_are_those_of_images_of_any_size(run: Path, files: Path) -> None:
    """A larger copy of an image gives larger boxes, and a broken image gives an error in its place."""
    (files / "broken.png").write_bytes(b"nothing")
    small = opened(files / "test" / "000.png")
    big = small.resize((small.width * 6, small.height * 6), Image.Resampling.NEAREST)
    found = pretune.load(str(run)).predict([{"image": small}, {"image": str(files / "broken.png")}, {"image": big}])
    assert "broken.png" in found[1]["error"]
    best = [max(p["boxes"], key=lambda b: b["score"])["box"] for p in (found[0], found[2])]
    assert np.allclose(6 * np.array(best[0]), best[1], atol=12)


def test_evaluation_has_intervals(run: Path, files: Path) -> None:
    found = evaluate(str(run), str(files / "test.json"))
    assert {"map", "map50", "map75", "recall", "ap50_blue", "ap50_red"} == set(found.metrics)
    for name, interval in found.intervals.items():
        assert interval.low <= found.metrics[name] <= interval.high


def test_a_box_is_explained_by_the_logit_that_gave_its_score(run: Path, files: Path) -> None:
    predictor = pretune.load(str(run))
    task: Any = predictor.task
    examples = task.process([{"image": str(files / "test" / "000.png")}])
    batch = to_device(task.collate(examples), task.device)
    batch["pixel_values"].requires_grad_()
    logits = task(batch)["logits"]
    box = task.decode(logits, batch, examples)[0]["boxes"][0]
    value = task.target(logits, batch, of=box)
    assert float(value.detach()) == pytest.approx(float(np.log(box["score"] / (1 - box["score"]))), abs=1e-3)
    assert torch.equal(value, task.target(logits, batch, of=0))
    assert torch.equal(task.target(logits.expand(4, -1, -1, -1), batch, of=box), value.expand(4))
    value.sum().backward()
    change = batch["pixel_values"].grad[0].abs().sum(0)
    left, top, width, height = (round(v) for v in box["box"])
    inside = change[max(0, top - 4) : top + height + 4, max(0, left - 4) : left + width + 4]
    assert inside.mean() > change.mean()


def test_boxes_have_heat_maps(run: Path, files: Path) -> None:
    record = [{"image": str(files / "test" / "000.png")}]
    box = pretune.load(str(run)).predict(record)[0]["boxes"][0]
    found = explain(str(run), record, explainer="occlusion", of="0", num_random=2)
    assert [e.target.split()[0] for e in found] == [box["label"]]
    assert found[0].answer == pytest.approx(box["score"], abs=1e-3)
    row, column = np.unravel_index(np.argmax(found[0].scores), found[0].scores.shape)
    assert abs(column - box["box"][0] - box["box"][2] / 2) < 12
    assert abs(row - box["box"][1] - box["box"][3] / 2) < 12
    red = explain(str(run), record, explainer="occlusion", of="red", num_random=0)
    assert red[0].target == "red"


def test_real_blood_cells_are_read(shared: Path) -> None:
    found = read(Detection(), str(shared / "bccd" / "train.json"))
    assert len(found) == 205
    assert sum(len(r["objects"]) for r in found) == 2804
    task = Detection()
    task.learn_labels([r["objects"] for r in found])
    assert task.labels == ["Platelets", "RBC", "WBC"]
