"""Folders, tables, arrays and data sets of images give the same records; what is missing or mixed up is said."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image as PILImage

import pictures
from pretune import data
from pretune.errors import ConfigError, DataError
from pretune.modalities.image import Image

ROLES = {"image": data.IMAGE_COLUMNS["image"], "label": ("label", "class")}


def read(source, *, labelled=True):
    roles = ROLES if labelled else {"image": ROLES["image"]}
    return [dict(r) for r in data.read_records(source, roles=roles, required=tuple(roles))]


def shown(rows):
    modality = Image(channels=3, image_size=pictures.SIDE)
    modality.channels, modality.image_size = 3, pictures.SIDE
    return np.stack([modality.read(r) for r in rows]), [str(r.get("label")) for r in rows]


@pytest.fixture(scope="module")
def planted():
    return pictures.planted(6)


@pytest.fixture(scope="module")
def truth(planted):
    """Sorted by label, as a folder is read."""
    rows = sorted(planted, key=lambda r: r["label"])
    return np.stack([r["image"] for r in rows]), [r["label"] for r in rows]


def same(found, truth):
    assert np.array_equal(found[0], truth[0])
    assert found[1] == truth[1]


def test_a_folder_of_classes(planted, truth, tmp_path):
    folder = pictures.write_folder(tmp_path / "train", planted)
    same(shown(read(folder)), truth)
    assert "label" not in read(folder, labelled=False)[0]
    (tmp_path / "train" / "left" / "deeper").mkdir()
    PILImage.fromarray(planted[0]["image"]).save(tmp_path / "train" / "left" / "deeper" / "x.png")
    assert [r["label"] for r in read(folder)].count("left") == 4


def test_splits_of_a_folder(planted, tmp_path):
    for split in ("train", "test"):
        pictures.write_folder(tmp_path / split, planted)
    with pytest.raises(DataError, match=r"holds several splits \(test, train\)"):
        read(tmp_path)
    assert len(read(f"{tmp_path}:test")) == 6


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_tables_of_paths_are_relative_to_the_table(ending, planted, truth, tmp_path):
    folder = pictures.write_folder(tmp_path / "images", planted)
    files = [str(f.relative_to(tmp_path)) for f in sorted(folder.rglob("*.png"))]
    frame = pd.DataFrame({"file_name": files, "class": truth[1]})
    path = tmp_path / f"rows.{ending}"
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    same(shown(read(path)), truth)
    same(shown(read(tmp_path)), truth)  # the table has the labels of the pictures beside it


def test_data_sets_keep_their_bytes(truth):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["left", "right"])})
    rows = {"image": [PILImage.fromarray(x) for x in truth[0]], "label": truth[1]}
    same(shown(read(datasets.Dataset.from_dict(rows, features=features))), truth)


def test_what_is_in_memory(truth):
    images, labels = truth
    same(shown(read({"image": images, "label": np.array(labels)})), truth)
    same(
        shown(read([{"image": PILImage.fromarray(x), "label": y} for x, y in zip(images, labels, strict=True)])), truth
    )
    assert np.array_equal(shown(read(list(images), labelled=False))[0], images)
    assert np.array_equal(shown(read(images, labelled=False))[0], images)


def idx(path: Path, array: np.ndarray) -> Path:
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_idx_files_and_their_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    path = idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    with pytest.raises(DataError, match=r"no labels for .*expected train-labels-idx1-ubyte.gz"):
        read(path)
    idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(5))
    for source in (path, tmp_path, f"{tmp_path}:train"):
        found = read(source)
        assert [r["label"] for r in found] == [0, 1, 2, 3, 4]
        assert np.array_equal(shown(found)[0][..., 0], images)
    assert len(read(tmp_path, labelled=False)) == 5
    idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(4))
    with pytest.raises(DataError, match=r"more images than labels \(4\)"):
        read(path)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-100]))
    with pytest.raises(DataError, match=r"damaged .*it ends after 4 of 5 items"):
        read(path, labelled=False)


def test_npz_and_npy_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "all.npz", x_train=images, y_train=np.arange(5), x_test=images[:2], y_test=np.arange(2))
    with pytest.raises(DataError, match=r"several arrays of images; choose a split"):
        read(tmp_path / "all.npz")
    assert len(read(f"{tmp_path}/all.npz:test")) == 2
    assert np.array_equal(shown(read(f"{tmp_path}/all.npz:train"))[0], images)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.array(["a", "b", "a", "b", "c"]))
    assert np.array_equal(shown(read(tmp_path / "images.npy", labelled=False))[0], images)
    np.savez(tmp_path / "other.npz", values=np.arange(3))
    with pytest.raises(DataError, match=r"no array of images. Its arrays: values \(3,\)"):
        read(tmp_path / "other.npz")


def test_what_is_wrong_with_a_folder_is_said(planted, tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    PILImage.fromarray(planted[0]["image"]).save(folder / "a.png")
    with pytest.raises(DataError, match="has images and no class sub-folders"):
        read(folder)
    pictures.write_folder(folder, planted)
    with pytest.raises(DataError, match=r'row 1: the image "a.png" is in no class sub-folder'):
        read(folder)
    with pytest.raises(DataError, match=r"expected a file that ends in .png, .jpg"):
        read(Path(__file__))


def test_fingerprints_follow_the_content(planted, tmp_path):
    folder = pictures.write_folder(tmp_path / "a", planted)
    before = data.fingerprint(folder)
    assert before == data.fingerprint(pictures.write_folder(tmp_path / "b", planted))
    PILImage.fromarray(planted[1]["image"]).save(folder / "left" / "000.png")
    assert data.fingerprint(folder) != before
    images = np.stack([r["image"] for r in planted])
    other = images.copy()
    other[3, 8, 8, 0] += 1  # not among what str() of an array shows
    assert data.fingerprint(images) != data.fingerprint(other)
    assert data.fingerprint(list(images)) != data.fingerprint(list(other))


def test_a_corpus_of_a_table_follows_its_files(planted, tmp_path):
    folder = pictures.write_folder(tmp_path / "images", planted)
    files = [str(f) for f in sorted(folder.rglob("*.png"))]
    (tmp_path / "rows.csv").write_text("path\n" + "\n".join(files) + "\n")
    modality = Image()
    modality.learn(tmp_path / "rows.csv")
    open_ = lambda: modality.corpus(tmp_path / "rows.csv", cache=tmp_path / "cache", split="all")  # noqa: E731
    before = open_()
    assert before.fingerprint == open_().fingerprint
    PILImage.fromarray(np.full((16, 16, 3), 7, np.uint8)).save(files[2])
    after = open_()
    assert after.fingerprint != before.fingerprint
    assert (after[2] == 7).all()


def test_corpus_splits_keep_equal_images_together(tmp_path):
    rows = pictures.planted(40, seed=1)
    images = np.stack([r["image"] for r in rows + rows])
    modality = Image()
    modality.learn(images)
    parts = {s: modality.corpus(images, cache=tmp_path, split=s) for s in ("train", "valid", "all")}
    assert len(parts["train"]) + len(parts["valid"]) == len(parts["all"]) == 80
    keys = {s: {p[i].tobytes() for i in range(len(p))} for s, p in parts.items()}
    assert not keys["train"] & keys["valid"]
    assert np.array_equal(parts["all"].batch(range(80)), images)
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(DataError, match="of one content"):
        modality.corpus(images[:1].repeat(3, 0), cache=tmp_path, split="train")


def test_a_damaged_image_stops_the_corpus_and_leaves_nothing(planted, tmp_path):
    folder = pictures.write_folder(tmp_path / "images", planted)
    modality = Image()
    modality.learn(folder)
    (folder / "left" / "004.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r'Cannot read the image ".*004.png"'):
        modality.corpus(folder, cache=tmp_path / "cache", split="all")
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(DataError, match=r'Cannot read the image ".*004.png"'):
        Image().learn(folder)


def test_options_are_checked():
    for options, message in (
        ({"image_size": 4}, "at least 8"),
        ({"channels": 2}, "1 .grey. or 3"),
        ({"fit": "pad"}, "stretch"),
        ({"augmentation": "wild"}, "none, light, strong"),
    ):
        with pytest.raises(ConfigError, match=message):
            Image(**options)
