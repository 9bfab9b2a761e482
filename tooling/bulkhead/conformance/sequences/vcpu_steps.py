"""How steps of vCPUs and calls beside ownership are carried out on the fake machine. Trust label: TOOL.

A step of a vCPU happens on a CPU; where none is loaded it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from bulkhead.conformance.oracle.vcpus import VcpuOracle
from bulkhead.conformance.testing.machine import MASK
from bulkhead.spec.context import ContextWord, register
from bulkhead.spec.state import Kind, Run

HOST_CALL, HVC, EXCEPTION, INTERRUPT, SERROR = "host call", "VM's hvc", "exception", "interrupt", "SError"
VM_RUNS, ENTROPY, STARTED_TWICE = "VM runs", "entropy", "started twice"
RUN_ARGUMENTS = ("vcpu", "reply", "lr0", "lr1", "lr2", "control")
VALUES = (0, 1, MASK, 1 << 63, 0x1234_5678_9ABC_DEF0, 0xFFFF_FFFF_8000_0080)
"""What registers hold; few, so that special ones meet."""
PSTATES = (0x3C5, 0x3C4, 0x3C0, 0x3C5 | 1 << 22, 0x3C5 | 1 << 24 | 1 << 21 | 3 << 10, 0x1D0, 0xF000_03C5)
"""EL1h, EL1t, EL0, with PAN, with DIT, SS and BTYPE, AArch32, with flags."""
Arguments = Mapping[str, int]


def vcpu_run(oracle: VcpuOracle, cpu: int, arguments: Arguments) -> None:
    """The host runs a vCPU."""
    __tracebackhide__ = True
    oracle.host_call(cpu, "vcpu_run", *(arguments.get(name, 0) for name in RUN_ARGUMENTS))


def vcpu_put(oracle: VcpuOracle, cpu: int, _: Arguments) -> None:
    """The host lets a vCPU go."""
    __tracebackhide__ = True
    oracle.host_call(cpu, "vcpu_put")


def host_call(oracle: VcpuOracle, cpu: int, arguments: Arguments) -> None:
    """Any other call of the host."""
    __tracebackhide__ = True
    oracle.host_call(cpu, *arguments.values())


def hvc(oracle: VcpuOracle, cpu: int, arguments: Arguments) -> None:
    """A call of the vCPU."""
    __tracebackhide__ = True
    oracle.hvc(cpu, *arguments.values())


def exception(oracle: VcpuOracle, cpu: int, arguments: Arguments) -> None:
    """Another exception of the vCPU."""
    __tracebackhide__ = True
    oracle.exception(cpu, *arguments.values())


def interrupt(oracle: VcpuOracle, cpu: int, arguments: Arguments) -> None:
    """A physical interrupt."""
    __tracebackhide__ = True
    oracle.interrupt(cpu, arguments["intid"])


def system_error(oracle: VcpuOracle, cpu: int, _: Arguments) -> None:
    """An SError interrupt."""
    __tracebackhide__ = True
    oracle.system_error(cpu)


def vm_runs(oracle: VcpuOracle, cpu: int, arguments: Arguments) -> None:
    """The VM changes some of its registers, and the hardware around it is another."""
    random = Random(arguments["seed"])
    pick = random.choice
    system = {
        "SCTLR_EL1": pick((1 << 44, 1 << 23)),  # DSSBS, SPAN
        "VBAR_EL1": pick(VALUES) & -2048 & MASK,
        "CNTV_CTL_EL0": pick((0, 1, 2, 3, 5)),
        "CNTV_CVAL_EL0": pick(VALUES),
    }
    for name, value in system.items():
        oracle.set_word(cpu, register(name), value)
    oracle.set_word(cpu, ContextWord.PSTATE, pick(PSTATES))
    for number in random.sample(range(ContextWord.ZERO), 4):
        oracle.set_word(cpu, number, pick(VALUES))
    oracle.backend.cpu(cpu).maintenance = random.getrandbits(8)
    oracle.backend.identification[random.randrange(64)] = random.getrandbits(64)


def entropy(oracle: VcpuOracle, _cpu: int, arguments: Arguments) -> None:
    """The random source is empty, or not."""
    oracle.hold_entropy(bool(arguments["empty"]))


def started_twice(oracle: VcpuOracle, cpu: int, arguments: Arguments) -> None:
    """The vCPU turns another one on, whose context is at `vcpu`, while a third one is doing so."""
    __tracebackhide__ = True
    frame = oracle.machine.index(arguments["vcpu"])
    record = oracle.ghost.state.frame[frame]
    if record.kind == Kind.VCPU and record.parent == Run.OFF:
        with oracle.ghost.starting(frame):
            oracle.hvc(cpu, "PSCI_CPU_ON", arguments["affinity"], arguments["entry"], 0)


OF_HOST: Mapping[str, Callable[[VcpuOracle, int, Arguments], None]] = {
    "vcpu_run": vcpu_run, "vcpu_put": vcpu_put, HOST_CALL: host_call, ENTROPY: entropy,
}  # fmt: skip
OF_VCPU: Mapping[str, Callable[[VcpuOracle, int, Arguments], None]] = {
    HVC: hvc, EXCEPTION: exception, INTERRUPT: interrupt, SERROR: system_error, VM_RUNS: vm_runs,
    STARTED_TWICE: started_twice,
}  # fmt: skip

ALL = {**OF_HOST, **OF_VCPU}


def carry_out(oracle: VcpuOracle, name: str, cpu: int, arguments: Arguments, *, locked: bool = False) -> None:
    """A step of these names, while another CPU holds the ownership lock if `locked`."""
    __tracebackhide__ = True
    if name in OF_VCPU and oracle.loaded(cpu) is None:
        return
    oracle.hold_lock(locked)
    try:
        ALL[name](oracle, cpu, arguments)
    finally:
        oracle.hold_lock(False)
