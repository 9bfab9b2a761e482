"""Calls by which host and VMs find out what there is: SMCCC (Arm DEN 0028, 6 and 7), features, log, counters."""

from __future__ import annotations

from uuid import UUID

from bulkhead import abi

from ..stage2 import FRAME_SIZE
from ..state import VM_SLOTS
from ..transaction import STATUS, SUCCESS, Transaction
from ..vcpu import VcpuTransaction
from ..words import Truth, Word, any_of, at_most, below, choose, field

ABI = abi.load()
STANDARD = {line.name: line.id for line in ABI.standards}
FEATURE = {feature.name: 1 << feature.bit for feature in ABI.features}
SMCCC_1_2 = 0x1_0002


def words(uid: UUID) -> tuple[int, ...]:
    """A UID as w0 to w3 carry it."""
    return tuple(int.from_bytes(uid.bytes[start : start + 4], "little") for start in range(0, 16, 4))


def is_one_of(argument: Word, *names: str) -> Truth:
    """Whether the argument of a 32-bit call, which is in the low half of its register, is one of these ids."""
    function = field(argument, 0, 32)
    return any_of(*(function == STANDARD[name] for name in names))


def supported(condition: Truth) -> Word:
    """SUCCESS or NOT_SUPPORTED, as the standards' feature functions answer."""
    return choose(condition, SUCCESS, STATUS["NOT_SUPPORTED"])


def smccc_version(t: VcpuTransaction) -> None:
    """SMCCC 1.2."""
    t.answer(SMCCC_1_2)


def smccc_arch_features(t: VcpuTransaction, function: Word) -> None:
    """Which functions of the architecture range there are: these two."""
    t.answer(supported(is_one_of(function, "SMCCC_VERSION", "SMCCC_ARCH_FEATURES")))


# Of the host.


def uid(t: VcpuTransaction) -> None:
    """Bulkhead's."""
    t.answer(*words(ABI.uid))


def revision(t: VcpuTransaction) -> None:
    """The version of package, image and interface."""
    t.answer(ABI.version, 0)


def version(t: Transaction) -> None:
    """The version, and how many VM slots and CPUs there are."""
    t.results = (ABI.version, VM_SLOTS, t.before.config.cpus)


def features(t: Transaction) -> None:
    """Which optional calls work on this machine."""
    config = t.before.config
    dma = choose(config.has_dma == 0, 0, FEATURE["DMA_WINDOWS"])
    t.results = (dma | choose(config.has_random == 0, 0, FEATURE["RANDOM"]),)


def log_read(t: Transaction, offset: Word) -> None:
    """Up to 64 bytes of the engine's log; what it says is open."""
    t.results = t.before.inputs.opaque


def stats(t: Transaction, kind: Word, index: Word) -> None:
    """A counter, if there is one; what it shows is open."""
    t.need(at_most(kind, 2), "INVALID_ARGUMENT", 1)
    calls, exits, stages = t.before.inputs.counters
    count = choose(kind == 0, calls, choose(kind == 1, exits, stages))
    t.need(below(index, count), "INVALID_ARGUMENT", 2)
    t.results = t.before.inputs.opaque


# Of VMs.

KVM_FEATURES = sum(
    1 << (number & 31)
    for number in (
        STANDARD["VENDOR_HYP_FEATURES"],
        *(ABI.call(name).id for name in ("meminfo", "share", "unshare")),
    )
)
"""The functions of KVM that a VM has: the number of a call is that of its bit (Linux `include/linux/arm-smccc.h`)."""


def vm_uid(t: VcpuTransaction) -> None:
    """KVM's."""
    t.answer(*words(ABI.vm_uid))


def vm_features(t: VcpuTransaction) -> None:
    """KVM's bit mask."""
    t.answer(KVM_FEATURES, 0, 0, 0)


def meminfo(t: VcpuTransaction) -> None:
    """The granule of `share` in bytes."""
    t.answer(FRAME_SIZE)


def unsupported(t: Transaction) -> None:
    """Every id that has no line in the table of calls, or a reserved one."""
    t.need(False, "NOT_SUPPORTED")
