"""A line that damages frames, a board that falls silent: every failure says what happened, and nothing is guessed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bulkhead import abi
from bulkhead.conformance.backends.line import PseudoTerminal, SerialDevice
from bulkhead.conformance.backends.metal import MetalBackend, Patience, check_payload
from bulkhead.conformance.sequences import campaign
from bulkhead.errors import CheckFailed, InvalidInput, MachineError
from bulkhead.image.build import build
from bulkhead.image.variant import Edit, build_variant
from bulkhead.provision import qemu
from bulkhead.report import results
from conformance.cable import Cable, Damage, intact

SHORT = Patience(attach=10, request=2, ping=1, boot=60)
FEATURES = [abi.load().call("features").id, *[0] * 17]
NOISE = bytes(range(1, 256)) * 2


class Once:
    """Damages the first frame, and no other; with `for_ever`, nothing passes after that."""

    def __init__(self, damage: Damage, *, keep_end: bool = True, for_ever: bool = False) -> None:
        self._damage, self._keep_end, self._for_ever = damage, keep_end, for_ever
        self._frames = self._ends = 0

    def __call__(self, data: bytes) -> bytes:
        if data == b"\0":
            self._ends += 1
            first = self._ends == 1
        else:
            self._frames += 1
            first = self._frames == 1
        if not first:
            return b"" if self._for_ever else data
        if data == b"\0":
            return data if self._keep_end else b""
        return self._damage(data)


def flipped(frame: bytes) -> bytes:
    """A frame with one bit changed that leaves it free of zeros."""
    at = len(frame) // 2
    return frame[:at] + bytes([frame[at] ^ (1 if frame[at] != 1 else 2)]) + frame[at + 1 :]


def halved(frame: bytes) -> bytes:
    """The first half."""
    return frame[: len(frame) // 2]


def nothing(frame: bytes) -> bytes:
    """Not even that."""
    return b""


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    """One board for all tests here."""
    board = PseudoTerminal(build("pinned", "payload"), str(qemu.ensure()))
    yield Cable(board)
    board.close()


@pytest.fixture
def metal(cable: Cable) -> Iterator[MetalBackend]:
    """The backend on a cable that is still whole."""
    cable.has_power_switch, cable.power_cycles = True, 0
    backend = MetalBackend(cable, SHORT)
    assert cable.power_cycles == 0, "PSCI SYSTEM_RESET is enough for a board that answers"
    assert backend.call(0, FEATURES)[0] == 0
    yield backend
    backend.close()


pytestmark = pytest.mark.qemu
FROM_BOARD = {
    "corrupted answer": (Once(flipped), "1 damaged frame"),
    "truncated answer": (Once(halved), "1 damaged frame"),
    "answer without its end": (Once(halved, keep_end=False), "broke off in the middle of a frame, after"),
    "lost answer": (Once(nothing, keep_end=False), "the device answers a ping"),
}
TO_BOARD = {
    "corrupted request": (Once(flipped), "1 frame.* reached the device damaged"),
    "truncated request": (Once(halved), "1 frame.* reached the device damaged"),
    "request without its end": (Once(halved, keep_end=False), "1 frame.* reached the device damaged"),
}


@pytest.mark.parametrize("what", FROM_BOARD)
def test_a_damaged_answer_is_reported(cable: Cable, metal: MetalBackend, what: str) -> None:
    cable.from_board, message = FROM_BOARD[what]
    with pytest.raises(MachineError, match=message) as caught:
        metal.call(0, FEATURES)
    assert "whether it was carried out is not known" in str(caught.value)
    assert metal.call(0, FEATURES)[0] == 0, "the line has been resynchronised"


@pytest.mark.parametrize("what", TO_BOARD)
def test_a_damaged_request_is_reported(cable: Cable, metal: MetalBackend, what: str) -> None:
    cable.to_board, message = TO_BOARD[what]
    with pytest.raises(MachineError, match=message):
        metal.call(0, FEATURES)
    assert metal.call(0, FEATURES)[0] == 0, "the line has been resynchronised"


def test_noise_between_frames_does_not_matter(cable: Cable, metal: MetalBackend) -> None:
    cable.from_board = Once(lambda frame: NOISE + b"\0\0" + frame)
    assert metal.call(0, FEATURES)[0] == 0
    assert metal.link.bad_frames == 1


@pytest.mark.parametrize("last", [nothing, halved], ids=["before the answer", "in the middle of a frame"])
def test_a_silent_board_is_turned_off_and_on(cable: Cable, metal: MetalBackend, last: Damage) -> None:
    cable.from_board = Once(last, keep_end=False, for_ever=True)
    with pytest.raises(MachineError, match="the device has stopped answering"):
        metal.call(0, FEATURES)
    metal.reset()
    assert cable.power_cycles == 1
    assert metal.call(1, FEATURES)[0] == 0


def test_a_silent_board_without_a_switch_is_an_error(cable: Cable, metal: MetalBackend) -> None:
    cable.has_power_switch = False
    cable.from_board = nothing
    with pytest.raises(MachineError, match="no power switch"):
        metal.reset()
    cable.from_board = intact


def test_a_pulled_plug_is_an_error(cable: Cable, metal: MetalBackend) -> None:
    cable.unplug()
    with pytest.raises(MachineError, match="the serial device is gone"):
        metal.call(0, FEATURES)


def test_a_payload_of_another_version_is_refused() -> None:
    """An image that was really built with another version of the table of calls."""
    constant = "pub const VERSION: u64 = "
    edit = Edit(
        "engine/abi/src/generated.rs", f"{constant}{abi.load().version:#x};", f"{constant}0x7_0000_0003;"
    )
    board = PseudoTerminal(build_variant([edit]), str(qemu.ensure()))
    with pytest.raises(MachineError, match=r"speaks ABI 7\.0\.3, this package \d") as caught:
        MetalBackend(board, SHORT)
    assert "flash the image of this package" in str(caught.value)


def test_a_run_goes_on_behind_a_board_that_stopped(
    cable: Cable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is turned off and on; the run tells of it, and ends as a failure."""

    def falls_silent() -> Damage:
        frames = 0

        def damage(data: bytes) -> bytes:
            nonlocal frames
            frames += data == b"\0"
            return data if frames <= 30 else b""

        return damage

    def starter(*_: object) -> Callable[[], MetalBackend]:
        def start() -> MetalBackend:
            backend = MetalBackend(cable, SHORT)
            cable.from_board = falls_silent()
            return backend

        return start

    monkeypatch.setattr(campaign, "starter", starter)
    monkeypatch.setenv(results.PLACE, str(tmp_path))
    cable.power_cycles, cable.has_power_switch = 0, True
    findings = campaign.on_metal(40, seed=1)
    assert (len(findings.lost), cable.power_cycles) == (1, 1)
    assert "the device has stopped answering" in findings.lost[0]
    assert findings.calls >= 40
    with pytest.raises(CheckFailed, match="machine 0, step"):
        campaign.conclude(findings, 40, 1.0)


def test_a_run_on_what_is_no_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(results.PLACE, str(tmp_path))
    with pytest.raises(InvalidInput, match="no backend 'moon'"):
        campaign.main("moon")
    with pytest.raises(MachineError, match="cannot be opened"):
        campaign.main("metal", serial="/dev/no-such-port")


def test_another_program_is_refused() -> None:
    with pytest.raises(MachineError, match="not the payload of this release"):
        check_payload({"bad_frames": 0}, "somewhere")


@contextmanager
def on_its_own(board: PseudoTerminal) -> Iterator[None]:
    """The board runs without any help of the backend: somebody else reads its console."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            board.loop.step(0.05)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


def test_a_port_by_its_path_and_for_one_session_only(cable: Cable) -> None:
    with on_its_own(cable.board):
        backend = MetalBackend(SerialDevice(f"{cable.board.path}:115200"), SHORT)
        assert backend.call(1, FEATURES)[0] == 0
        with pytest.raises(MachineError, match="cannot be opened"):
            MetalBackend(SerialDevice(cable.board.path), SHORT)
        assert backend.call(0, FEATURES)[0] == 0
        backend.close()


def test_a_port_where_nobody_answers() -> None:
    ours, theirs = os.openpty()
    with pytest.raises(MachineError, match="nothing answers within 1 s") as caught:
        MetalBackend(SerialDevice(os.ttyname(theirs)), Patience(attach=1, ping=0.2))
    assert "baud rate" in str(caught.value)
    os.close(ours)
    os.close(theirs)


def test_a_port_where_something_else_talks() -> None:
    ours, theirs = os.openpty()
    talk = threading.Timer(0.3, os.write, (ours, b"login: \r\n\0\x07\0login:"))  # what came before is not looked at
    talk.start()
    with pytest.raises(MachineError, match="nothing answers within 1 s; what arrives is not the payload's: ") as caught:
        MetalBackend(SerialDevice(os.ttyname(theirs)), Patience(attach=1, ping=0.2))
    talk.join()
    assert "baud rate" in str(caught.value)
    os.close(ours)
    os.close(theirs)


def test_a_port_that_is_not_there() -> None:
    with pytest.raises(MachineError, match="cannot be opened") as caught:
        MetalBackend(SerialDevice("/dev/no-such-port"))
    assert "serial ports here:" in str(caught.value)


def test_a_file_is_no_port(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(MachineError, match="cannot be opened"):
        MetalBackend(SerialDevice(str(path)))


@pytest.mark.parametrize("rate", ["fast", "0", "-1", ""])
def test_a_rate_that_is_none(rate: str) -> None:
    with pytest.raises(InvalidInput, match="no baud rate"):
        SerialDevice(f"/dev/ttyUSB0:{rate}")


def test_the_command_that_turns_a_board_off_and_on_may_fail() -> None:
    with pytest.raises(MachineError, match="failed"):
        SerialDevice("/dev/ttyUSB0", power="exit 3").power_cycle()
    with pytest.raises(MachineError, match="--bulkhead-power"):
        SerialDevice("/dev/ttyUSB0").power_cycle()
