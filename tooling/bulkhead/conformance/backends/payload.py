"""What the payload program does at the other end of a link, as a backend's operations. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bulkhead.conformance.backends.backend import REGISTERS, HostFault
from bulkhead.machine.errors import LinkError
from bulkhead.machine.link import Link

FAULT, WRONG_STATE = 1, 3
"""Codes of refusals: a fault of the access; not in this state (link protocol)."""
CHUNK = 4096
"""Most bytes of one access over the link."""
SURVEY = 8 * 4096
"""Most addresses of one survey."""
CALLS = 16
"""Most calls of one request."""


class PayloadBackend:
    """Calls and accesses by the payload; `_link` leads to it."""

    _link: Link

    @property
    def link(self) -> Link:
        """The link to the payload."""
        return self._link

    def request(self, operation: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request over the link. LinkError if refused, MachineError if there is no answer."""
        return self._link.call(operation, arguments)

    def start_cpus(self, cpus: int) -> None:
        """Turns on CPUs 1 and up that are off."""
        for cpu in range(1, cpus):
            try:
                self.request("cpu_on", {"cpu": cpu})
            except LinkError as error:
                if error.code != WRONG_STATE:
                    raise

    def call(self, cpu: int, registers: Sequence[int]) -> tuple[int, ...]:
        """See Backend. MachineError if the engine panics or does not answer."""
        regs = self.request("call", {"cpu": cpu, "regs": list(registers)})["regs"]
        return tuple(int(value) for value in regs)

    def calls(self, cpu: int, exit_class: int, calls: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        """Calls one after the other, at most CALLS, each with x0 to x17, as long as they answer SUCCESS and this exit
        class; the registers of those that were made.
        """
        sent = [value for registers in calls for value in registers]
        got = self.request("calls", {"cpu": cpu, "class": exit_class, "regs": sent})["regs"]
        return [tuple(got[start : start + REGISTERS]) for start in range(0, len(got), REGISTERS)]

    def memory(self, address: int, length: int) -> bytes:
        """See Backend: loads by the payload on CPU 0."""
        data = b""
        while len(data) < length:
            here = address + len(data)
            size = min(CHUNK, length - len(data))
            data += self._access("read", here, {"address": here, "length": size})
        return data

    def write(self, address: int, data: bytes) -> None:
        """See Backend: stores by the payload on CPU 0."""
        for start in range(0, len(data), CHUNK):
            here = address + start
            self._access("write", here, {"address": here, "data": data[start : start + CHUNK]})

    def survey(self, address: int, step: int, count: int) -> list[bool]:
        """See Backend: loads by the payload on CPU 0."""
        reached: list[bool] = []
        while len(reached) < count:
            size = min(SURVEY, count - len(reached))
            place = {"address": address + len(reached) * step, "step": step, "count": size}
            bits = int.from_bytes(self.request("survey", place)["reached"], "little")
            reached += [bool(bits >> n & 1) for n in range(size)]
        return reached

    def execute(self, address: int) -> None:
        """A call of the code at physical `address` by the payload on CPU 0. Raises HostFault."""
        self._access("execute", address, {"address": address})

    def begin(self, cpu: int, address: int) -> None:
        """Lets a CPU other than 0 call the code at physical `address`, without waiting for its end."""
        self.request("begin", {"cpu": cpu, "address": address})

    def finish(self, cpu: int) -> None:
        """Waits for the end of the program that `begin` started. Raises HostFault if a fault ended it."""
        self._access("finish", 0, {"cpu": cpu})

    def _access(self, operation: str, address: int, arguments: dict[str, object]) -> bytes:
        try:
            return bytes(self.request(operation, arguments).get("data", b""))
        except LinkError as error:
            if error.code == FAULT:
                raise HostFault(address, int(error.fields["esr"])) from error
            raise
