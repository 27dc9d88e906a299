"""The saved model and processor give transformers what pretune computes; every verb works on pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline

import pictures
import pretune
from pretune import cli, encoder
from pretune.checks import check
from pretune.errors import ConfigError, ModelError
from pretune.modalities.image import Image

FAMILIES = ("vit", "convnext", "resnet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pictures.write_folder(tmp_path_factory.mktemp("planted") / "train", pictures.planted(48))


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A ViT that has learnt where the square is."""
    out = tmp_path_factory.mktemp("runs") / "ft"
    pretune.finetune(
        str(folder),
        out=str(out),
        modality={"name": "image", "augmentation": "none", "flip": False},
        scratch=True,
        size="tiny",
        budget="150steps",
        valid_rate=0.0,
        lr=1e-3,
        precision="fp32",
    )
    return out


def learnt(source, **options):
    modality = Image(**options)
    modality.learn(source)
    return modality


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_saved_processor_gives_the_same_pixels(fit, channels, tmp_path):
    rng = np.random.default_rng(0)
    shapes = [(40, 30), (33, 64), (24, 24)]
    images = [rng.integers(0, 256, (*s, 3), dtype=np.uint8)[..., : 3 if channels == 3 else None] for s in shapes]
    images = [i if channels == 3 else i[..., 0] for i in images]
    modality = learnt(images, fit=fit, image_size=24)
    assert modality.num_channels == channels
    modality.save(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    batch = modality.pad(modality.process_many([{"image": i} for i in images]))["pixel_values"]
    pil = [PILImage.fromarray(i) for i in images]
    assert torch.equal(processor(pil, return_tensors="pt")["pixel_values"], batch)
    again = Image().load(str(tmp_path))
    assert again.squares == modality.squares
    assert (again.mean, again.std) == (modality.mean, modality.std)
    assert torch.allclose(again.denormalise(batch) * 255, torch.round(again.denormalise(batch) * 255), atol=1e-3)


def test_size_and_channels_are_derived():
    grey_in_colour = np.repeat(np.random.default_rng(0).integers(0, 256, (5, 30, 44, 1), dtype=np.uint8), 3, axis=3)
    modality = learnt(grey_in_colour)
    assert (modality.image_size, modality.channels) == (32, 1)
    assert learnt(np.zeros((3, 500, 300, 3), np.uint8) + np.array([1, 2, 3], np.uint8)).image_size == 224
    values = grey_in_colour / 255
    other = learnt(grey_in_colour, image_size=30, fit="crop")
    assert other.mean[0] == pytest.approx(values[:, :, 7:37].mean(), abs=1e-4)
    assert other.std[0] == pytest.approx(values[:, :, 7:37].std(), abs=1e-4)


def test_processors_of_other_models_are_understood(tmp_path):
    saved = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.875}
    saved |= {"resample": 3, "image_mean": [0.5] * 3, "image_std": [0.2] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(saved))
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    modality = Image().load(str(tmp_path))
    found = modality.pad([modality.process({"image": image})])["pixel_values"]
    truth = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")([image], return_tensors="pt")["pixel_values"]
    assert torch.allclose(found, truth, atol=1e-6)
    with pytest.raises(ConfigError, match="image_size is 64, but"):
        Image(image_size=64).load(str(tmp_path))
    with pytest.raises(ConfigError, match="channels is 1, but"):
        Image(channels=1).load(str(tmp_path))
    with pytest.raises(ModelError, match="no image processor"):
        Image().load(str(tmp_path / "none"))


@pytest.mark.parametrize("image_size", [8, 12, 16, 20, 28, 32, 224])
def test_a_resnet_never_halves_a_single_pixel(image_size):
    """The bf16 gradient of such a convolution is uninitialised memory in oneDNN 3."""
    modality = learnt(np.zeros((3, image_size, image_size, 3), np.uint8))
    model, _ = encoder.make(AutoModel, modality.config("tiny", "resnet"))
    inputs = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride[0] > 1:
            module.register_forward_hook(lambda _, given, __: inputs.append(given[0].shape[-1]))
    model.eval()(torch.zeros(1, 1, image_size, image_size))
    assert min(inputs) > 1
    assert len(encoder.blocks(model)[1]) == (4 if image_size > 16 else 2 if image_size == 8 else 3)


def test_a_resnet_checkpoint_says_what_it_cannot_read(tmp_path):
    modality = learnt(np.zeros((3, 32, 32, 3), np.uint8))
    modality.save(tmp_path)
    modality.config("tiny", "resnet").save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="needs at least 17"):
        Image(image_size=16).load(str(tmp_path))


def test_check_refuses_a_task_for_other_data(folder):
    with pytest.raises(ConfigError, match="give --modality image"):
        check(folder, task="detection")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_knows_its_blocks_and_width(family):
    modality = learnt(np.zeros((3, 32, 32, 3), np.uint8))
    model, _ = encoder.make(AutoModelForImageClassification, modality.config("tiny", family))
    name, blocks = encoder.blocks(model)
    assert len(blocks) == 4
    assert encoder.width(model.config) == {"vit": 128, "convnext": 256, "resnet": 256}[family]
    table = encoder.depths(model)
    inside = {d for n, d in table.items() if n.startswith(name)}
    assert inside == {1, 2, 3, 4}
    assert table[next(n for n in table if "embed" in n)] == 0
    assert all(d == 5 for n, d in table.items() if "classifier" in n)
    with pytest.raises(ConfigError, match=r'no family "vti".*Did you mean "vit"'):
        modality.config("tiny", "vti")


def test_it_learns_and_equals_the_pipeline(run, folder):
    files = sorted(str(f) for f in folder.rglob("*.png"))
    found = pretune.load(run, precision="fp32").predict(files)
    assert [p["image"] for p in found] == files
    assert np.mean([p["label"] in f for p, f in zip(found, files, strict=True)]) == 1.0
    theirs = pipeline("image-classification", str(run / "model"))(files)
    for ours, their in zip(found, theirs, strict=True):
        assert ours["label"] == their[0]["label"]
        assert ours["probabilities"][their[0]["label"]] == pytest.approx(their[0]["score"], abs=1e-5)


@pytest.mark.parametrize(("side", "most"), [(16, 256), (32, 256), (48, 113), (64, 64), (224, 64)])
def test_more_small_pictures_are_predicted_together(side, most):
    assert learnt([np.zeros((8, 8, 3), dtype=np.uint8)] * 2, image_size=side).together == most


def test_how_many_are_predicted_together_changes_nothing(run, folder):
    whole, few = ([r["label"] for r in pretune.predict(str(run), str(folder), batch_size=n)] for n in (None, 5))
    assert whole == few


def test_bad_rows_keep_their_place(run, folder, tmp_path):
    good = next(folder.rglob("*.png"))
    (tmp_path / "b.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "a.png").write_bytes(good.read_bytes())
    found = pretune.load(run).predict(tmp_path)
    assert "label" in found[0]
    assert "b.png" in found[1]["error"]


def test_a_frozen_encoder_is_cached(run, folder, tmp_path):
    tuned = pretune.finetune(
        [{"image": r["image"], "label": r["label"] + "!"} for r in pictures.planted(24, seed=5)] + _third(),
        out=str(tmp_path / "probe"),
        modality="image",
        from_=str(run),
        strategy="freeze",
        budget="30steps",
        valid_rate=0.3,
        lr=0.02,
    )
    assert tuned.metrics["accuracy"] >= 0.5
    with pytest.raises(ConfigError, match="already has a head"):
        pretune.finetune(str(folder), out=str(tmp_path / "again"), modality="image", from_=str(run), strategy="freeze")


def _third():
    return [{"image": np.full((16, 16, 3), 120, np.uint8) + np.uint8(i), "label": "none"} for i in range(12)]


@pytest.mark.parametrize("augmentation", ["none", "light", "strong"])
def test_augmentation_is_drawn_in_training_alone(augmentation):
    rows = pictures.planted(6)
    modality = learnt([r["image"] for r in rows], augmentation=augmentation, flip=False)
    examples = modality.process_many(rows)
    first, again = (modality.augment(examples, np.random.default_rng(1)) for _ in range(2))
    pairs = zip(examples, first, again, strict=True)
    changed = [not np.array_equal(a["pixel_values"], b["pixel_values"]) for a, b, _ in pairs]
    assert any(changed) == (augmentation != "none")
    assert all(np.array_equal(a["pixel_values"], b["pixel_values"]) for a, b in zip(first, again, strict=True))
    assert learnt([r["image"] for r in rows])._mirrors
    assert not learnt([r["image"][..., 0] for r in rows])._mirrors


def test_regression_on_pictures(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{"image": np.full((8, 8), v, np.uint8), "label": float(v)} for v in rng.integers(0, 256, 40)]
    tuned = pretune.finetune(
        rows,
        out=str(tmp_path / "run"),
        task="regression",
        modality={"name": "image", "augmentation": "none"},
        scratch=True,
        size="tiny",
        budget="80steps",
        valid_rate=0.3,
        lr=1e-3,
    )
    assert tuned.metrics["pearson"] > 0.8
    assert "value" in pretune.load(tuned.path).predict([rows[0]["image"]])[0]


def test_check_finds_what_is_wrong(folder, tmp_path):
    pictures.write_folder(tmp_path / "a", pictures.planted(8, seed=3))
    (tmp_path / "a" / "left" / "bad.png").write_bytes(b"no picture")
    copy = (tmp_path / "a" / "left" / "000.png").read_bytes()
    (tmp_path / "a" / "right" / "copy.png").write_bytes(copy)
    (folder.parent / "test" / "left").mkdir(parents=True, exist_ok=True)
    (folder.parent / "test" / "left" / "same.png").write_bytes(copy)
    report = check(tmp_path / "a", task="classification", test=folder.parent / "test", modality="image")
    assert report.status == 2
    assert report.facts["images"] == 9
    assert report.facts["labels"] == {"left": 4, "right": 5}
    assert "bad.png" in report.problems[0]
    text = " ".join(report.warnings)
    assert "1 images have the pixels of an earlier one" in text
    assert "with a different label" in text
    assert "1 of 1 test images are also in the training data" in text
    assert check(folder, modality="image").status == 0


BAD = {
    ("finetune", "--data", "{flat}", "--scratch"): "no class sub-folders",
    ("finetune", "--data", "{folder}", "--scratch", "--modality.image_size", "4"): "at least 8 pixels",
    ("finetune", "--data", "{folder}", "--scratch", "--family", "bert"): 'no family "bert"',
    ("finetune", "--data", "{folder}", "--scratch", "--size", "huge"): 'no size "huge"',
    ("finetune", "--data", "{folder}", "--scratch", "--task", "tagging"): "these fit:",
    ("finetune", "--data", "{folder}", "--scratch", "--task", "regression"): "needs a number",
    ("pretrain", "--data", "{folder}", "--objective", "bert"): "these fit:",
    ("pretrain", "--data", "{folder}", "--objective", "mae", "--modality.flip", "true"): "flip has no effect in pre-tr",
    ("pretrain", "--data", "{folder}", "--objective", "mae", "--budget", "3"): "1e6images",
    ("pretrain", "--data", "{folder}", "--objective", "contrastive", "--num_micro_batches", "300"): "batch of 128",
    ("pretrain", "--data", "{broken}", "--objective", "mae"): "Cannot read the image",
    ("pretrain", "--data", "{folder}", "--batch_size", "1"): "batch_size 1 is below 2",
    ("finetune", "--data", "{folder}", "--from", "{run}", "--strategy", "freeze", "--modality.augmentation", "none"): (
        "modality.augmentation has no effect with a frozen encoder"
    ),
}


@pytest.mark.parametrize("words", sorted(BAD))
def test_bad_input_is_one_sentence(words, folder, run, tmp_path, capsys):
    for name in ("flat", "broken"):
        (tmp_path / name).mkdir()
        PILImage.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name / "a.png")
    (tmp_path / "broken" / "b.png").write_bytes(b"x")
    places = {"flat": tmp_path / "flat", "broken": tmp_path / "broken", "folder": folder, "run": run}
    argv = [w.format(**places) for w in words] + ["--modality", "image", "--out", str(tmp_path / "run")]
    assert cli.main(argv) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("pretune: ")
    assert BAD[words] in error
    assert "--num_micro_batches" in words or not (tmp_path / "run").exists()


def test_explain_on_the_command_line(run, folder, tmp_path, capsys):
    file = next((folder / "left").glob("*.png"))
    for ending in ("png", "html", "json"):
        out = tmp_path / f"why.{ending}"
        assert cli.main(["explain", str(run), str(file), "--num_random", "2", "--out", str(out)]) == 0
        assert out.stat().st_size > 500
    assert "probability" in capsys.readouterr().out
    assert json.loads((tmp_path / "why.json").read_text())[0]["name"] == str(file)
    assert (tmp_path / "why.html").read_text().count("data:image/png") == 2
    with PILImage.open(tmp_path / "why.png") as picture:
        assert picture.width > 2 * 200
