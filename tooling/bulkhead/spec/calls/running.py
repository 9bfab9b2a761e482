"""`vcpu_run` up to the entry of the VM, and `vcpu_put`: which vCPU is loaded where, and replies to exits."""

from __future__ import annotations

from ..context import ContextWord, Pending, register
from ..events import EnableVirtual, SetTimerListRegister
from ..state import CpuWord, Kind, Run, VmState, VmWord
from ..syndrome import SIGNED, WIDE, Syndrome, bit, by_size, low_bytes
from ..transaction import SUCCESS
from ..vcpu import VcpuTransaction
from ..words import Truth, Word, all_of, any_of, below, choose, field, minus, negate, shift_right
from . import debug, frames

LIST_STATE, LIST_HARDWARE, LIST_GROUP1 = 3 << 62, 1 << 61, 1 << 60
LIST_PENDING = 1 << 62
LIST_ALLOWED = LIST_STATE | LIST_GROUP1 | 0xFF << 48 | 1 << 41 | 0xFFFF_FFFF
"""Of a list register (IHI 0069, `ICH_LR<n>_EL2`): state, group, priority, EOI maintenance, INTID. No physical link."""
TIMER_INTID, FIRST_SPECIAL_INTID = 27, 1020
CONTROL_TIMER = 1
CONTROL_MAINTENANCE = 3 << 1
CONTROL_PRIORITY = 8
"""Bits of the control word: the VM takes its timer; when VGIC exits are due; priority of PPI 27, from this bit."""


def vcpu_run(
    t: VcpuTransaction, cpu: Word, vcpu: Word, reply: Word, lr0: Word, lr1: Word, lr2: Word, control: Word
) -> None:
    """The vCPU is loaded on this CPU and entered, once what it waited for is complete."""
    need_lists(t, (lr0, lr1, lr2))
    allowed = CONTROL_TIMER | CONTROL_MAINTENANCE | 0xFF << CONTROL_PRIORITY
    t.need(control & ~allowed & (1 << 64) - 1 == 0, "BAD_REPLY", 6)
    frame, record = frames.need_split_frame(t, vcpu, 1)
    t.need(record.kind == Kind.VCPU, "NOT_OWNED", 1)
    is_active = t.before.vm_word(record.vm, VmWord.STATE) == VmState.ACTIVE
    t.need(all_of(is_active, negate(record.parent == Run.OFF)), "BAD_STATE")
    here = Run.LOADED | cpu
    is_here = record.parent == here
    t.need(any_of(is_here, record.parent == Run.RUNNABLE), "BUSY")

    t.vcpu = frame
    with t.when(negate(is_here), name="loaded"):
        t.set_run_state(frame, record, here)
        unload(t, cpu, Run.RUNNABLE)
        load(t, cpu)
    t.set_word(ContextWord.CONTROL, control)
    complete(t, reply)
    deliver_timer(t, cpu)
    t.emit(EnableVirtual((lr0, lr1, lr2), control & CONTROL_MAINTENANCE))


def vcpu_put(t: VcpuTransaction, cpu: Word) -> None:
    """The vCPU that is loaded on this CPU, if any, can be run anywhere."""
    unload(t, cpu, Run.RUNNABLE)
    t.answer(SUCCESS)


def need_lists(t: VcpuTransaction, lists: tuple[Word, Word, Word]) -> None:
    """Each is unused (zero) or sound, and no INTID is in two."""
    first_register = 3
    for number, value in enumerate(lists):
        t.need(any_of(value == 0, is_sound(value)), "BAD_REPLY", first_register + number)
    first, second, third = lists
    t.need(negate(is_twice(first, second)), "BAD_REPLY", first_register + 1)
    t.need(negate(any_of(is_twice(first, third), is_twice(second, third))), "BAD_REPLY", first_register + 2)


def is_sound(value: Word) -> Truth:
    """A list register in use: an interrupt of group 1 that is neither special nor the engine's timer."""
    intid = field(value, 0, 32)
    return all_of(
        value & ~LIST_ALLOWED & (1 << 64) - 1 == 0,
        negate(value & LIST_STATE == 0),
        negate(value & LIST_GROUP1 == 0),
        below(intid, FIRST_SPECIAL_INTID),
        negate(intid == TIMER_INTID),
    )


def is_twice(one: Word, other: Word) -> Truth:
    """Two list registers in use for one INTID."""
    return all_of(negate(one == 0), negate(other == 0), field(one, 0, 32) == field(other, 0, 32))


def unload(t: VcpuTransaction, cpu: Word, run_state: Run) -> None:
    """What is loaded on the CPU, if anything, leaves it."""
    loaded = t.before.cpu_word(cpu, CpuWord.LOADED)
    with t.when(negate(loaded == 0), name="unloaded"):
        frame = choose(loaded == 0, 0, minus(loaded, 1))
        t.set_context(frame, ContextWord.TIMER_LIST, t.before.cpu_word(cpu, CpuWord.TIMER_LIST))
        set_timer_list(t, cpu, 0)
        t.set_cpu(cpu, CpuWord.LOADED, 0)
        t.set_run_state(frame, t.before.frame[frame], run_state)


def load(t: VcpuTransaction, cpu: Word) -> None:
    """The CPU, on which nothing is loaded, gets the vCPU."""
    debug.load(t, t.word(register("MDSCR_EL1")))
    set_timer_list(t, cpu, t.word(ContextWord.TIMER_LIST))
    t.set_cpu(cpu, CpuWord.LOADED, t.vcpu + 1)


def set_timer_list(t: VcpuTransaction, cpu: Word, value: Word) -> None:
    """The list register that the engine keeps for the virtual timer."""
    t.set_cpu(cpu, CpuWord.TIMER_LIST, value)
    t.emit(SetTimerListRegister(value))


def complete(t: VcpuTransaction, reply: Word) -> None:
    """What the last exit left open gets the host's reply, which is taken once."""
    pending = t.word(ContextWord.PENDING)
    with t.when(pending == Pending.HOST_CALL, name="host_call answered"):
        t.set_word(0, SUCCESS)
        t.set_word(1, reply)
    with t.when(shift_right(pending, 63) == 1, name="load answered"):
        t.set_x(Syndrome(pending).register, loaded_value(pending, reply))
    t.set_word(ContextWord.PENDING, Pending.NOTHING)


def loaded_value(iss: Word, reply: Word) -> Word:
    """As many bytes of the reply as the load has, zero- or sign-extended (SSE) to 32 or 64 bits (SF)."""
    value = low_bytes(iss, reply)
    is_negative = negate(by_size(iss, value & 1 << 7, value & 1 << 15, value & 1 << 31, value & 1 << 63) == 0)
    ones = (1 << 64) - 1
    extended = value | by_size(iss, ones << 8 & ones, ones << 16 & ones, ones << 32 & ones, 0)
    signed = choose(bit(iss, WIDE), extended, field(extended, 0, 32))
    return choose(all_of(bit(iss, SIGNED), is_negative), signed, value)


def deliver_timer(t: VcpuTransaction, cpu: Word) -> None:
    """A timer interrupt that was taken reaches the VM once it has it enabled; linked to the physical one, which the VM
    itself deactivates.
    """
    control = t.word(ContextWord.CONTROL)
    is_taken = negate(t.word(ContextWord.TIMER_PENDING) == 0)
    with t.when(all_of(is_taken, negate(control & CONTROL_TIMER == 0)), name="timer delivered"):
        priority = field(control, CONTROL_PRIORITY, 8)
        link = TIMER_INTID << 32 | TIMER_INTID
        set_timer_list(t, cpu, LIST_PENDING | LIST_HARDWARE | LIST_GROUP1 | priority << 48 | link)
        t.set_word(ContextWord.TIMER_PENDING, 0)
