"""Reading CPU registers, system registers included, through QEMU's gdb stub.

Trust label: TOOL. Source: GDB manual, appendix E (Remote Serial Protocol). The only way to ask an emulated
CPU for VTTBR_EL2 or TTBR0_EL2 without the help of the software that runs on it.
"""

from __future__ import annotations

import re
from functools import cached_property
from xml.etree import ElementTree

from bulkhead.errors import MachineError
from bulkhead.machine.channel import Channel
from bulkhead.machine.qmp import Wait

PACKET = re.compile(rb"\$([^#]*)#[0-9a-f]{2}")
SECONDS = 20.0


class GdbStub:
    """A client of the stub, for a stopped machine (any byte from gdb would stop a running one)."""

    def __init__(self, channel: Channel, wait: Wait) -> None:
        self._channel = channel
        self._wait = wait
        self._buffer = bytearray()
        channel.deliver_to(self._buffer.extend)

    def register(self, name: str, cpu: int = 0) -> int:
        """Value of a register of one CPU, named as in the Arm ARM (`VTTBR_EL2`, `pc`, `x0`)."""
        numbers = self._registers
        if name not in numbers:
            raise MachineError(f"QEMU's CPU has no register {name}", where="gdb stub")
        if self._ask(f"Hg{cpu + 1:x}") != "OK":
            raise MachineError(f"QEMU has no CPU {cpu}", where="gdb stub")
        answer = self._ask(f"p{numbers[name]:x}")
        if not re.fullmatch(r"([0-9a-f]{2})+", answer):
            raise MachineError(f"reading {name} was refused: {answer}", where="gdb stub")
        return int.from_bytes(bytes.fromhex(answer), "little")

    def system_registers(self) -> list[str]:
        """Names of all system registers that this CPU model has."""
        feature = ElementTree.fromstring(self._document("system-registers.xml"))
        return [register.get("name", "") for register in feature.iter("reg")]

    def has(self, name: str) -> bool:
        """Whether the CPU has a register of this name."""
        return name in self._registers

    @cached_property
    def _registers(self) -> dict[str, int]:
        """Register numbers by name, from the target description and the files that it includes."""
        numbers: dict[str, int] = {}
        following = 0
        root = ElementTree.fromstring(self._document("target.xml").replace("xi:include", "include"))
        names = [element.get("href", "") for element in root.iter("include")]
        for name in names:
            feature = ElementTree.fromstring(self._document(name))
            for register in feature.iter("reg"):
                following = int(register.get("regnum", following))
                numbers[register.get("name", "")] = following
                following += 1
        return numbers

    def _document(self, name: str) -> str:
        text = ""
        while True:
            answer = self._ask(f"qXfer:features:read:{name}:{len(text):x},7fc")
            text += answer[1:]
            if answer[:1] != "m":
                return text

    def _ask(self, command: str) -> str:
        self._buffer.clear()
        checksum = sum(command.encode()) & 0xFF
        self._channel.send(f"${command}#{checksum:02x}".encode())
        self._wait(
            lambda: PACKET.search(self._buffer) is not None, SECONDS, f"the gdb stub's answer to {command}"
        )
        match = PACKET.search(self._buffer)
        assert match is not None
        self._channel.send(b"+")
        return _unescape(match[1]).decode("latin-1")


def _unescape(data: bytes) -> bytes:
    """Undo the protocol's escapes: `}` and the byte xor 0x20; run lengths (`*`) are not used by QEMU here."""
    return re.sub(rb"\}(.)", lambda match: bytes([match[1][0] ^ 0x20]), data, flags=re.DOTALL)
