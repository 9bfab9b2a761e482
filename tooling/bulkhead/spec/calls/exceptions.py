"""Exceptions of a VM (Arm ARM DDI 0487, D1.3 and D24.2.40): what the engine does in its place, what the host gets to
do, and what the VM has to handle itself. Interrupts and errors that end its turn.
"""

from __future__ import annotations

from .. import stage2
from ..context import ContextWord, Pending
from ..events import AcknowledgeInterrupt
from ..state import Run, State, VmState, VmWord
from ..syndrome import ISS, WRITE, bit
from ..transaction import STATUS
from ..vcpu import VcpuTransaction
from ..words import Truth, Word, all_of, any_of, at_most, choose, field, minus, negate, plus
from . import frames, running

IL, EXTERNAL_ABORT, SAME_EL = 1 << 25, 0x10, 1 << 26
DATA, INSTRUCTION = 0x24 << 26, 0x20 << 26
"""Of ESR_EL1: a 32-bit instruction; a synchronous external abort; taken from EL1; class of an abort taken from EL0."""
PAN, DIT, NZCV, SSBS = 1 << 22, 1 << 24, 0xF << 28, 1 << 12
SPAN, DSSBS = 23, 44
"""Of PSTATE, masks; of SCTLR_EL1, numbers of bits."""
EL1H, DAIF = 0x5, 0x3C0
MAINTENANCE_INTID = 25


def inject(t: VcpuTransaction, syndrome: Word, address: Word) -> None:
    """The VM takes a synchronous exception to EL1 (Arm ARM DDI 0487, AArch64.TakeException). TCO and ALLINT, of
    features that no VM sees, are zero then.
    """
    pc, pstate = t.word(ContextWord.PC), t.word(ContextWord.PSTATE)
    t.set_system("ELR_EL1", pc)
    t.set_system("SPSR_EL1", pstate)
    t.set_system("ESR_EL1", syndrome)
    t.set_system("FAR_EL1", address)
    vector = choose(
        bit(pstate, 4),  # AArch32
        0x600,
        choose(field(pstate, 0, 4) == 0, 0x400, choose(field(pstate, 0, 4) == EL1H, 0x200, 0)),
    )
    t.set_word(ContextWord.PC, plus(t.system("VBAR_EL1"), vector))
    control = t.system("SCTLR_EL1")
    pan = choose(bit(control, SPAN), pstate & PAN, PAN)
    ssbs = choose(bit(control, DSSBS), SSBS, 0)
    t.set_word(ContextWord.PSTATE, EL1H | DAIF | pan | ssbs | pstate & (NZCV | DIT))


def undefined(t: VcpuTransaction) -> None:
    """The instruction is UNDEFINED: what traps and has no other line does not exist for a VM."""
    inject(t, IL, 0)


def external_abort(t: VcpuTransaction, abort: int) -> None:
    """Nothing answers the access."""
    from_el0 = field(t.word(ContextWord.PSTATE), 0, 4) == 0
    inject(t, choose(from_el0, abort, abort + SAME_EL) | IL | EXTERNAL_ABORT, t.syndrome.far)


def wait(t: VcpuTransaction) -> None:
    """WFI, WFE, WFIT or WFET."""
    t.advance()
    t.exit("WFI")


def smc(t: VcpuTransaction) -> None:
    """There is no firmware for VMs. A trapped SMC has not moved the program counter (D1.3)."""
    t.set_word(0, STATUS["NOT_SUPPORTED"])
    t.advance()


def data_abort(t: VcpuTransaction) -> None:
    """A load or store that stage 2 has stopped."""
    in_ram = is_ram_fault(t)
    ram_fault(t, in_ram)
    is_device = all_of(negate(in_ram), t.syndrome.is_translation_fault, t.syndrome.describes_access)
    is_store = bit(t.syndrome.esr, WRITE)
    with t.when(all_of(is_device, is_store), name="store"):
        t.exit("MMIO_WRITE")
        t.advance()
    with t.when(all_of(is_device, negate(is_store)), name="load"):
        t.set_word(ContextWord.PENDING, Pending.LOAD | t.syndrome.esr & ISS)
        t.exit("MMIO_READ")
        t.advance()
    with t.when(all_of(negate(in_ram), negate(is_device)), name="external abort"):
        external_abort(t, DATA)


def instruction_abort(t: VcpuTransaction) -> None:
    """A fetch that stage 2 has stopped."""
    in_ram = is_ram_fault(t)
    ram_fault(t, in_ram)
    with t.when(negate(in_ram), name="external abort"):
        external_abort(t, INSTRUCTION)


def is_ram_fault(t: VcpuTransaction) -> Truth:
    """A translation fault in the VM's declared RAM."""
    page = t.syndrome.page
    is_page = at_most(page, (1 << stage2.IPA_BITS) - 1)
    return all_of(t.syndrome.is_translation_fault, is_page, frames.in_ram_of(t.before, t.owner.vm, page))


def ram_fault(t: VcpuTransaction, in_ram: Truth) -> None:
    """The host has to map the page, unless it has just done so: then, and while another CPU changes ownership, the VM
    tries again.
    """
    is_free = t.before.inputs.lock == 0
    mapped = is_mapped(t.before, t.owner.vm, t.syndrome.page)
    with t.when(all_of(in_ram, negate(is_free)), name="lock taken"):
        t.again()
    with t.when(all_of(in_ram, is_free, mapped), name="mapped meanwhile"):
        t.again()
    with t.when(all_of(in_ram, is_free, negate(mapped)), name="not mapped"):
        t.exit("MEM_FAULT")


def is_mapped(state: State, vm: Word, ipa: Word) -> Truth:
    """Whether the VM's tables map a page or a block at `ipa`. On plain integers the walk ends where the tables do."""
    level1 = state.ram[stage2.word(state.vm_word(vm, VmWord.ROOT), stage2.index(ipa, 1))]
    if stage2.is_valid(level1) is False:
        return False
    level2 = state.ram[stage2.word(stage2.target(state.config, level1), stage2.index(ipa, 2))]
    if stage2.is_valid(level2) is False or stage2.is_table(level2) is False:
        return stage2.is_valid(level2)
    leaf = state.ram[stage2.word(stage2.target(state.config, level2), stage2.index(ipa, 3))]
    return all_of(
        stage2.is_valid(level1),
        stage2.is_valid(level2),
        any_of(negate(stage2.is_table(level2)), stage2.is_valid(leaf)),
    )


# Asynchronous exceptions.


def interrupt(t: VcpuTransaction, intid: Word) -> None:
    """A physical interrupt of group 1; `intid` is the one with the highest priority, 1020 and up: none any more."""
    is_timer, is_maintenance = intid == running.TIMER_INTID, intid == MAINTENANCE_INTID
    with t.when(is_timer, name="timer"):
        t.emit(AcknowledgeInterrupt())
        t.set_word(ContextWord.TIMER_PENDING, 1)
        running.deliver_timer(t, minus(t.owner.parent, Run.LOADED))
    with t.when(is_maintenance, name="maintenance"):
        t.exit("VGIC")
    is_hosts = negate(any_of(is_timer, is_maintenance, at_most(running.FIRST_SPECIAL_INTID, intid)))
    with t.when(is_hosts, name="the host's"):
        t.exit("IRQ")


def fast_interrupt(t: VcpuTransaction) -> None:
    """A physical interrupt of group 0: the host's own, too."""
    t.exit("IRQ")


def system_error(t: VcpuTransaction) -> None:
    """An SError interrupt is attributed to the VM that ran, which dies of it."""
    with t.when(t.before.vm_word(t.owner.vm, VmWord.STATE) == VmState.ACTIVE, name="alive"):
        t.set_vm(t.owner.vm, VmWord.STATE, VmState.DYING)
    t.exit("DIED")
