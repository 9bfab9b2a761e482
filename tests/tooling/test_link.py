"""The management link: frames survive and damage does not pass; requests, refusals, events and silence."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkhead.errors import MachineTimeout
from bulkhead.machine.channel import Channel, Loop
from bulkhead.machine.errors import HostProgramPanic, LinkError
from bulkhead.machine.framing import MAX_BODY, Deframer, FrameError, decode_frame, encode_frame
from bulkhead.machine.link import Link

MESSAGES = st.lists(
    st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=600), st.text(max_size=20)), max_size=5
)


@given(MESSAGES)
def test_frame_round_trip(message: list[Any]) -> None:
    wire = encode_frame(message)
    assert wire[-1] == 0
    assert 0 not in wire[:-1]
    assert decode_frame(wire[:-1]) == message


@given(MESSAGES, st.data())
def test_one_changed_bit_never_passes(message: list[Any], data: st.DataObject) -> None:
    wire = bytearray(encode_frame(message)[:-1])
    bit = data.draw(st.integers(0, 8 * len(wire) - 1))
    wire[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError):
        decode_frame(bytes(wire))


@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_cuts_of_the_stream_do_not_matter(messages: list[list[Any]], cuts: list[int]) -> None:
    stream = b"garbage\0" + b"".join(encode_frame(message) for message in messages)
    deframer, got, position, turn = Deframer(), [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        got += deframer.feed(stream[position : position + step])
        position, turn = position + step, turn + 1
    assert got == messages
    assert deframer.bad_frames == 1


def test_a_body_that_is_too_long_is_refused() -> None:
    with pytest.raises(FrameError, match="carries"):
        encode_frame([bytes(MAX_BODY)])


def test_known_frame() -> None:
    # CBOR [1,"ping",{}] = 83 01 64 70 69 6e 67 a0; its CRC-32 as zlib and every other CRC-32/ISO-HDLC computes it.
    body = bytes.fromhex("83016470696e67a0")
    wire = encode_frame([1, "ping", {}])
    assert wire[0] == len(body) + 4 + 1  # no zero inside: one COBS block
    assert wire[1 : 1 + len(body)] == body


class Peer:
    """The other end: answers each request with what `answer` makes of it."""

    def __init__(self, answer: Callable[[Any], list[bytes]]) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.loop = Loop()
        self.answer = answer
        self.deframer = Deframer()
        self.link = Link(Channel("link", ours, self.loop), self.wait)

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise MachineTimeout(f"waited for {what}")
            try:
                for request in self.deframer.feed(self.theirs.recv(65536)):
                    for wire in self.answer(request):
                        self.theirs.sendall(wire)
            except BlockingIOError:
                pass
            self.loop.step(0.01)


def test_request_and_reply() -> None:
    peer = Peer(lambda request: [encode_frame([request[0], 0, {"echo": request[2]}])])
    assert peer.link.call("anything", {"value": 7}) == {"echo": {"value": 7}}


def test_refusal_carries_code_text_and_fields() -> None:
    peer = Peer(lambda request: [encode_frame([request[0], 1, {"error": "fault", "esr": 0x96000046}])])
    with pytest.raises(LinkError, match=r"fault .*esr 0x96000046") as caught:
        peer.link.call("read")
    assert (caught.value.code, caught.value.text, caught.value.fields) == (1, "fault", {"esr": 0x96000046})


def test_silence_is_a_timeout_that_names_the_request() -> None:
    peer = Peer(lambda request: [])
    with pytest.raises(MachineTimeout, match="answer to 'ping'"):
        peer.link.call("ping", timeout=0.1)


def test_late_reply_is_not_taken_for_the_next_one() -> None:
    late: list[bytes] = []

    def answer(request: Any) -> list[bytes]:
        if not late:
            late.append(encode_frame([request[0], 0, {"which": "first"}]))
            return []
        return [late[0], encode_frame([request[0], 0, {"which": "second"}])]

    peer = Peer(answer)
    with pytest.raises(MachineTimeout):
        peer.link.call("slow", timeout=0.1)
    assert peer.link.call("quick") == {"which": "second"}


def test_events_wait_for_whoever_asks_or_go_to_a_handler() -> None:
    events = [encode_frame([0, "console", {"n": n}]) for n in range(3)]
    peer = Peer(lambda request: [*events, encode_frame([request[0], 0, {}])])
    peer.link.call("go")
    assert peer.link.event("console") == {"n": 0}
    seen: list[Any] = []
    peer.link.on("console", seen.append)
    assert seen == [{"n": 1}, {"n": 2}]
    peer.link.call("go")
    assert len(seen) == 5


def test_what_arrives_before_there_is_a_link_is_not_lost() -> None:
    ours, theirs = socket.socketpair()
    loop = Loop()
    channel = Channel("link", ours, loop)
    wire = encode_frame([0, "ready", {}])
    theirs.sendall(wire[:5])
    loop.step(1)
    theirs.sendall(wire[5:])
    loop.step(1)

    def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
        assert condition(), what

    assert Link(channel, wait).event("ready") == {}


def test_a_panic_of_the_other_end_ends_every_wait() -> None:
    peer = Peer(lambda request: [encode_frame([0, "panic", {"text": "cpu 1: overflow"}])])
    with pytest.raises(HostProgramPanic, match="cpu 1: overflow"):
        peer.link.call("go", timeout=5)


def test_damaged_and_senseless_frames_are_counted() -> None:
    peer = Peer(
        lambda request: [b"noise\0", encode_frame({"no": "reply"}), encode_frame([request[0], 0, {}])]
    )
    assert peer.link.call("go") == {}
    assert peer.link.bad_frames == 2
