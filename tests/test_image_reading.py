"""Every usual sort of picture becomes the right 8-bit pixels; what cannot be read is named."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pretune.errors import DataError
from pretune.image_reading import fitted, packed, picture, pixels

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["png", "tiff", "bmp", "webp", "gif"])
def test_grey_and_colour_files(form, tmp_path):
    lossless = {"lossless": True} if form == "webp" else {}
    path = tmp_path / f"a.{form}"
    path.write_bytes(encoded(Image.fromarray(GREY), form, **lossless))
    assert np.array_equal(pixels(picture(str(path)), 1)[..., 0], GREY)
    if form != "gif":  # at most 256 colours
        assert np.array_equal(pixels(picture(encoded(Image.fromarray(COLOUR), form, **lossless)), 3), COLOUR)


def test_jpeg_turned_by_exif():
    upright = Image.fromarray(COLOUR)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    found = picture(encoded(upright, "jpeg", exif=exif, quality=100, subsampling=0))
    assert found.size == (6, 9)
    assert np.abs(pixels(found, 3).astype(int) - np.rot90(COLOUR, -1).astype(int)).mean() < 3
    assert picture(packed(upright)).size == (9, 6)


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_sixteen_bits_are_scaled_by_their_range(form):
    deep = GREY.astype(np.uint16) * 257
    assert np.array_equal(pixels(picture(encoded(Image.fromarray(deep), form)), 1)[..., 0], GREY)
    assert np.array_equal(pixels(picture(packed(deep)), 1)[..., 0], GREY)


def test_transparent_pixels_lie_over_white():
    alpha = np.zeros(GREY.shape, dtype=np.uint8)
    alpha[:, :4] = 255
    found = pixels(picture(encoded(Image.fromarray(np.dstack([COLOUR, alpha])), "png")), 3)
    assert np.array_equal(found[:, :4], COLOUR[:, :4])
    assert (found[:, 4:] == 255).all()


def test_palette_binary_and_cmyk():
    palette = Image.fromarray(COLOUR).quantize(16)
    assert np.array_equal(pixels(picture(encoded(palette, "png")), 3), np.asarray(palette.convert("RGB")))
    binary = Image.fromarray(GREY).convert("1")
    assert np.array_equal(pixels(picture(encoded(binary, "png")), 1)[..., 0], np.asarray(binary) * 255)
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    assert picture(encoded(cmyk, "tiff")).mode == "RGB"


def test_arrays_of_other_types():
    assert np.array_equal(pixels(picture(packed(GREY / 255.0)), 1)[..., 0], GREY)
    assert np.array_equal(pixels(picture(packed(GREY.astype(np.int64))), 1)[..., 0], GREY)
    assert np.array_equal(pixels(picture(packed(GREY > 100)), 1)[..., 0], (GREY > 100) * 255)
    assert np.array_equal(pixels(picture(packed(np.moveaxis(COLOUR, -1, 0))), 3), COLOUR)
    with pytest.raises(DataError, match=r"found float64 from 0 to 16: rescale"):
        picture(packed(np.array([[0.0, 16.0]])))
    with pytest.raises(ValueError, match=r"found ndarray of shape \(3,\)"):
        packed(np.zeros(3))


def test_thirty_two_bits_are_sixteen_or_refused():
    def read(values: list[list[int]]) -> np.ndarray:
        return pixels(picture(encoded(Image.fromarray(np.array(values, np.int32)), "tiff")), 1)[..., 0]

    assert read([[0, 200, 65_535]]).tolist() == [[0, 1, 255]]
    assert read([[200, 200]]).tolist() == [[1, 1]]  # whatever else is in the picture
    with pytest.raises(DataError, match="found 32-bit ones from 0 to 65536: rescale"):
        read([[0, 65_536]])


def test_bad_files_are_named(tmp_path):
    whole = encoded(Image.fromarray(np.tile(COLOUR, (20, 20, 1))), "jpeg")
    for name, content in (("cut.jpg", whole[: len(whole) // 2]), ("text.png", b"hello"), ("empty.png", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf'Cannot read the image ".*{name}" \(.+\); replace or remove'):
            picture(str(path))
    with pytest.raises(DataError, match=r'There is no image "nowhere\.png"'):
        picture("nowhere.png")


def test_crop_keeps_proportions_and_stretch_keeps_all():
    wide = Image.fromarray(np.repeat(np.arange(40, dtype=np.uint8)[None], 20, 0) * 6)
    assert fitted(wide, 10, edge=None, resample=2).size == (10, 10)
    middle = np.asarray(fitted(wide, 10, edge=10, resample=2))
    assert middle.shape == (10, 10)
    assert abs(middle.mean() - np.asarray(wide)[:, 10:30].mean()) < 3
