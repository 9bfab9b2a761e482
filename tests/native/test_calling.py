"""The calling convention: which ids exist, for whom, what they answer at once, and which registers survive."""

from __future__ import annotations

import pytest

from bulkhead.abi import Call
from bulkhead.conformance import Machine
from bulkhead.conformance.testing.machine import ABI, MASK, difference, filler
from native.scene import Scene

NOT_SUPPORTED = MASK
FIRST = ABI.call("version").id
HOSTS = {call.id for call in ABI.calls if call.caller == "host"}
RESERVED = [call for call in ABI.calls if call.caller == "host" and call.reserved]
OF_VMS = [call for call in ABI.calls if call.caller == "vm" and call.id not in HOSTS]
CHANGING = [call.name for call in ABI.calls if call.changes_ownership and not call.reserved]
STANDARD = {standard.name: standard.id for standard in ABI.standards}
UNKNOWN = [
    0, 1, 0xC6000014, 0xC600001F, 0xC6000026, 0xC6000047, 0xC600FFFF, 0xC6010000, 0x86000000, 0x46000003,
    0xC7000003, 0xC5000003, 0xC4000000, 0x84000001, 0x8400FFFF, 0x8600FF00, 0x80000002, 0x1_C600_0003,
    0xFFFF_FFFF_C600_0003, 1 << 63, (1 << 64) - 1,
]  # fmt: skip


def unsupported(machine: Machine, function: int) -> None:
    """NOT_SUPPORTED, every other register as it was, nothing changed."""
    before = machine.look()
    regs = machine.registers(function)
    assert regs == (NOT_SUPPORTED, *(filler(register) for register in range(1, 18)))
    assert not difference(before, machine.look())


@pytest.mark.parametrize("function", UNKNOWN, ids=hex)
def test_unknown_id(machine: Machine, function: int) -> None:
    assert function not in {call.id for call in ABI.calls}
    unsupported(machine, function)


@pytest.mark.parametrize("call", RESERVED, ids=lambda call: call.name)
def test_reserved_id(machine: Machine, call: Call) -> None:
    unsupported(machine, call.id)


@pytest.mark.parametrize("call", OF_VMS, ids=lambda call: call.name)
def test_call_of_vms_by_the_host(machine: Machine, call: Call) -> None:
    unsupported(machine, call.id)


def test_version(machine: Machine) -> None:
    expected = {"version": ABI.version, "vms": 64, "cpus": machine.layout.cpus}
    assert machine.ok("version").results == expected


def test_features_are_declared(machine: Machine) -> None:
    declared = sum(1 << feature.bit for feature in ABI.features)
    assert machine.ok("features").results["features"] & ~declared == 0


def test_uid(machine: Machine) -> None:
    regs = machine.registers(STANDARD["VENDOR_HYP_UID"])
    assert b"".join(word.to_bytes(4, "little") for word in regs[:4]) == ABI.uid.bytes
    assert regs[4:] == tuple(filler(register) for register in range(4, 18))


def test_revision(machine: Machine) -> None:
    regs = machine.registers(STANDARD["VENDOR_HYP_REVISION"])
    assert regs[:2] == (ABI.version, 0)
    assert regs[2:] == tuple(filler(register) for register in range(2, 18))


def test_smccc_version(machine: Machine) -> None:
    regs = machine.registers(STANDARD["SMCCC_VERSION"])
    assert regs == (0x1_0002, *(filler(register) for register in range(1, 18)))


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (0x80000000, 0),
        (0x80000001, 0),
        (0x80008000, NOT_SUPPORTED),
        (0x80007FFF, NOT_SUPPORTED),
        (0, NOT_SUPPORTED),
    ],
)
def test_smccc_arch_features(machine: Machine, function: int, answer: int) -> None:
    assert machine.registers(STANDARD["SMCCC_ARCH_FEATURES"], function)[0] == answer


def test_psci_version(machine: Machine) -> None:
    assert machine.registers(STANDARD["PSCI_VERSION"])[0] == 0x1_0001


def test_log(machine: Machine) -> None:
    text, offset = b"", 0
    for _ in range(1000):
        results = machine.ok("log_read", offset=offset).results
        count = results["count"]
        assert count <= 64
        if not count:
            break
        part = b"".join(results[f"data{n}"].to_bytes(8, "little") for n in range(8))
        text += part[:count]
        assert results["next"] > offset
        offset = results["next"]
    assert text.startswith(b"[")
    assert text.endswith(b"\n")
    assert machine.ok("log_read", offset=MASK).results["count"] == 0


def test_every_call_has_a_counter(machine: Machine) -> None:
    for call in ABI.calls:
        if call.caller == "host":
            machine.ok("stats", kind=0, index=call.id - FIRST)


def test_stats_count_calls(machine: Machine) -> None:
    index = machine.ok("version").sent[0] - FIRST
    before = machine.ok("stats", kind=0, index=index).results["value"]
    for _ in range(3):
        machine.ok("version")
    assert machine.ok("stats", kind=0, index=index).results["value"] == before + 3


@pytest.mark.parametrize("kind", [3, 1 << 32, MASK])
def test_stats_of_no_kind(machine: Machine, kind: int) -> None:
    machine.refuses("stats", "INVALID_ARGUMENT", "kind", kind=kind, index=MASK)


@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("index", [64, 1 << 16, MASK])
def test_stats_of_no_index(machine: Machine, kind: int, index: int) -> None:
    machine.refuses("stats", "INVALID_ARGUMENT", "index", kind=kind, index=index)


@pytest.mark.raw_memory
@pytest.mark.parametrize("call", CHANGING)
def test_busy_while_another_cpu_changes_ownership(scene: Scene, call: str) -> None:
    arguments = scene.good(call)
    with scene.machine.locked():
        scene.machine.refuses(call, "BUSY", **arguments)
        scene.machine.refuses(call, "BUSY")
    scene.machine.ok(call, **arguments)


@pytest.mark.raw_memory
@pytest.mark.parametrize("call", ["version", "features", "stats", "log_read", "vcpu_put"])
def test_other_calls_do_not_wait(machine: Machine, call: str) -> None:
    with machine.locked():
        machine.ok(call)


@pytest.mark.parametrize("call", CHANGING)
@pytest.mark.parametrize("value", [0, MASK, 0x8000_0000_0000_0000, 0x5555_5555_5555_5555])
def test_senseless_arguments_change_nothing(scene: Scene, call: str, value: int) -> None:
    machine = scene.machine
    names = next(line.args for line in ABI.calls if line.name == call)
    before = machine.look()
    reply = machine.call(call, **dict.fromkeys(names, value))
    changes = difference(before, machine.look())
    killed = call == "vm_kill" and value == 0
    assert (reply.status == "SUCCESS") == killed, reply
    assert bool(changes) == (killed and machine.backend.raw_memory), changes


@pytest.mark.parametrize("call", CHANGING)
def test_unused_registers_mean_nothing(scene: Scene, call: str) -> None:
    line = next(line for line in ABI.calls if line.name == call)
    arguments = scene.good(call)
    values = [arguments.get(name, 0) for name in line.args]
    regs = scene.machine.registers(line.id, *values, *[MASK] * (17 - len(values)))
    assert ABI.status_name(regs[0]) == "SUCCESS"
    assert set(regs[1 + max(len(values), len(line.results)) :]) <= {MASK}


@pytest.mark.raw_memory
def test_calls_from_another_cpu(machine: Machine) -> None:
    root = machine.take()
    machine.ok("vm_create", cpu=1, vm=7, root=root, vcpus=1, ram0_base=0, ram0_size=4096)
    assert machine.frame_record(root).vm == 7
    machine.ok("vm_kill", vm=7)
    machine.ok("vm_destroy", cpu=1, vm=7)
    assert machine.backend.memory(root, 4096) == bytes(4096)
