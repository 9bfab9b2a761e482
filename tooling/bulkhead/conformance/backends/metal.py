"""The metal backend: a board, or anything else, on which the payload answers over a line of bytes.

Trust label: TOOL. There is no window into RAM: what can be read is what the host may read. A call is sent once and
never again, because nobody knows whether a call without an answer was carried out: such a test fails, and the
machine is started anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fdt

from bulkhead import abi
from bulkhead.conformance.backends.backend import BLOCK, PAGE, REGISTERS, Layout, NeedsRawMemory
from bulkhead.conformance.backends.line import Device
from bulkhead.conformance.backends.payload import PayloadBackend
from bulkhead.errors import MachineError, MachineTimeout
from bulkhead.machine.boot_info import BOOT_INFO, MAGIC, BootInfo
from bulkhead.machine.channel import Channel
from bulkhead.machine.link import Link, wait_ready

SYSTEM_RESET = 0x8400_0009
"""PSCI (Arm DEN 0022) 5.10."""
GIB = 1 << 30
"""The engine has records for whole GiBs from the first byte of RAM on (`engine/image/src/memory.rs`)."""


@dataclass(frozen=True)
class Patience:
    """Seconds: for the first answer, for any later one, for a ping, and for a boot."""

    attach: float = 20.0
    request: float = 15.0
    ping: float = 2.0
    boot: float = 90.0


class MetalBackend(PayloadBackend):
    """A machine at the end of a line."""

    name = "metal"
    raw_memory = False
    layout: Layout

    def __init__(self, device: Device, patience: Patience | None = None) -> None:
        """Finds the payload on the line and starts the machine anew, whatever it did before. MachineError."""
        self.device = device
        self.patience = patience or Patience()
        self._channel: Channel | None = None
        try:
            self._open()
            self._greet(self.patience.attach)
            self.reset()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        channel = self._channel = self.device.open()
        self._link = Link(channel, self._wait)
        channel.send(b"\0")  # ends whatever half a frame the other end may have

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            if self._channel is None or not self._channel.open:
                raise MachineError(
                    "the serial device is gone", where=self.device.name, hint="is it still plugged in?"
                )
            if time.monotonic() > limit:
                raise MachineTimeout(f"waited {seconds:g} s for {what} in vain", where=self.device.name)
            self.device.loop.step(min(0.25, limit - time.monotonic()))

    def request(self, operation: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """See PayloadBackend. A missing or damaged answer is a MachineError that says which."""
        damaged = self._link.bad_frames
        try:
            return self._link.call(operation, arguments, timeout=self.patience.request)
        except MachineTimeout as error:
            why = self._diagnosis(self._link.bad_frames - damaged)
            raise MachineError(
                f"no answer to '{operation}': {why}", where=self.device.name,
                hint="whether it was carried out is not known, so nothing is concluded from it; the machine is reset",
            ) from error  # fmt: skip

    def _diagnosis(self, damaged: int) -> str:
        """Why an answer is missing. Two pings: the first answer may end up behind half a frame."""
        broken_off = self._link.unfinished
        pong: dict[str, Any] = {}
        for _ in range(2):
            with contextlib.suppress(MachineTimeout):
                pong = pong or self._ping()
        lost = int(pong.get("bad_frames", self._bad_frames)) - self._bad_frames
        self._bad_frames += lost
        words = self.device.explain()
        facts = {
            f"{damaged} damaged frame(s) arrived instead (cut off, or with a wrong CRC)": damaged,
            f"it broke off in the middle of a frame, after {broken_off} bytes": broken_off,
            f"{lost} frame(s) reached the device damaged": lost,
            "the device has stopped answering" + (f"; {words}" if words else ""): not pong,
        }
        return "; ".join(text for text, holds in facts.items() if holds) or "but the device answers a ping"

    def _ping(self) -> dict[str, Any]:
        return self._link.call("ping", timeout=self.patience.ping)

    def _greet(self, seconds: float) -> dict[str, Any]:
        """The payload's answer to a ping, which may still have to boot; MachineError if it is not our payload."""
        limit = time.monotonic() + seconds
        while True:
            try:
                pong = self._ping()
                break
            except MachineTimeout as error:
                if time.monotonic() > limit:
                    words = "; ".join(filter(None, (self._noise(), self.device.explain())))
                    raise MachineTimeout(
                        f"nothing answers within {seconds:g} s" + (f"; {words}" if words else ""),
                        where=self.device.name,
                        hint="is this the management UART, at the right baud rate, and is the machine on with the"
                        " image that has the payload?",
                    ) from error
        check_payload(pong, self.device.name)
        self._bad_frames = int(pong["bad_frames"])
        return pong

    def _noise(self) -> str:
        """What has come that is no answer; empty if nothing."""
        damaged, unfinished = self._link.bad_frames, self._link.unfinished
        if not damaged and not unfinished:
            return ""
        return f"what arrives is not the payload's: {damaged} damaged frames, {unfinished} bytes without an end"

    def reset(self) -> None:
        """See Backend: PSCI SYSTEM_RESET if the payload still answers, else off and on."""
        try:
            self._ping()
            self._link.forget()
            self._link.post("call", {"cpu": 0, "regs": [SYSTEM_RESET, *[0] * (REGISTERS - 1)]})
            wait_ready(self._link, timeout=self.patience.boot)
            pong = self._greet(self.patience.attach)
        except MachineError:
            self._unplug()
            self.device.power_cycle()
            self._open()
            pong = self._greet(self.patience.boot)
        self._learn(pong)

    def _learn(self, pong: dict[str, Any]) -> None:
        """Where things are, as the host is told; every block is touched, so that all are simply the host's."""
        info = BootInfo.decode(self.memory(pong["boot_info"], BOOT_INFO.size))
        if info.magic != MAGIC:
            raise MachineError("the payload was given no boot information", where=self.device.name)
        ram = ram_of(self.memory(*info.device_tree))
        base, end = min(first for first, _ in ram), max(first + size for first, size in ram)
        self.layout = Layout(
            base, -(-(end - base) // GIB) * (GIB // PAGE), info.cpus,
            block_records=0, frame_records=0, host_level2=0, dma_level2=0, host_root=0, vm_records=0,
            split_block=info.split_block[0],
        )  # fmt: skip
        self.whole_blocks = whole_blocks(info)
        self.survey(base, BLOCK, self.layout.blocks)
        self.start_cpus(info.cpus)

    def physical(self, address: int, length: int) -> bytes:
        """See Backend: cannot be done. NeedsRawMemory."""
        raise NeedsRawMemory(self.name, f"read memory of the engine or of a VM ({address:#x})")

    def poke(self, address: int, data: bytes) -> None:
        """See Backend: cannot be done. NeedsRawMemory."""
        raise NeedsRawMemory(self.name, f"change memory behind the engine's back ({address:#x})")

    def hold_lock(self, held: bool) -> None:
        """See Backend: cannot be done. NeedsRawMemory."""
        raise NeedsRawMemory(self.name, "take the engine's lock")

    def close(self) -> None:
        """See Backend."""
        self._unplug()
        self.device.close()

    def _unplug(self) -> None:
        if self._channel is not None:
            self._channel.close()


def check_payload(pong: dict[str, Any], where: str) -> None:
    """MachineError if what answered is not the payload of this release."""
    if not {"payload", "abi", "boot_info", "bad_frames"} <= set(pong):
        raise MachineError(
            "the program on the line is not the payload of this release", where=where,
            hint="write the image of this package that has the payload: inv flash --to DEVICE --payload",
        )  # fmt: skip
    ours, theirs = abi.load().version, int(pong["abi"])
    if ours != theirs:
        raise MachineError(
            f"the payload on the line speaks ABI {version_text(theirs)}, this package {version_text(ours)}",
            where=where,
            hint="flash the image of this package (inv flash --to DEVICE --payload), or install the package of release "
            + version_text(theirs),
        )


def version_text(word: int) -> str:
    """A version word (`abi.version_word`) for people."""
    return f"{word >> 32}.{word >> 16 & 0xFFFF}.{word & 0xFFFF}"


def ram_of(tree: bytes) -> list[tuple[int, int]]:
    """RAM ranges (base, bytes) of a device tree (Devicetree Specification 3.4). MachineError if it has none."""
    root = fdt.parse_dtb(tree).root
    cells = [int(root.get_property(name).value) for name in ("#address-cells", "#size-cells")]
    ranges = []
    for node in root.nodes:
        kind = node.get_property("device_type")
        if kind is None or kind.value != "memory":
            continue
        words = list(node.get_property("reg").data)
        while words:
            base, size = (int.from_bytes(b"".join(words.pop(0).to_bytes(4) for _ in range(n))) for n in cells)
            ranges.append((base, size))
    if not ranges:
        raise MachineError("the device tree names no RAM")
    return ranges


def whole_blocks(info: BootInfo) -> tuple[int, ...]:
    """Blocks of the host that can be given away: none that its program, tree or initial RAM disk is in."""
    used = {
        block
        for base, size in (info.split_block, info.host_image, info.initrd, info.device_tree)
        for block in range(base & -BLOCK, base + size + BOOT_INFO.size if size else base, BLOCK)
    }
    blocks = (block for base, size in info.host_ram for block in range(base, base + size, BLOCK))
    return tuple(block for block in blocks if block not in used)
