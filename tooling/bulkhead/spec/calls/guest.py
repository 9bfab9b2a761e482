"""Bulkhead's own calls of a VM. Sharing is specified in `sharing`; here is what a caller sees of it."""

from __future__ import annotations

from ..context import ContextWord, Pending
from ..state import VmWord
from ..transaction import REPEAT, SUCCESS
from ..vcpu import VcpuTransaction
from ..words import Word
from . import sharing


def host_call(t: VcpuTransaction) -> None:
    """The host is asked something; x0 and x1 change when it has answered."""
    t.set_word(ContextWord.PENDING, Pending.HOST_CALL)
    t.exit("HOST_CALL")


def measurement(t: VcpuTransaction) -> None:
    """The launch measurement."""
    t.answer(SUCCESS, *digest(t, VmWord.MEASUREMENT))


def extend(t: VcpuTransaction, data0: Word, data1: Word, data2: Word, data3: Word) -> None:
    """The runtime measurement goes on; while another CPU has the lock, the VM tries again."""
    t.need(t.before.inputs.lock == 0, REPEAT)
    t.measure(t.owner.vm, (data0, data1, data2, data3), None, VmWord.RUNTIME)
    t.answer(SUCCESS, *digest(t, VmWord.RUNTIME))


def digest(t: VcpuTransaction, first: int) -> tuple[Word, ...]:
    """Four words of the VM's record as they are now."""
    return tuple(t.after.vm_word(t.owner.vm, first + position) for position in range(4))


def share(t: VcpuTransaction, ipa: Word, zero2: Word, zero3: Word) -> None:
    """See `sharing.share`."""
    t.take_lock_behind_arguments()
    sharing.share(t, t.owner.vm, ipa, zero2, zero3)
    tell(t)


def unshare(t: VcpuTransaction, ipa: Word, zero2: Word, zero3: Word) -> None:
    """See `sharing.unshare`."""
    t.take_lock_behind_arguments()
    sharing.unshare(t, t.owner.vm, ipa, zero2, zero3)
    tell(t)


def relinquish(t: VcpuTransaction, ipa: Word, zero2: Word, zero3: Word) -> None:
    """See `sharing.relinquish`."""
    t.take_lock_behind_arguments()
    sharing.relinquish(t, t.owner.vm, ipa, zero2, zero3)
    tell(t)


def tell(t: VcpuTransaction) -> None:
    """The host hears of every success, and has no say."""
    t.answer(SUCCESS)
    t.exit("SHARE")
