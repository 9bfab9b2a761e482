"""The table of calls and everything that derives from it: current, complete, and what the built engine has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bulkhead import abi
from bulkhead.conformance.backends import native
from bulkhead.spec import ARGUMENTS, CALLS

ABI = abi.load()
DERIVED = abi.derivations()
RUST = abi.ROOT / "engine/abi/src/generated.rs"
HEADER = abi.ROOT / "engine/abi/include/bulkhead.h"
REFERENCE = abi.ROOT / "engine/docs/calls.md"
STUBS = abi.ROOT / "hypervisor-shim/el1/src/hvc.rs"
STUB = re.compile(r"(\w+) = (\w+)\(([\w,\s]*)\) -> (\d+);")
HOST_CALLS = [call for call in ABI.calls if call.caller == "host" and not call.reserved]


def test_there_is_one_version() -> None:
    shim = tomllib.loads((abi.ROOT / "hypervisor-shim" / "Cargo.toml").read_text())
    assert shim["workspace"]["package"]["version"] == abi.release()
    assert abi.load().version == abi.version_word(abi.release())
    assert abi.version_word("2.3.4") == 0x2_0003_0004


@pytest.mark.parametrize("path", DERIVED, ids=lambda path: path.name)
def test_derived_files_are_current(path: Path) -> None:
    assert path.read_text() == DERIVED[path], "run `python -m bulkhead.abi`"


@pytest.mark.parametrize("call", ABI.calls, ids=lambda call: call.name)
def test_every_call_is_everywhere(call: abi.Call) -> None:
    number = f"0x{call.id:08X}"
    assert f"pub const {call.name.upper()}: u64 = {number};" in RUST.read_text()
    assert f"#define BULKHEAD_{call.name.upper()} {number}u" in HEADER.read_text()
    assert f"| {number} | `{call.name}` |" in REFERENCE.read_text()
    assert ABI.call(call.name) is call


@pytest.mark.parametrize("standard", ABI.standards, ids=lambda standard: standard.name)
def test_every_standard_id_is_everywhere(standard: abi.Standard) -> None:
    number = f"0x{standard.id:08X}"
    assert f"pub const {standard.name}: u64 = {number};" in RUST.read_text()
    assert f"#define BULKHEAD_{standard.name} {number}u" in HEADER.read_text()
    assert f"| {number} | {standard.name} |" in REFERENCE.read_text()


@pytest.mark.parametrize("status", ABI.statuses, ids=lambda status: status.name)
def test_every_status_is_everywhere(status: abi.Status) -> None:
    assert f"pub const {status.name}: u64 = {status.value}i64 as u64;" in RUST.read_text()
    assert f"#define BULKHEAD_{status.name} ({status.value})" in HEADER.read_text()
    assert f"| {status.value} | {status.name} |" in REFERENCE.read_text()
    assert ABI.status_name(status.value & (1 << 64) - 1) == status.name


@pytest.mark.parametrize("feature", ABI.features, ids=lambda feature: feature.name)
def test_every_feature_is_everywhere(feature: abi.Feature) -> None:
    assert f"pub const {feature.name}: u64 = 1 << {feature.bit};" in RUST.read_text()
    assert f"#define BULKHEAD_FEATURE_{feature.name} (1ull << {feature.bit})" in HEADER.read_text()
    assert f"| {feature.bit} | {feature.name} |" in REFERENCE.read_text()


def test_kvm_numbers_are_kvms() -> None:
    """Linux include/linux/arm-smccc.h: ARM_SMCCC_VENDOR_HYP_KVM_*; a kernel finds them by this UID."""
    numbers = {call.name: call.id for call in ABI.calls if call.caller == "vm"}
    assert (numbers["meminfo"], numbers["share"], numbers["unshare"]) == (0xC6000002, 0xC6000003, 0xC6000004)
    words = [int.from_bytes(ABI.vm_uid.bytes[4 * n : 4 * n + 4], "little") for n in range(4)]
    assert words == [0xB66FB428, 0xE911C52E, 0x564BCAA9, 0x743A004D]


@pytest.mark.parametrize("exit_", ABI.exits, ids=lambda exit_: exit_.name)
def test_every_exit_class_is_everywhere(exit_: abi.ExitClass) -> None:
    assert f"pub const {exit_.name}: u64 = {exit_.value};" in RUST.read_text()
    assert f"#define BULKHEAD_EXIT_{exit_.name} {exit_.value}" in HEADER.read_text()
    assert f"| {exit_.value} | {exit_.name} |" in REFERENCE.read_text()
    assert len(exit_.data) <= 3, "x2, x3 and x4 carry the data of an exit"


def test_numbers_are_unique() -> None:
    for numbers in (
        [call.id for call in ABI.calls if call.caller == "host"]
        + [standard.id for standard in ABI.standards],
        [call.id for call in ABI.calls if call.caller == "vm"] + [standard.id for standard in ABI.standards],
        [feature.bit for feature in ABI.features],
        [status.value for status in ABI.statuses],
        [exit_.value for exit_ in ABI.exits],
        [death.value for death in ABI.deaths],
    ):
        assert len(set(numbers)) == len(numbers)


def test_ids_lie_in_the_vendor_hypervisor_range() -> None:
    for call in ABI.calls:
        fast, is_64bit, owner = call.id >> 31, call.id >> 30 & 1, call.id >> 24 & 0x3F
        assert (fast, is_64bit, owner) == (1, 1, 6), call.name


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("id = 0xC6000001", "id = 0xC6000000"),
        ('name = "features"', 'name = "version"'),
        ("value = -2", "value = -3"),
        ("id = 0x80000000", "id = 0xC6000000"),
    ],
)
def test_a_number_declared_twice_is_refused(tmp_path: Path, line: str, other: str) -> None:
    text = abi.TABLE.read_text()
    assert line in text
    path = tmp_path / "abi.toml"
    path.write_text(text.replace(line, other, 1))
    with pytest.raises(ValueError, match="declared twice"):
        abi.load(path)


def built_table() -> list[abi.Call]:
    """The table inside the host build of the engine; names of registers are not in it."""
    ffi, lib = native.engine()
    line = ffi.new("CallLine *")
    lines: list[abi.Call] = []
    while lib.bulkhead_call_line(len(lines), line):
        lines.append(
            abi.Call(
                name=ffi.string(ffi.cast("char *", line.name), line.name_length).decode(),
                id=line.id,
                caller="host" if line.by_host else "vm",
                doc="",
                args=("",) * line.args,
                results=("",) * line.results,
                changes_ownership=line.changes_ownership,
                reserved=line.reserved,
            )
        )
    return lines


def test_the_built_engine_has_this_table() -> None:
    def shape(call: abi.Call) -> tuple[object, ...]:
        numbers = (call.id, len(call.args), len(call.results))
        return (call.name, *numbers, call.caller, call.changes_ownership, call.reserved)

    assert [shape(call) for call in built_table()] == [shape(call) for call in ABI.calls]


@pytest.mark.parametrize("call", HOST_CALLS, ids=lambda call: call.name)
def test_the_host_program_has_a_stub(call: abi.Call) -> None:
    stubs = {name: (constant, arguments, int(results)) for name, constant, arguments, results in
             STUB.findall(STUBS.read_text())}  # fmt: skip
    constant, arguments, results = stubs[call.name]
    assert constant == call.name.upper()
    assert tuple(re.findall(r"\w+", arguments)) == call.args
    assert results == len(call.results)


def test_the_specification_names_arguments_alike() -> None:
    changing = {call.name: call.args for call in ABI.calls if call.changes_ownership}
    assert changing == {name: ARGUMENTS[name] for name in CALLS}
