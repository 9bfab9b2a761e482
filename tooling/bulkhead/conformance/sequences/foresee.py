"""What a step of a vCPU, or a call beside ownership, would show if it came now. Trust label: TOOL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bulkhead.conformance.oracle.vcpus import IDS, VcpuOracle
from bulkhead.conformance.sequences.steps import Step, specified
from bulkhead.conformance.sequences.vcpu_steps import (
    EXCEPTION,
    HOST_CALL,
    HVC,
    INTERRUPT,
    OF_VCPU,
    RUN_ARGUMENTS,
    SERROR,
)
from bulkhead.spec import CALLS, dispatch, pairs
from bulkhead.spec.calls import tested
from bulkhead.spec.dispatch import REGISTERS, Named
from bulkhead.spec.pairs import Pair
from bulkhead.spec.syndrome import Syndrome
from bulkhead.spec.transaction import run
from bulkhead.spec.vcpu import VcpuTransaction

_HOST = Named("unknown", tested.HOST_CALLS["unknown"])
_VM = Named("VM: unknown", tested.VM_CALLS["VM: unknown"])


def pair(oracle: VcpuOracle, step: Step) -> Pair | None:
    """The pair that the step would show; None if it shows none, or cannot happen."""
    if step.name in CALLS:
        if step.locked:
            return pairs.busy(step.name)
        outcome = specified(oracle.ghost, step)
        return None if outcome is None else pairs.of(step.name, outcome)
    if (named := _definition(step)) is None:
        return None
    vcpu = oracle.loaded(step.cpu)
    if step.name in OF_VCPU and vcpu is None:
        return None
    given = step.arguments
    state = oracle.before()
    state = replace(state, inputs=replace(state.inputs, lock=int(step.locked)))
    syndrome = Syndrome(given.get("esr", 0), given.get("far", 0), given.get("hpfar", 0))
    t = VcpuTransaction(state, vcpu or 0, syndrome)
    arguments = dispatch.arguments_of(named.definition, step.cpu, _registers(step))
    outcome = run(state, lambda _: named.definition(t, **arguments), lambda _: t)
    return pairs.of(named.name, outcome)


def _definition(step: Step) -> Named | None:
    given: Mapping[str, int] = step.arguments
    match step.name:
        case "vcpu_run" | "vcpu_put":
            return dispatch.HOST[IDS[step.name]]
        case name if name == HOST_CALL:
            return dispatch.HOST.get(given["x0"], _HOST)
        case name if name == HVC:
            return dispatch.VM.get(given["x0"], _VM)
        case name if name == EXCEPTION:
            long = dispatch.BY_CLASS.get(given["esr"] >> 26 & 0x3F, "VM: other exception")
            return Named(long, tested.EXCEPTIONS[long])
        case name if name == INTERRUPT:
            return Named("VM: interrupt", tested.INTERRUPTS["VM: interrupt"])
        case name if name == SERROR:
            return Named("VM: SError", tested.INTERRUPTS["VM: SError"])
    return None


def _registers(step: Step) -> list[int]:
    """x0 to x17 as the step has them; what it does not name is zero."""
    if step.name == "vcpu_run":
        given = [0, *(step.arguments.get(name, 0) for name in RUN_ARGUMENTS)]
    elif step.name == INTERRUPT:
        given = [0, step.arguments["intid"]]
    elif step.name == EXCEPTION:
        given = []
    else:
        given = list(step.arguments.values())
    return given + [0] * (REGISTERS - len(given))
