"""Guests that really run: each exit class, what it tells the host, and what the guest sees afterwards."""

from __future__ import annotations

import pytest

from bulkhead.conformance import HostFault, Machine, Vm
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.backends.payload import PayloadBackend
from bulkhead.conformance.testing.machine import ABI, MASK
from bulkhead.inspect.records import Kind
from native.guest import (
    DEVICE,
    GIC_ON,
    ISB,
    LOADS,
    RAM,
    STORES,
    WAIT,
    WFI,
    Guest,
    access,
    code,
    move,
    mrs,
    msr,
    report,
    with_vectors,
)

pytestmark = [pytest.mark.qemu, pytest.mark.metal]

PATTERN = 0x1122_3344_5566_7788
NO_DEADLINE = MASK
PENDING, ACTIVE, GROUP1 = 1 << 62, 1 << 63, 1 << 60


def test_registers_at_the_start(machine: Machine) -> None:
    guest = Guest(machine, code(*report(*range(28))), context=PATTERN)
    assert guest.reports(28) == [PATTERN, *[0] * 27]


def test_it_runs_at_el1_as_cpu_zero(machine: Machine) -> None:
    program = [
        mrs(0, "CurrentEL"),
        mrs(1, "MPIDR_EL1"),
        mrs(2, "SCTLR_EL1"),
        mrs(3, "TPIDR_EL1"),
        *report(0, 1, 2, 3),
    ]
    level, mpidr, sctlr, tpidr = Guest(machine, code(*program)).reports(4)
    assert (level, mpidr & 0xFF_00FF_FFFF, sctlr & 1, tpidr) == (1 << 2, 0, 0, 0)


def test_wfi(machine: Machine) -> None:
    guest = Guest(machine, code(WFI, *report(0)), context=PATTERN)
    exit_ = guest.run()
    assert (exit_.name, exit_.deadline, exit_.misr) == ("WFI", NO_DEADLINE, 0)
    assert guest.reports(1) == [PATTERN]


@pytest.mark.parametrize("store", STORES)
def test_mmio_write(machine: Machine, store: str) -> None:
    encoding, size = STORES[store]
    guest = Guest(machine, code(*move(28, DEVICE + 0x40), *move(3, PATTERN), access(encoding, 3), WFI))
    exit_ = guest.run()
    assert (exit_.name, exit_.data) == ("MMIO_WRITE", (DEVICE + 0x40, size, PATTERN & (1 << 8 * size) - 1))
    assert guest.run().name == "WFI"


def test_mmio_write_of_zero_register(machine: Machine) -> None:
    guest = Guest(machine, code(*move(28, DEVICE), access(STORES["str x"][0], 31)))
    assert guest.run().data == (DEVICE, 8, 0)


@pytest.mark.parametrize("reply", [0, 0x7F, 0x80, 0x8000, 0x8000_0000, 0x1234_5678_9ABC_DEF0, MASK])
@pytest.mark.parametrize("load", LOADS)
def test_mmio_read(machine: Machine, load: str, reply: int) -> None:
    encoding, size, signed = LOADS[load]
    program = [*move(28, DEVICE + 8), *move(5, PATTERN), access(encoding, 5), *report(5)]
    guest = Guest(machine, code(*program))
    exit_ = guest.run()
    assert (exit_.name, exit_.data) == ("MMIO_READ", (DEVICE + 8, size))
    value = reply & (1 << 8 * size) - 1
    if signed and value >> 8 * size - 1:
        value = (value - (1 << 8 * size)) & (1 << signed) - 1
    assert guest.run(reply).data == (DEVICE, 8, value)


def test_mmio_read_into_zero_register(machine: Machine) -> None:
    guest = Guest(
        machine, code(*move(28, DEVICE), access(LOADS["ldr x"][0], 31), *report(0, 28)), context=PATTERN
    )
    assert guest.run().name == "MMIO_READ"
    assert guest.run(MASK).data[2] == PATTERN
    assert guest.reports(1) == [DEVICE]


def test_a_reply_is_used_once(machine: Machine) -> None:
    program = [*move(28, DEVICE), access(LOADS["ldr x"][0], 5), WFI, *report(5)]
    guest = Guest(machine, code(*program))
    guest.run()
    assert guest.run(PATTERN).name == "WFI"
    assert guest.run(0xBAD).data[2] == PATTERN


@pytest.mark.raw_memory
@pytest.mark.parametrize("page", [1, 511, 512], ids=["next page", "end of the table", "no table"])
def test_mem_fault_and_its_remedy(machine: Machine, page: int) -> None:
    ipa = RAM + page * PAGE
    program = [
        *move(28, ipa + 0x18),
        access(LOADS["ldr x"][0], 5),
        access(STORES["str x"][0], 28),
        *report(5),
    ]
    guest = Guest(machine, code(*program))
    for _ in range(2):
        exit_ = guest.run()
        assert (exit_.name, exit_.data) == ("MEM_FAULT", (ipa,))
    frame = guest.vm.page(ipa)
    assert guest.reports(1) == [0]
    assert machine.physical(frame)[0x18:0x20] == (ipa + 0x18).to_bytes(8, "little")


def test_mem_fault_of_an_instruction_fetch(machine: Machine) -> None:
    guest = Guest(
        machine, code(0xD61F0000 | 28 << 5), vm=Vm(machine, ram=((0, 2 << 30),))
    )  # BR x28, which is 0
    assert guest.run().data == (0,)
    assert guest.run().name == "MEM_FAULT"


UNDEFINED = ["PMCR_EL0", "CNTP_CTL_EL0", "CNTP_CVAL_EL0", "LORC_EL1", "HCR_EL2", "SP_EL1"]


@pytest.mark.parametrize("register", UNDEFINED)
def test_registers_that_a_vm_does_not_have(machine: Machine, register: str) -> None:
    handler = [mrs(0, "ESR_EL1"), mrs(1, "ELR_EL1"), *report(0, 1)]
    page = with_vectors([mrs(5, register)], handler)
    esr, elr = Guest(machine, page).reports(2)
    assert esr == 1 << 25
    assert page[elr - RAM :][:4] == code(mrs(5, register))


@pytest.mark.parametrize("register", ["OSLSR_EL1", "ID_AA64PFR0_EL1", "ID_AA64DFR0_EL1", "ID_AA64MMFR0_EL1"])
def test_registers_that_read_sanitized(machine: Machine, register: str) -> None:
    (value,) = Guest(machine, code(mrs(5, register), *report(5))).reports(1)
    if register == "OSLSR_EL1":
        assert value == 1 << 3
    elif register == "ID_AA64PFR0_EL1":
        assert value & 0xFFFF == 0x0011, "EL0 and EL1 in AArch64, no EL2, no EL3"
        assert value >> 28 & 0xFF == 0, "no RAS, no SVE"
    elif register == "ID_AA64DFR0_EL1":
        assert value >> 4 & 0xFF == 0, "no trace, no PMU"
    else:
        assert value & 0xF <= 1, "no more than 36 bits of physical address"


@pytest.mark.parametrize("register", ["REVIDR_EL1", "AIDR_EL1"])
def test_a_vm_reads_its_revision_registers_as_zero(machine: Machine, register: str) -> None:
    assert Guest(machine, code(*move(5, PATTERN), mrs(5, register), *report(5))).reports(1) == [0]


def test_an_access_that_cannot_be_described_aborts_in_the_guest(machine: Machine) -> None:
    pair = 0xA9400000 | 6 << 10 | 26 << 5 | 5  # LDP x5, x6, [x26]
    page = with_vectors([*move(26, DEVICE), pair], [mrs(0, "ESR_EL1"), mrs(1, "FAR_EL1"), *report(0, 1)])
    esr, far = Guest(machine, page).reports(2)
    assert (esr >> 26, esr & 0x3F, far) == (0x25, 0x10, DEVICE)


def test_two_vms_take_turns_on_one_cpu(machine: Machine) -> None:
    program = code(
        *GIC_ON[:3], mrs(3, "ICC_PMR_EL1"), msr("TPIDR_EL1", 0), WFI, mrs(1, "TPIDR_EL1"), *report(0, 1)
    )
    guests = [Guest(machine, program, Vm(machine, slot), context=slot + 7) for slot in range(2)]
    assert [guest.run().name for guest in guests] == ["WFI", "WFI"]
    assert [guest.reports(1) for guest in guests] == [[7], [8]]
    assert [guest.reports(1) for guest in guests] == [[7], [8]]


def test_a_vcpu_moves_between_cpus(machine: Machine) -> None:
    guest = Guest(machine, code(*move(5, PATTERN), WFI, *report(5), WFI, *report(5)))
    for cpu, expected in ((0, "WFI"), (1, "MMIO_WRITE"), (0, "WFI"), (1, "MMIO_WRITE")):
        guest.cpu = cpu
        exit_ = guest.run()
        assert exit_.name == expected
        assert exit_.data[2:] in ((), (PATTERN,))
        machine.ok("vcpu_put", cpu=cpu)


def test_simd_registers_survive_another_vm(machine: Machine) -> None:
    write, read = 0x9E670000 | 5 << 5, 0x9E660000 | 6  # FMOV d0, x5; FMOV x6, d0
    cpacr = 0xD5181040  # MSR CPACR_EL1, x0
    program = [*move(0, 3 << 20), cpacr, ISB, *move(5, PATTERN), write, WFI, read, *report(6)]
    other = [*move(0, 3 << 20), cpacr, ISB, *move(5, MASK), write, WFI]
    first = Guest(machine, code(*program))
    second = Guest(machine, code(*other), Vm(machine, 1))
    assert first.run().name == second.run().name == "WFI"
    assert first.reports(1) == [PATTERN]


@pytest.mark.parametrize("what", ["page", "vCPU", "table"])
def test_the_host_cannot_execute_what_it_gave(machine: Machine, what: str) -> None:
    guest = Guest(machine, WAIT)
    frames = {"page": guest.vm.pages[RAM], "vCPU": guest.vm.contexts[0], "table": guest.vm.tables[3, RAM]}
    backend = machine.backend
    assert isinstance(backend, PayloadBackend)
    with pytest.raises(HostFault):
        backend.execute(frames[what])
    assert guest.run().name == "WFI"


@pytest.mark.raw_memory
def test_host_memory_faults_until_it_is_reclaimed(machine: Machine) -> None:
    guest = Guest(
        machine, code(*move(28, RAM + 0x800), *move(5, PATTERN), access(STORES["str x"][0], 5), WFI)
    )
    frame = guest.vm.pages[RAM]
    assert guest.run().name == "WFI"
    assert machine.physical(frame)[0x800:0x808] == PATTERN.to_bytes(8, "little")
    with pytest.raises(HostFault):
        machine.backend.memory(frame, 8)
    guest.vm.kill()
    machine.ok("vcpu_put")
    machine.ok("reclaim", frame=frame)
    assert machine.frame_record(frame).kind == Kind.HOST
    assert machine.backend.memory(frame, PAGE) == bytes(PAGE)
    machine.backend.write(frame, b"the host's again")


@pytest.mark.parametrize("where", ["records", "host tables", "VM records", "below RAM"])
def test_the_host_cannot_reach_the_engine(machine: Machine, where: str) -> None:
    layout = machine.layout
    addresses = {
        "records": layout.frame_records, "host tables": layout.host_level2, "VM records": layout.vm_records,
        "below RAM": 0x3FFF_F000,
    }  # fmt: skip
    with pytest.raises(HostFault):
        machine.backend.memory(addresses[where], 8)
    with pytest.raises(HostFault):
        machine.backend.write(addresses[where], bytes(8))


def test_exits_are_counted(machine: Machine) -> None:
    wfi = next(line.value for line in ABI.exits if line.name == "WFI")
    before = machine.ok("stats", kind=1, index=wfi).results["value"]
    guest = Guest(machine, WAIT)
    for _ in range(3):
        guest.run()
    assert machine.ok("stats", kind=1, index=wfi).results["value"] == before + 3
