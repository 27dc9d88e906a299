"""Every usual sort of recording becomes the right 16-bit samples; what cannot be read is named."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from pretune.audio_reading import Header, faults, header, packed, place_of, samples
from pretune.errors import DataError

RATE = 8000
TIME = np.arange(RATE) / RATE
TONE = np.rint((0.4 * np.sin(2 * np.pi * 440 * TIME) + 0.2 * np.sin(2 * np.pi * 1234 * TIME)) * 32768).astype(np.int16)
FLOATS = (TONE / 32768).astype(np.float32)


def encoded(array, rate=RATE, form="WAV", subtype=None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, array, rate, format=form, subtype=subtype)
    return file.getvalue()


LOSSLESS = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("W64", "PCM_16")]
LOSSLESS += [("CAF", "PCM_16"), ("NIST", "PCM_16"), ("RF64", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT")]


@pytest.mark.parametrize(("form", "subtype"), LOSSLESS)
def test_sixteen_bits_come_back_as_they_are(form, subtype, tmp_path):
    content = encoded(FLOATS if subtype == "FLOAT" else TONE, form=form, subtype=subtype)
    path = tmp_path / "a.sound"
    path.write_bytes(content)
    for value in (str(path), path, content, {"bytes": content, "path": None}, {"bytes": None, "path": str(path)}):
        found = samples(value, RATE)
        assert found.dtype == np.int16
        assert np.array_equal(found, TONE)
        assert header(value) == Header(RATE, 1.0, 1)


@pytest.mark.parametrize(
    ("form", "subtype", "rate"), [("OGG", "VORBIS", 8000), ("OGG", "OPUS", 8000), ("MP3", None, 16000)]
)
def test_lossy_files_are_near(form, subtype, rate):
    tone = np.repeat(TONE, rate // RATE)
    found = samples(encoded(tone, rate, form, subtype), rate)
    assert len(found) == len(tone)
    assert np.corrcoef(found, tone)[0, 1] > 0.98


def test_eight_bits_and_full_scale():
    scale = np.array([-1.0, -0.5, 0.0, 0.5, 127 / 128])
    assert samples(encoded(scale, subtype="PCM_U8"), RATE).tolist() == [-32768, -16384, 0, 16384, 32512]
    # rounded, not cut off; clipped at full scale
    beyond = np.array([-1.5, -1.0, 0.6 / 32768, -0.6 / 32768, 1.0, 1.5])
    assert samples(encoded(beyond, subtype="FLOAT"), RATE).tolist() == [-32768, -32768, 1, -1, 32767, 32767]


def test_channels_are_averaged():
    other = np.roll(TONE, 100)
    content = encoded(np.stack([TONE, other], axis=1))
    assert header(content).channels == 2
    mean = (TONE.astype(np.int32) + other) / 2
    assert np.abs(samples(content, RATE) - mean).max() <= 0.5


@pytest.mark.parametrize(("given", "rate"), [(48000, 16000), (44100, 16000), (8000, 16000), (22050, 8000)])
def test_resampling_keeps_the_tone_and_drops_what_does_not_fit(given, rate):
    time = np.arange(given) / given
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    high = (
        0.4 * np.sin(2 * np.pi * 0.49 * given * time) if given > rate else 0
    )  # above the new limit: must not fold down
    found = samples(encoded(tone + high, given), rate) / 32768
    assert len(found) == rate
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    inner = slice(rate // 10, -rate // 10)  # the ends ring
    assert np.abs(found - expected)[inner].max() < 2e-3


@pytest.mark.parametrize(
    "array", [FLOATS, FLOATS.astype(np.float64), TONE, TONE.astype(np.int32) << 16, FLOATS.tolist()]
)
def test_samples_in_memory(array):
    for value in ({"array": array, "sampling_rate": RATE}, (array, RATE), {"array": array, "sampling_rate": 8000.0}):
        assert np.array_equal(samples(value, RATE), TONE)
        assert np.array_equal(samples(packed(value), RATE), TONE)
    assert packed((array, RATE)) == packed({"array": array, "sampling_rate": RATE, "path": None})
    assert packed({"array": array, "sampling_rate": RATE, "path": "a.wav"})["path"] == "a.wav"


def test_channels_in_memory_come_first_or_last():
    both = np.stack([FLOATS, FLOATS / 2])
    for array in (both, both.T):
        assert header((array, RATE)) == Header(RATE, 1.0, 2)
        assert np.abs(samples((array, RATE), RATE) - TONE * 0.75).max() <= 1


def test_packed_values_that_are_no_samples():
    assert packed(" ") is packed(None) is packed(float("nan")) is packed({"bytes": None, "path": None}) is None
    assert packed("a.wav") == packed({"path": "a.wav", "bytes": None}) == "a.wav"
    assert packed(b"x") == {"bytes": b"x", "path": None}
    assert place_of("a.wav") == place_of({"bytes": b"x", "path": "a.wav"}) == '"a.wav"'
    assert place_of((FLOATS, RATE)) == "given as data"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (FLOATS, r'expected .*"array", "sampling_rate"}, found ndarray without its sampling rate'),
        (3, "found int"),
        ({"text": "x"}, "found dict"),
        ({"array": FLOATS}, "expected a sampling rate in Hz beside the array, found None"),
        ((FLOATS, 0), "found 0"),
        ((np.zeros((2, 3, 4)), RATE), r"found shape \(2, 3, 4\)"),
        ((np.zeros(0), RATE), r"found shape \(0,\)"),
        ((np.zeros((100, 100)), RATE), r"found shape \(100, 100\)"),
        ((TONE.astype(np.int64), RATE), "found int64; convert"),
        ((TONE.astype(np.float32), RATE), r"found values up to \d+: divide"),
        (([["a"]], RATE), "found <U1"),
    ],
)
def test_values_that_cannot_be_packed(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        packed(value)
    assert not isinstance(caught.value, DataError)  # the reason alone: the reader adds the row


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


DAMAGED = {
    "text.wav": b"hello",
    "empty.wav": b"",
    "header.flac": encoded(TONE, form="FLAC")[:60],
    "cut.flac": cut(encoded(TONE, form="FLAC")),
    "cut.ogg": cut(encoded(TONE, form="OGG", subtype="VORBIS")),
    "cut.opus": cut(encoded(TONE, form="OGG", subtype="OPUS")),
    "cut.mp3": cut(encoded(TONE, 16000, form="MP3")),
    "cut.wav": cut(encoded(TONE)),
    "cut.aiff": cut(encoded(TONE, form="AIFF")),
    "cut.au": cut(encoded(TONE, form="AU")),
    "cut.w64": cut(encoded(TONE, form="W64")),
    "nan.wav": encoded(np.where(TIME > 0.5, np.nan, FLOATS), subtype="FLOAT"),
    "infinite.wav": encoded(np.where(TIME > 0.5, np.inf, FLOATS), subtype="FLOAT"),
    "loud.wav": encoded(TONE.astype(np.float32), subtype="FLOAT"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_named(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(DAMAGED[name])
    for value in (str(path), {"bytes": DAMAGED[name], "path": str(path)}):
        with pytest.raises(DataError, match=rf'Cannot read the recording ".*{name}" \(.+\); (replace|convert)'):
            samples(value, RATE)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r'There is no recording "nowhere\.wav"; check the path'):
        samples("nowhere.wav", RATE)
    with pytest.raises(DataError, match=r'There is no recording "a\0b"'):
        header("a\0b")
    with pytest.raises(DataError, match=r'Cannot read the recording ".*" \('):
        samples(str(tmp_path), RATE)
    path = tmp_path / "none.wav"
    path.write_bytes(encoded(TONE[:0]))
    with pytest.raises(DataError, match=r'"\S*none\.wav" has no samples'):
        samples(path, RATE)
    with pytest.raises(DataError, match="given as data is shorter than a sample of 100 Hz"):
        samples((FLOATS[:10], RATE), 100)
    with pytest.raises(DataError, match="given as data: expected a path"):
        samples(FLOATS, RATE)


def test_sizes_that_were_not_known_when_written():
    """Programs that write to a pipe leave the greatest size in the header."""
    content = bytearray(encoded(TONE))
    at = content.find(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff\xff\xff\xff"
    assert np.array_equal(samples(bytes(content), RATE), TONE)


def test_faults():
    noise = np.random.default_rng(0).normal(0, 3000, 8000).astype(np.int16)
    assert faults(noise) == faults(TONE) == faults(noise[:0]) == []
    assert faults(np.zeros(10, np.int16)) == faults((noise // 400).clip(-30, 30).astype(np.int16)) == ["silent"]
    for run in (32767, -32768, -32767):
        spoilt = noise.copy()
        spoilt[100:103] = run
        assert faults(spoilt) == ["clipped"]
    apart = noise.copy()
    apart[:1600:200] = 32767  # 8 of 8,000 samples, none beside another
    assert faults(apart) == []
    apart[1000:1200:20] = -32768  # 18
    assert faults(apart) == ["clipped"]
    assert faults(samples((FLOATS * 2.5, RATE), RATE)) == ["clipped"]
