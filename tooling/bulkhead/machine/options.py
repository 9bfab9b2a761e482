"""Options of the main job, checked before anything starts.

Trust label: TOOL. Every refusal is an InvalidInput that names the option and says what to give instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bulkhead.errors import InvalidInput
from bulkhead.machine.guest import check_size
from bulkhead.provision.toolchain import Kind

MIB = 1 << 20
UNITS = {"": MIB, "K": 1 << 10, "M": MIB, "G": 1 << 30}
HOST_SHARE = 512 * MIB  # memory of the machine beyond the guest's: engine, hypervisor, image store
HOST_CPUS_MAX = 8
DISK_STEP = 2 * MIB
CPU_MODELS = ("neoverse-n1", "neoverse-v1", "neoverse-n2", "max")
APPEND_MAX = 2047  # Linux arch/arm64 COMMAND_LINE_SIZE is 2048 with its closing zero
DEFAULT_APPEND = "console=ttyAMA0 quiet"
DEFAULT_TIMEOUT = 300.0


@dataclass(frozen=True)
class RunOptions:
    """What to run and how. Sizes in bytes, times in seconds; None means the project's own choice.

    `kernel` and `initrd` are files; without a kernel both come from the pinned stock guest. `script` is shell
    text; without one the session is interactive. `firmware` (uefi, u-boot or a file) runs in place of a kernel, which
    excludes everything that is about kernels; `payload` is a file that it finds in RAM. `disk` is a file of which the
    guest gets a copy as its disk; `pkvm` says that the kernel shares memory with it by itself, and without `kernel`
    asks for such a one. `timeout` bounds the whole run (None: a session may last).
    """

    kernel: Path | None = None
    initrd: Path | None = None
    firmware: str | None = None
    payload: Path | None = None
    disk: Path | None = None
    pkvm: bool = False
    append: str = DEFAULT_APPEND
    memory: int = 512 * MIB
    cpus: int = 2
    load_address: int | None = None
    cpu_model: str = CPU_MODELS[0]
    host_cpus: int = 2
    timeout: float | None = None
    json: bool = False
    verbose: bool = False
    qemu: Path | None = None
    script: str | None = None
    toolchain: Kind = "pinned"

    def __post_init__(self) -> None:
        check_size(self.memory, self.cpus)
        _check_host(self.memory, self.host_cpus)
        self._check_firmware()
        if self.cpu_model not in CPU_MODELS:
            hint = f"choose one of {', '.join(CPU_MODELS)}"
            raise InvalidInput(
                f"'{self.cpu_model}' is no CPU model that the engine knows", where="--cpu-model", hint=hint
            )
        if self.timeout is not None and not 1 <= self.timeout <= 86400:
            raise InvalidInput(
                f"a time limit of {self.timeout:g} s", where="--timeout", hint="give 1 to 86400 seconds"
            )
        if self.load_address is not None and self.kernel is None:
            raise InvalidInput(
                "a load address without a kernel", where="--load-address", hint="name a --kernel too"
            )
        if not self.append.isascii() or len(self.append) > APPEND_MAX or "\0" in self.append:
            hint = f"give at most {APPEND_MAX} ASCII characters"
            raise InvalidInput("the kernel command line cannot be passed on", where="--append", hint=hint)
        if self.script is not None and not self.script.strip():
            raise InvalidInput(
                "an empty script", where="--script", hint="give commands for the guest's shell"
            )

    def _check_firmware(self) -> None:
        if self.firmware is None:
            if self.payload is not None:
                hint = "name a --firmware that is to find it"
                raise InvalidInput("a payload without firmware", where="--payload", hint=hint)
            return
        for given, option, hint in (
            (self.kernel is not None, "--kernel", "give one of them"),
            (self.initrd is not None, "--initrd", "an initial RAM disk needs a kernel"),
            (self.disk is not None, "--disk", "no firmware shares the memory that a disk needs"),
            (self.pkvm, "--pkvm", "it is about kernels"),
            (self.load_address is not None, "--load-address", "firmware lies at address 0"),
            (self.append != DEFAULT_APPEND, "--append", "a command line needs a kernel"),
            (self.script is not None, "--script", "pipe the firmware's own commands into the run"),
        ):
            if given:
                raise InvalidInput(f"both --firmware and {option}", where=option, hint=hint)

    @property
    def machine_memory(self) -> int:
        """Bytes of RAM of the whole machine."""
        return self.memory + HOST_SHARE + 2 * _size_in_blocks(self.disk)

    @property
    def time_limit(self) -> float:
        """Seconds that the machine may live."""
        if self.timeout is not None:
            return self.timeout
        return DEFAULT_TIMEOUT if self.script is not None else 86400.0


def _size_in_blocks(path: Path | None) -> int:
    """Bytes that a disk takes in the machine, which has it twice: the image store's, and the guest's copy."""
    try:
        return -(-path.stat().st_size // DISK_STEP) * DISK_STEP if path else 0
    except OSError:
        return 0  # reading it says why


def _check_host(memory: int, host_cpus: int) -> None:
    if not 1 <= host_cpus <= HOST_CPUS_MAX:
        raise InvalidInput(f"{host_cpus} host CPUs", where="--host-cpus", hint=f"give 1 to {HOST_CPUS_MAX}")
    available = available_memory()
    if memory + HOST_SHARE > available:
        hint = f"ask for at most {max(0, available - HOST_SHARE) // MIB}M, or free memory"
        raise InvalidInput(
            f"this computer has not enough memory for {memory // MIB} MiB", where="--memory", hint=hint
        )


def available_memory() -> int:
    """Bytes of memory that this computer can still give (`MemAvailable` of proc(5))."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 1 << 62


def parse_memory(text: str) -> int:
    """`512M`, `1G`, `65536K` or a number of MiB, in bytes."""
    match = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text.strip().upper().replace("IB", "B"))
    if match is None:
        raise InvalidInput(
            f"'{text}' is no amount of memory", where="--memory", hint="write it as in 512M or 2G"
        )
    return int(match[1]) * UNITS[match[2]]


def parse_number(text: str | int, option: str) -> int:
    """A whole number as people write it (decimal or 0x…)."""
    try:
        return int(str(text).replace("_", ""), 0)
    except ValueError as error:
        raise InvalidInput(
            f"'{text}' is no whole number", where=option, hint="write it as in 2 or 0x40080000"
        ) from error


def parse_toolchain(text: str) -> Kind:
    """Which compiler builds the image; empty for the pinned one."""
    for kind in get_args(Kind):
        if text == kind or (not text and kind == "pinned"):
            return kind  # type: ignore[no-any-return]  # get_args is untyped; these are Kind's own values
    raise InvalidInput(f"'{text}' is no toolchain", where="--toolchain", hint="give pinned or system")


def parse_options(
    *,
    kernel: str = "",
    initrd: str = "",
    firmware: str = "",
    payload: str = "",
    disk: str = "",
    pkvm: bool = False,
    append: str = "",
    memory: str = "512M",
    cpus: str | int = 2,
    load_address: str = "",
    cpu_model: str = CPU_MODELS[0],
    host_cpus: str | int = 2,
    timeout: str | float = "",
    json: bool = False,
    verbose: bool = False,
    qemu: str = "",
    script: str | None = None,
    toolchain: str = "",
) -> RunOptions:
    """Options as they come from a command line; an empty string means not given."""
    try:
        seconds = float(timeout) if str(timeout) else None
    except ValueError as error:
        raise InvalidInput(
            f"'{timeout}' is no time", where="--timeout", hint="give seconds, as in 60"
        ) from error
    return RunOptions(
        kernel=Path(kernel).expanduser() if kernel else None,
        initrd=Path(initrd).expanduser() if initrd else None,
        firmware=firmware or None,
        payload=Path(payload).expanduser() if payload else None,
        disk=Path(disk).expanduser() if disk else None,
        pkvm=pkvm,
        append=append or DEFAULT_APPEND,
        memory=parse_memory(memory),
        cpus=parse_number(cpus, "--cpus"),
        load_address=parse_number(load_address, "--load-address") if load_address else None,
        cpu_model=cpu_model,
        host_cpus=parse_number(host_cpus, "--host-cpus"),
        timeout=seconds,
        json=json,
        verbose=verbose,
        qemu=Path(qemu).expanduser() if qemu else None,
        script=script,
        toolchain=parse_toolchain(toolchain),
    )
