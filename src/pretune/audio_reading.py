"""Recordings in files or memory of any usual sort to 16-bit mono samples; imports nothing heavy."""

from __future__ import annotations

__all__ = ["EXTENSIONS", "Header", "Recording", "faults", "header", "packed", "place_of", "samples", "wav"]

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from pretune import image_reading
from pretune.errors import DataError
from pretune.image_reading import place_of

EXTENSIONS = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".w64", ".rf64", ".caf", ".sph", ".nist", ".voc"),
)
"""Endings of sound files that libsndfile reads."""

Recording: TypeAlias = Any
"""A path, the bytes of a file, ``{"bytes", "path"}`` as `datasets` has it undecoded, ``{"array", "sampling_rate"}``
as decoded, or a tuple (array, sampling rate)."""

_FULL = 2**15
_SILENT = 10 ** (-60 / 20) * _FULL
_RUN = 3
_SHARE = 0.001
_LOUDEST = 4.0
"""Above this multiple of full scale, numbers are not samples from -1 to 1 but, say, 16-bit ones as floats."""

_MOST_CHANNELS = 64
_SHORTER = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_STREAMED = 2**31 - 2**16
"""Sizes from here on stand for "not known": programs that write to a pipe leave them in the header."""

_SLACK = 64
"""Bytes: some programs count the header of a file as samples."""

_MP3_SLACK = 2 * 1152
"""Samples: an .mp3 that does not say its length has it counted from its frames, whose last may be cut."""

_UNCLEAR = ("Format not recognised", "File does not exist", "unknown error", "Unspecified internal", "System error")
_PAGE = b"OggS"
_LARGEST_PAGE = 27 + 255 + 255 * 255


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        rate: Samples a second.
        seconds: Length.
        channels: 1 is mono.
    """

    rate: int
    seconds: float
    channels: int


def packed(value: Recording) -> str | dict[str, Any] | None:
    """The value as a path or ``{"bytes", "path"}``, which Arrow can hold; None for an empty one.

    Samples in memory become a file of 32-bit floats.

    Raises:
        ValueError: A value of another sort; the message is the reason alone.
    """
    if isinstance(value, tuple) and len(value) == 2 and np.ndim(value[0]):
        value = {"array": value[0], "sampling_rate": value[1]}
    if isinstance(value, dict) and value.get("array") is not None:
        return {"bytes": _wav(value["array"], value.get("sampling_rate")), "path": value.get("path")}
    known = value is None or isinstance(value, str | Path | float | bytes | bytearray)
    if known or (isinstance(value, dict) and {"bytes", "path", "array"} & set(value)):
        return image_reading.packed(value)
    found = type(value).__name__ + (" without its sampling rate" if isinstance(value, np.ndarray) else "")
    raise ValueError(f'expected a path, the bytes of a sound file or {{"array", "sampling_rate"}}, found {found}.')


def _wav(array: Any, rate: Any) -> bytes:
    """A .wav file of 32-bit floats."""
    if rate is None or int(rate) != rate or rate <= 0:
        raise ValueError(f"expected a sampling rate in Hz beside the array, found {rate!r}.")
    return wav(_floats(np.asarray(array)), int(rate))


def wav(samples: NDArray[Any], rate: int) -> bytes:
    """The content of a .wav file; unlike libsndfile's, it has no time in it, so equal samples give equal bytes."""
    from scipy.io import wavfile

    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    """An array (n,), (n, channels) or (channels, n) of floats from -1 to 1 or of signed integers: (n[, channels])."""
    if (
        array.ndim not in (1, 2)
        or 0 in array.shape
        or min(array.shape[-2:] if array.ndim == 2 else (1,)) > _MOST_CHANNELS
    ):
        raise ValueError(f"expected an array (samples,) or (samples, channels), found shape {array.shape}.")
    if array.ndim == 2 and array.shape[0] < array.shape[1]:
        array = array.T
    if array.dtype.kind == "f":
        loud = _too_loud(array)
        if loud:
            raise ValueError(f"{loud}.")
        return array.astype(np.float32)
    if array.dtype in (np.int16, np.int32):
        return (array / float(-np.iinfo(array.dtype).min)).astype(np.float32)
    raise ValueError(f"expected samples as floats from -1 to 1 or 16-bit integers, found {array.dtype}; convert them.")


def _too_loud(values: NDArray[Any]) -> str:
    peak = float(np.abs(values).max())
    if not peak > _LOUDEST:
        return ""
    return f"expected samples from -1 to 1, found values up to {peak:g}: divide them by the full scale, such as 32768"


def header(value: Recording) -> Header:
    """Rate, length and channels, without decoding; arguments and errors as for `samples`."""
    with _opened(value) as file:
        return Header(file.samplerate, file.frames / file.samplerate, file.channels)


def samples(value: Recording, rate: int) -> NDArray[np.int16]:
    """Decodes, averages the channels and resamples; a 16-bit mono file of this rate comes back as it is.

    Args:
        value: See `Recording`.
        rate: Samples a second of the result.

    Returns:
        Shape (samples,); what is beyond full scale is clipped.

    Raises:
        DataError: A missing, damaged, empty or unusual recording; names its file.
    """
    with _opened(value) as file:
        found = _decoded(file, value)
        given = file.samplerate
    mono = found[:, 0] if found.shape[1] == 1 else found.mean(axis=1)
    if given != rate:
        mono = soxr.resample(mono, given, rate, quality="HQ")
    if not len(mono):
        raise DataError(f"The recording {place_of(value)} is shorter than a sample of {rate} Hz; replace or remove it.")
    whole: NDArray[np.int16] = np.rint(mono * np.float32(_FULL)).clip(-_FULL, _FULL - 1).astype(np.int16)
    return whole


@contextmanager
def _opened(value: Recording) -> Iterator[soundfile.SoundFile]:
    content = _content(value)
    if isinstance(content, str) and not _exists(content):
        raise DataError(f"There is no recording {place_of(value)}; check the path.")
    try:
        file = soundfile.SoundFile(io.BytesIO(content) if isinstance(content, bytes) else content)
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError) as error:
        reason = _reason(error, "it is no sound file of a known format, or its beginning is damaged")
        raise DataError(
            f"Cannot read the recording {place_of(value)} ({reason}); convert it to .wav or .flac, or remove it."
        ) from error
    with file:
        yield file


def _exists(path: str) -> bool:
    """Whether there is such a file; a text that is too long or odd for a file name is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _content(value: Recording) -> str | bytes:
    """The path, or the bytes of the file."""
    if not isinstance(value, str | Path | bytes):
        try:
            value = packed(value)
        except ValueError as bad:
            raise DataError(f"Cannot read the recording {place_of(value)}: {bad}") from bad
    if isinstance(value, dict):
        return bytes(value["bytes"])
    if value is None:
        raise DataError("A recording is empty; give a path or samples.")
    return value if isinstance(value, bytes) else str(value)


def _reason(error: BaseException, unclear: str) -> str:
    text = str(getattr(error, "error_string", error)).removeprefix("Error : ").strip().rstrip(".")
    return unclear if not text or any(part in text for part in _UNCLEAR) else text


def _decoded(file: soundfile.SoundFile, value: Recording) -> NDArray[np.float32]:
    """All samples, shape (samples, channels), from -1 to 1."""
    try:
        found: NDArray[np.float32] = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise _unreadable(value, _reason(error, "its content is damaged")) from error
    if not len(found) and not file.frames:
        raise DataError(f"The recording {place_of(value)} has no samples; replace or remove it.")
    missing = _missing(file, len(found), value)
    if missing:
        raise _unreadable(value, missing)
    if not np.isfinite(found).all():
        raise _unreadable(value, "some of its samples are NaN or infinite")
    loud = _too_loud(found)
    if loud:
        raise _unreadable(value, loud)
    return found


def _unreadable(value: Recording, reason: str) -> DataError:
    return DataError(f"Cannot read the recording {place_of(value)} ({reason}); replace or remove it.")


def _missing(file: soundfile.SoundFile, num_read: int, value: Recording) -> str:
    """What the file lacks of what its header says; libsndfile trims some lengths to what is there, and logs that."""
    if num_read + (_MP3_SLACK if file.format == "MP3" else 0) < file.frames:
        return f"it ends after {num_read:,} of {file.frames:,} samples"
    for said, there in (map(int, pair) for pair in _SHORTER.findall(file.extra_info)):
        if there + _SLACK < said < _STREAMED:
            return f"it ends after {there:,} of {said:,} bytes"
    return "it ends in the middle of a page" if file.format == "OGG" and _cut(_content(value)) else ""


def _cut(content: str | bytes) -> bool:
    """Whether an Ogg file ends before its last page does."""
    if isinstance(content, str):
        with Path(content).open("rb") as stream:
            content = _tail(stream)
    at = content.rfind(_PAGE)
    if at < 0 or len(content) < at + 27:
        return True
    sizes = content[at + 27 : at + 27 + content[at + 26]]
    return len(content) < at + 27 + content[at + 26] + sum(sizes)


def _tail(stream: BinaryIO) -> bytes:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 2 * _LARGEST_PAGE))
    return stream.read()


def faults(samples: NDArray[np.int16]) -> list[str]:
    """What can be heard to be wrong with a recording.

    Args:
        samples: 16-bit samples, shape (samples,), at the rate of the recording: resampling hides clipping.

    Returns:
        Of ``silent`` (no sample above -60 dB of full scale) and ``clipped`` (three samples in a row at full scale, or
        more than 0.1 % of all, at least three).
    """
    if not len(samples):
        return []
    if max(int(samples.max()), -int(samples.min())) <= _SILENT:
        return ["silent"]
    full = (samples >= _FULL - 1) | (samples <= 1 - _FULL)
    num = int(full.sum())
    runs = full[:-2] & full[1:-1] & full[2:]
    return ["clipped"] if num >= _RUN and (runs.any() or num > _SHARE * len(samples)) else []
