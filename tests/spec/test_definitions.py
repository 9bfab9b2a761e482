"""The specification of what does not change ownership: complete, runs on terms, and about the words that there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkhead import abi
from bulkhead.prove import smt
from bulkhead.prove.symbolic import SymbolicMap, unknown_state
from bulkhead.spec import declassified, dispatch
from bulkhead.spec.calls import DEFINITIONS, STEP_DEFINITIONS, tested
from bulkhead.spec.state import Inputs, State
from bulkhead.spec.syndrome import Syndrome
from bulkhead.spec.vcpu import Taken, take
from bulkhead.spec.words import Word

ABI = abi.load()


def unknown() -> State:
    """A state and inputs about which nothing is known."""
    state = unknown_state(lambda _name, _key: None)
    cpu, identification, power = (smt.function(one, 64, 64) for one in ("state_cpu", "identification", "power"))
    name = smt.variable
    inputs = Inputs(
        name("lock"),
        name("entropy"),
        (name("random0"), name("random1"), name("random2")),
        lambda one: identification(smt.word(one) if isinstance(one, int) else one),
        (name("calls"), name("exits"), name("stages")),
        (name("opaque"),),
        lambda one: power(smt.word(one) if isinstance(one, int) else one),
        name("firmware"),
    )
    config = replace(state.config, has_random=name("has_random"))
    return replace(state, config=config, cpu=SymbolicMap[Word](cpu), inputs=inputs)


def symbolic(name: str, definition: tested.Definition) -> Taken:
    """A step on terms."""
    arguments = {argument: smt.variable(argument) for argument in tested.parameters(definition)}
    syndrome = Syndrome(smt.variable("esr"), smt.variable("far"), smt.variable("hpfar"))
    return take(name, unknown(), lambda t: definition(t, **arguments), smt.variable("vcpu_frame"), syndrome)


@pytest.mark.parametrize("name", tested.TESTED)
def test_a_definition_runs_on_terms(name: str) -> None:
    definition = tested.TESTED[name]
    taken = symbolic(name, definition)
    assert all(need.label for need in taken.outcome.needs)
    is_plain = {name.removeprefix(tested.OF_VM) for name in ("unknown",)}
    if name.removeprefix(tested.OF_VM) not in is_plain:
        assert taken.outcome.success is not False


@pytest.mark.parametrize("name", DEFINITIONS)
def test_busy_is_the_first_error_of_what_changes_ownership(name: str) -> None:
    taken = symbolic(name, tested.LOCKED_CALLS[name])
    first, *others = (need.label for need in taken.outcome.needs)
    assert first == "BUSY"
    plain = take(name, unknown(), lambda t: _with_variables(DEFINITIONS[name], t), smt.variable("vcpu_frame"))
    assert others == [need.label for need in plain.outcome.needs]


def _with_variables(definition: tested.Definition, t: object) -> None:
    definition(t, **{argument: smt.variable(argument) for argument in tested.parameters(definition)})


def test_every_call_and_standard_function_has_a_definition() -> None:
    specified = {*tested.HOST_CALLS, *tested.POWER, *tested.LOCKED_CALLS}
    standard = {line.name for line in ABI.standards}
    of_host = {line.name for line in ABI.calls if line.caller == "host" and not line.reserved}
    of_vm = {line.name for line in ABI.calls if line.caller == "vm" and not line.reserved}
    only_vm = {"VENDOR_HYP_FEATURES", "PSCI_CPU_SUSPEND"}
    assert specified - {"unknown"} == of_host | standard - only_vm
    vm_names = {name.removeprefix(tested.OF_VM) for name in tested.VM_CALLS}
    assert vm_names - {"unknown"} == of_vm | standard - {"VENDOR_HYP_REVISION"}
    assert {*STEP_DEFINITIONS} - {"first_touch"} <= vm_names


def test_arguments_are_those_of_the_call_table() -> None:
    for name, definition in (tested.HOST_CALLS | tested.LOCKED_CALLS).items():
        if name in {line.name for line in ABI.calls}:
            names = tuple(one for one in tested.parameters(definition) if one != "cpu")
            assert names == ABI.call(name).args, name


def test_every_exit_class_says_where_its_data_comes_from() -> None:
    assert {line.name: len(line.data) for line in ABI.exits} == {
        name: len(sources) for name, sources in declassified.HOST_LEARNS.items()
    }


def test_reserved_and_unknown_ids_have_no_definition() -> None:
    ids = {line.id for line in ABI.calls if line.caller == "host" and line.reserved}
    assert ids and not ids & dispatch.HOST.keys()
    only_hosts = {line.id for line in ABI.calls if line.caller == "host"} - {
        line.id for line in ABI.calls if line.caller == "vm"
    }
    assert not only_hosts & dispatch.VM.keys()
