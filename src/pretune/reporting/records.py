"""Records as small pieces of the page: text, thumbnails, players, the start of a sequence; bounded in size."""

from __future__ import annotations

__all__ = ["ROOM", "Piece", "Room", "embedded", "piece_of"]

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pretune import audio_reading, image_reading
from pretune.errors import DataError
from pretune.media_records import path_of
from pretune.modalities.base import Modality
from pretune.page_figures import data_address
from pretune.reporting.section import duration

ROOM = 6_000_000
"""Characters of pictures and sound that a page may hold."""

_LONGEST_TEXT, _LONGEST_SEQUENCE, _LONGEST_SOUND = 600, 60, 6.0
_SIDE, _RATE = 132, 8000


class Room:
    """What a page still has room for.

    Args:
        most: Characters of ``data:`` addresses.
    """

    def __init__(self, most: int = ROOM) -> None:
        self.left = most
        self.left_out = 0

    def take(self, content: bytes, mime: str) -> str | None:
        """The content as a ``data:`` address; None where it would be too much."""
        address = data_address(content, mime)
        if len(address) > self.left:
            self.left_out += 1
            return None
        self.left -= len(address)
        return address


@dataclass(frozen=True)
class Piece:
    """How a record is shown.

    Attributes:
        kind: ``text``, ``image``, ``sound`` or ``sequence``.
        text: The text, the letters, or the name of a file.
        address: Of the picture or sound; None where there was no room.
    """

    kind: str
    text: str
    address: str | None = None


def piece_of(record: Mapping[str, Any], modality: Modality, room: Room) -> Piece:
    """A record in the form that suits its modality."""
    if "image" in record:
        return _image(record, room)
    if "audio" in record:
        return _sound(record, room)
    if isinstance(record.get("sequence"), str):
        return _sequence(record)
    return Piece("text", shortened_text(_text(record)))


def shortened_text(text: str, longest: int = _LONGEST_TEXT) -> str:
    """At most `longest` characters, and an ellipsis where there were more."""
    return text if len(text) <= longest else text[:longest].rstrip() + " …"


def _text(record: Mapping[str, Any]) -> str:
    tokens = record.get("tokens")
    if tokens is not None:
        return tokens if isinstance(tokens, str) else " ".join(map(str, tokens))
    return " / ".join(str(record[k]) for k in ("text", "text_pair") if record.get(k))


def _sequence(record: Mapping[str, Any]) -> Piece:
    letters = record["sequence"].strip()
    name = f"{record['id']}: " if record.get("id") else ""
    more = f" … ({len(letters):,} letters)" if len(letters) > _LONGEST_SEQUENCE else f" ({len(letters)} letters)"
    return Piece("sequence", f"{name}{letters[:_LONGEST_SEQUENCE]}{more}")


def _name(record: Mapping[str, Any], role: str) -> str:
    path = path_of(record, role).get(role)
    return Path(path).name if path else f"row {record['_row']}" if record.get("_row") else role


def _image(record: Mapping[str, Any], room: Room) -> Piece:
    name = _name(record, "image")
    try:
        picture = image_reading.picture(record["image"])
    except DataError:
        return Piece("image", f"{name} (no longer there)")
    return Piece("image", name, embedded(picture, room, _SIDE))


def embedded(picture: Image.Image, room: Room, side: int) -> str | None:
    """A picture of at most `side` pixels as an address: JPEG, or PNG where it is so small that its pixels count."""
    small = max(picture.size) <= 64
    if not small:
        picture = picture.copy()
        picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.convert("RGB").save(file, **({"format": "png"} if small else {"format": "jpeg", "quality": 82}))
    return room.take(file.getvalue(), "image/png" if small else "image/jpeg")


def _sound(record: Mapping[str, Any], room: Room) -> Piece:
    name = _name(record, "audio")
    try:
        seconds = audio_reading.header(record["audio"]).seconds
        name = f"{name}, {seconds:.1f} s" if seconds < _LONGEST_SOUND else f"{name}, {duration(seconds)}"
        if seconds > _LONGEST_SOUND:
            return Piece("sound", name)
        wave = audio_reading.wav(audio_reading.samples(record["audio"], _RATE), _RATE)
    except DataError:
        return Piece("sound", f"{name} (no longer there)")
    return Piece("sound", name, room.take(wave, "audio/wav"))
