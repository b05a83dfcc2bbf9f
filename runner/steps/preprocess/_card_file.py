"""The JSON of a character card, out of a PNG (a text chunk), a .charx archive (card.json) or a JSON file.

Nothing is unpacked to disk, and what is packed may not grow beyond a limit.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from runner.errors import DataError
from runner.steps.preprocess._reading import Source

PNG = b"\x89PNG\r\n\x1a\n"
MOST = 1 << 24  # bytes of one card's text
CARD = "card.json"
PICTURES = {b"\xff\xd8\xff": "a JPEG", b"RIFF": "a WebP", b"GIF8": "a GIF"}
AGAIN = "Export the card as PNG or JSON, or move the file out of the folder."


def load(source: Source) -> dict[str, Any]:
    """The card's JSON as it stands. Raises DataError where there is none, or it is damaged."""
    head = _head(source.path)
    if head.startswith(PNG):
        raw, where = _from_png(source), "in the picture"
    elif head.startswith(b"PK"):
        raw, where = _from_zip(source), f"in {CARD}"
    else:
        _refuse_pictures(source, head)
        if source.path.stat().st_size > MOST:
            raise DataError(
                f"{source.shown}: {source.path.stat().st_size} bytes: no character card is so long. {AGAIN}"
            )
        raw, where = source.path.read_bytes(), "in the file"
    try:
        card = json.loads(raw.decode("utf-8-sig"))
        json.dumps(card, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.shown}: what is {where} is not JSON ({error}). {AGAIN}") from error
    if not isinstance(card, dict):
        raise DataError(f"{source.shown}: a JSON {type(card).__name__} {where}, no character card. {AGAIN}")
    return card


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(8)


def _refuse_pictures(source: Source, head: bytes) -> None:
    found = next((name for magic, name in PICTURES.items() if head.startswith(magic)), None)
    if found:
        raise DataError(f"{source.shown}: {found} picture; a card's text lies in a PNG. {AGAIN}")


def _from_png(source: Source) -> bytes:
    """The text chunk named ccv3 (the newer card) or chara, decoded."""
    found: dict[str, bytes] = {}
    for kind, body in _chunks(source):
        keyword, value = _text_chunk(source, kind, body)
        if keyword in ("ccv3", "chara"):
            found.setdefault(keyword, value)
    held = found.get("ccv3", found.get("chara"))
    if held is None:
        raise DataError(f"{source.shown}: a picture without a character card in it. {AGAIN}")
    if held.lstrip().startswith(b"{"):
        return held
    try:
        return base64.b64decode(held, validate=False)
    except binascii.Error as error:
        raise DataError(f"{source.shown}: the card in the picture is damaged ({error}). {AGAIN}") from error


def _chunks(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """The text chunks of a PNG; the picture itself is passed over unread."""
    size = source.path.stat().st_size
    with source.path.open("rb") as stream:
        stream.seek(len(PNG))
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if stream.tell() + length + 4 > size:
                raise DataError(f"{source.shown}: the picture is cut off. {AGAIN}")
            if kind == b"IEND":
                return
            if kind not in (b"tEXt", b"zTXt", b"iTXt"):
                stream.seek(length + 4, 1)
                continue
            if length > MOST:
                raise DataError(f"{source.shown}: a text of {length} bytes in the picture: no card is so long. {AGAIN}")
            yield kind, stream.read(length)
            stream.seek(4, 1)


def _text_chunk(source: Source, kind: bytes, body: bytes) -> tuple[str, bytes]:
    """A chunk's keyword in small letters and its text, unpacked where it is packed."""
    keyword, _, value = body.partition(b"\0")
    name = keyword.decode("latin-1").lower()
    if name not in ("ccv3", "chara") or kind == b"tEXt":
        return name, value
    packed = kind == b"zTXt" or value[:1] == b"\1"
    # zTXt: the method; iTXt: flag and method, then language and translated keyword
    value = value[1:] if kind == b"zTXt" else value[2:].split(b"\0", 2)[-1]
    if not packed:
        return name, value
    unpacker = zlib.decompressobj()
    try:
        made = unpacker.decompress(value, MOST)
    except zlib.error as error:
        raise DataError(f"{source.shown}: the card in the picture is damaged ({error}). {AGAIN}") from error
    if unpacker.unconsumed_tail:
        raise DataError(f"{source.shown}: the card in the picture unpacks to more than {MOST} bytes. {AGAIN}")
    return name, made


def _from_zip(source: Source) -> bytes:
    try:
        with ZipFile(source.path) as archive, archive.open(CARD) as stream:
            raw = stream.read(MOST + 1)
    except KeyError as error:
        raise DataError(f"{source.shown}: an archive without {CARD}, so no .charx card. {AGAIN}") from error
    except (BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
        raise DataError(f"{source.shown}: the archive is damaged or locked ({error}). {AGAIN}") from error
    if len(raw) > MOST:
        raise DataError(f"{source.shown}: {CARD} unpacks to more than {MOST} bytes. {AGAIN}")
    return raw
