"""Frames of the management link: COBS(body ‖ CRC-32(body)) ‖ 0x00, body = one CBOR item (RFC 8949).

Trust label: TOOL. COBS (Cheshire and Baker, 1999) keeps 0x00 out of a frame, so that after any garbage the
next zero is a new start; the CRC (IEEE 802.3, little-endian) rejects what was damaged.
"""

from __future__ import annotations

import zlib
from typing import Any

import cbor2
from cobs import cobs

MAX_BODY = 8192
MAX_WIRE = MAX_BODY + 4 + (MAX_BODY + 4) // 254 + 2


class FrameError(ValueError):
    """A frame that is not one: why is in the message."""


def encode_frame(message: Any) -> bytes:
    """Wire bytes of one message, with the closing zero. FrameError if its body exceeds MAX_BODY."""
    return encode_body(cbor2.dumps(message))


def encode_body(body: bytes) -> bytes:
    """Wire bytes of a body, whatever it holds. FrameError if it exceeds MAX_BODY."""
    if len(body) > MAX_BODY:
        raise FrameError(f"a body of {len(body)} bytes; the link carries {MAX_BODY}")
    encoded: bytes = cobs.encode(body + zlib.crc32(body).to_bytes(4, "little"))
    return encoded + b"\0"


def decode_frame(wire: bytes) -> Any:
    """The message of one frame without its closing zero. FrameError if it is damaged in any way."""
    try:
        plain: bytes = cobs.decode(wire)
    except cobs.DecodeError as error:
        raise FrameError(f"not COBS: {error}") from error
    if not 4 < len(plain) <= MAX_BODY + 4:
        raise FrameError(f"{len(plain)} bytes")
    body, check = plain[:-4], int.from_bytes(plain[-4:], "little")
    if zlib.crc32(body) != check:
        raise FrameError("wrong CRC")
    try:
        return cbor2.loads(body)
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise FrameError(f"not CBOR: {error}") from error


class Deframer:
    """Cuts a byte stream into messages; damaged frames are dropped and counted in `bad_frames`."""

    def __init__(self) -> None:
        self.bad_frames = 0
        self._buffer = bytearray()

    @property
    def unfinished(self) -> int:
        """Bytes received of a frame whose end is missing."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Any]:
        """The messages completed by `data`, in order."""
        self._buffer += data
        messages = []
        *frames, rest = bytes(self._buffer).split(b"\0")
        self._buffer = bytearray(rest[-MAX_WIRE:])
        for frame in frames:
            if not frame:
                continue
            try:
                messages.append(decode_frame(frame))
            except FrameError:
                self.bad_frames += 1
        return messages
