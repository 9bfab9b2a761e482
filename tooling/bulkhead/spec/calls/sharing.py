"""Pages that a VM shares with the host: the host's `share_accept` and `share_release`, and the VM's own steps.

A VM offers a page (`share`), the host maps it (`share_accept`, `share_release`), the VM takes it back (`unshare`) or
gives it away (`relinquish`), whether or not the host agrees.
"""

from __future__ import annotations

from .. import stage2
from ..events import CleanFrame, InvalidateHostPageFromVm, InvalidateVmPage, Publish
from ..state import Record, Shared, VmWord
from ..transaction import Transaction
from ..words import Word, all_of, negate
from . import frames


def share_accept(t: Transaction, vm: Word, ipa: Word) -> None:
    """The host reaches a page that the VM offers, at its physical address, which is the result."""
    page, record = need_page(t, vm, ipa)
    t.need(record.shared == Shared.OFFERED, "BAD_STATE")

    t.set_record(page, record._replace(shared=Shared.ACCEPTED))
    t.set_entry(
        frames.host_table_of(t.before, page),
        page & (stage2.TABLE_ENTRIES - 1),
        stage2.page(t.before.config, page),
    )
    t.emit(Publish())
    t.results = (stage2.address(t.before.config, page),)


def share_release(t: Transaction, vm: Word, ipa: Word) -> None:
    """The host reaches the page no more; the VM still offers it."""
    page, record = need_page(t, vm, ipa)
    t.need(record.shared == Shared.ACCEPTED, "BAD_STATE")

    frames.withdraw_from_host(t, page)
    # No line that the host has written may reach memory later.
    t.emit(CleanFrame(page))
    t.set_record(page, record._replace(shared=Shared.OFFERED))


def need_page(t: Transaction, vm: Word, ipa: Word) -> tuple[Word, Record]:
    """The page of a living VM at `ipa`, and its record."""
    frames.need_slot(t, vm, 1)
    frames.need_vm_alive(t, vm)
    frames.need_ipa(t, ipa, 2)
    level3 = frames.need_level3(t, vm, ipa)
    leaf = t.before.ram[stage2.word(level3, stage2.index(ipa, 3))]
    t.need(stage2.is_valid(leaf), "BAD_STATE")
    page = stage2.target(t.before.config, leaf)
    return page, t.before.frame[page]


# Steps of a VM. `vm` is the caller; the other arguments are its x1, x2 and x3.


def share(t: Transaction, vm: Word, ipa: Word, zero2: Word, zero3: Word) -> None:
    """The VM offers one of its pages to the host."""
    page, record = need_own_page(t, vm, ipa, zero2, zero3)
    t.need(record.shared == Shared.PRIVATE, "BAD_STATE")

    t.set_record(page, record._replace(shared=Shared.OFFERED))


def unshare(t: Transaction, vm: Word, ipa: Word, zero2: Word, zero3: Word) -> None:
    """The page is the VM's alone again."""
    page, record = need_own_page(t, vm, ipa, zero2, zero3)
    t.need(negate(record.shared == Shared.PRIVATE), "BAD_STATE")

    with t.when(record.shared == Shared.ACCEPTED, name="accepted"):
        withdraw_from_vm_exit(t, page)
        t.emit(CleanFrame(page))
    t.set_record(page, record._replace(shared=Shared.PRIVATE))


def relinquish(t: Transaction, vm: Word, ipa: Word, zero2: Word, zero3: Word) -> None:
    """The VM gives a page back: it is zeroed and the host's."""
    page, record = need_own_page(t, vm, ipa, zero2, zero3)

    t.set_entry(record.parent, record.slot, 0)
    t.emit(InvalidateVmPage(vm, ipa))
    with t.when(record.shared == Shared.ACCEPTED, name="accepted"):
        withdraw_from_vm_exit(t, page)
    frames.return_to_host(t, page)


def withdraw_from_vm_exit(t: Transaction, page: Word) -> None:
    """The host cannot reach the page any more, on any CPU."""
    t.set_entry(frames.host_table_of(t.before, page), page & (stage2.TABLE_ENTRIES - 1), 0)
    t.emit(InvalidateHostPageFromVm(page))


def need_own_page(t: Transaction, vm: Word, ipa: Word, zero2: Word, zero3: Word) -> tuple[Word, Record]:
    """The caller's page at `ipa`. What the host has to remedy is an exit, after which the VM repeats its call."""
    t.need(all_of(frames.is_page_address(ipa), frames.in_ram(t, vm, ipa)), "INVALID_ARGUMENT", 1)
    t.need(zero2 == 0, "INVALID_ARGUMENT", 2)
    t.need(zero3 == 0, "INVALID_ARGUMENT", 3)
    level1 = t.before.ram[stage2.word(t.before.vm_word(vm, VmWord.ROOT), stage2.index(ipa, 1))]
    t.need_or_exit(stage2.is_valid(level1), "MEM_FAULT", ipa)
    level2 = t.before.ram[stage2.word(stage2.target(t.before.config, level1), stage2.index(ipa, 2))]
    t.need_or_exit(stage2.is_valid(level2), "MEM_FAULT", ipa)
    t.need_or_exit(stage2.is_table(level2), "NEEDS_SPLIT", ipa)
    leaf = t.before.ram[stage2.word(stage2.target(t.before.config, level2), stage2.index(ipa, 3))]
    t.need_or_exit(stage2.is_valid(leaf), "MEM_FAULT", ipa)
    page = stage2.target(t.before.config, leaf)
    return page, t.before.frame[page]
