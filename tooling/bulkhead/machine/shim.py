"""Typed client of the hypervisor's management protocol.

Trust label: TOOL. What the hypervisor says is a claim by an untrusted program: whoever needs the truth reads
RAM (`bulkhead.inspect`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bulkhead.machine.errors import LinkError
from bulkhead.machine.guest import GuestPlan
from bulkhead.machine.link import Link

REFUSED_STATE = 3  # code of a refusal that another moment may not bring


class ExitReason(StrEnum):
    """Why a VM ended."""

    OFF = "off"
    RESET = "reset"
    DIED = "died"
    ERROR = "error"


@dataclass(frozen=True)
class Identity:
    """Answer to `ping`: ABI version, CPUs, free 4 KiB frames, names in the image store."""

    version: str
    abi: int
    cpus: int
    free_frames: int
    store: tuple[str, ...]


@dataclass(frozen=True)
class StartedVm:
    """A VM that runs: its slot and its 32-byte launch measurement."""

    vm: int
    measurement: bytes


@dataclass(frozen=True)
class VmExit:
    """A VM that ended by itself."""

    vm: int
    reason: ExitReason
    detail: str


@dataclass(frozen=True)
class Destroyed:
    """What the hypervisor says of a destroyed VM: frames that came back, and whether all were zero."""

    frames: int
    scrubbed: bool


@dataclass(frozen=True)
class Stats:
    """Counters: calls and exits by name, pages moved, boot stages in ticks of `cntfrq` hertz."""

    calls: dict[str, int]
    exits: dict[str, int]
    pages_mapped: int
    pages_reclaimed: int
    free_frames: int
    bad_frames: int
    stages: dict[str, int]
    cntfrq: int


@dataclass(frozen=True)
class ProbeResult:
    """Whether an access by the hypervisor faulted, and what it read if it did not."""

    faulted: bool
    value: int


@dataclass(frozen=True)
class VmState:
    """One VM slot in use."""

    vm: int
    state: str
    vcpus: int


@dataclass
class Shim:
    """The hypervisor at the other end of `link`. Console output goes to `output[vm]`, ends to `exits[vm]`."""

    link: Link
    output: dict[int, bytearray] = field(default_factory=dict)
    exits: dict[int, VmExit] = field(default_factory=dict)
    log_lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link.on(
            "console",
            lambda event: self.output.setdefault(int(event["vm"]), bytearray()).extend(event["data"]),
        )
        self.link.on(
            "vm_exit",
            lambda event: self._ended(
                VmExit(int(event["vm"]), ExitReason(event["reason"]), str(event.get("detail", "")))
            ),
        )
        self.link.on("shim_log", lambda event: self.log_lines.append(str(event["text"])))

    def _ended(self, end: VmExit) -> None:
        self.exits[end.vm] = end

    def ping(self) -> Identity:
        """Who is there."""
        got = self.link.call("ping")
        return Identity(
            str(got["version"]),
            int(got["abi"]),
            int(got["cpus"]),
            int(got["free_frames"]),
            tuple(got["store"]),
        )

    def start(
        self,
        plan: GuestPlan,
        *,
        kernel: str,
        initrd: str | None,
        disk: str | None = None,
        disk_size: int = 0,
        timeout: float = 120.0,
    ) -> StartedVm:
        """Create and run a VM as `plan` says, from the store's files named `kernel` and `initrd`.

        Its disk is a copy of the store's file `disk`, or of `disk_size` bytes, zeros where the file ends.
        """
        arguments = {"kernel": kernel, "initrd": initrd, **plan.link_arguments()}
        arguments |= {"disk": disk, "disk_size": disk_size} if disk or disk_size else {}
        got = self.link.call("start", arguments, timeout=timeout)
        return StartedVm(int(got["vm"]), bytes(got["measurement"]))

    def console(self, vm: int, data: bytes) -> bool:
        """Type `data` on the VM's serial port; false if its queue has no room for all of it (nothing is typed)."""
        try:
            self.link.call("console", {"vm": vm, "data": data})
        except LinkError as error:
            if error.code != REFUSED_STATE:
                raise
            return False
        return True

    def stop(self, vm: int) -> None:
        """Kill a VM."""
        self.link.call("stop", {"vm": vm})

    def destroy(self, vm: int, *, timeout: float = 120.0) -> Destroyed:
        """Take back everything a stopped VM had. The slot's next VM starts with an empty console."""
        got = self.link.call("destroy", {"vm": vm}, timeout=timeout)
        self.output.pop(vm, None)
        self.exits.pop(vm, None)
        return Destroyed(int(got["frames"]), bool(got["scrubbed"]))

    def stats(self) -> Stats:
        """Counters so far."""
        got = self.link.call("stats")
        return Stats(**{name: got[name] for name in Stats.__dataclass_fields__})

    def log(self) -> str:
        """The engine's log."""
        return str(self.link.call("log")["text"])

    def probe(self, address: int, kind: str) -> ProbeResult:
        """Let the hypervisor itself try to "read", "write" or "execute" physical `address`."""
        got = self.link.call("probe", {"address": address, "kind": kind})
        return ProbeResult(bool(got["faulted"]), int(got.get("value") or 0))

    def poke(self, data: bytes) -> int:
        """Put bytes somewhere into the hypervisor's own RAM; their physical address."""
        return int(self.link.call("poke", {"data": data})["address"])

    def peek(self, address: int, length: int) -> bytes:
        """Up to 4096 bytes as the hypervisor sees them."""
        return bytes(self.link.call("peek", {"address": address, "length": length})["data"])

    def vms(self) -> list[VmState]:
        """The VM slots in use."""
        return [
            VmState(int(one["vm"]), str(one["state"]), int(one["vcpus"]))
            for one in self.link.call("vms")["vms"]
        ]

    def cpu_off(self, cpu: int) -> None:
        """Take a CPU out of service; its vCPUs go on elsewhere."""
        self.link.call("cpu_off", {"cpu": cpu})

    def cpu_on(self, cpu: int) -> None:
        """Put it back into service."""
        self.link.call("cpu_on", {"cpu": cpu})

    def shutdown(self) -> None:
        """Ask for the machine to be switched off; refused while any VM exists."""
        self.link.call("shutdown")
