"""Random numbers by the TRNG Firmware Interface (Arm DEN 0098): ids, sizes and errors. The numbers themselves come from
the machine; on the host build from a hash of a counter.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bulkhead.conformance import Machine
from bulkhead.conformance.backends.host import HostBackend
from bulkhead.conformance.testing.machine import ABI, MASK, filler

NOT_SUPPORTED, INVALID_PARAMETERS = MASK, -2 & MASK
STANDARD = {standard.name: standard.id for standard in ABI.standards}
FUNCTIONS = [STANDARD[name] for name in STANDARD if name.startswith("TRNG_")]
RND32, RND64 = STANDARD["TRNG_RND32"], STANDARD["TRNG_RND64"]
REST = tuple(filler(register) for register in range(4, 18))
RANDOM = next(1 << feature.bit for feature in ABI.features if feature.name == "RANDOM")


@pytest.fixture
def source(machine: Machine) -> Machine:
    """A machine that has a source."""
    assert machine.ok("features").results["features"] & RANDOM, "the machine has no source of random numbers"
    return machine


def test_version_and_features(source: Machine) -> None:
    assert source.registers(STANDARD["TRNG_VERSION"])[0] == 0x1_0000
    for function in FUNCTIONS:
        regs = source.registers(STANDARD["TRNG_FEATURES"], function)
        assert regs == (0, function, *(filler(register) for register in range(2, 18)))
    for function in (0, 0x8400004F, 0x84000054, 0xC4000052, STANDARD["PSCI_VERSION"], 0xFFFF_FFFF):
        assert source.registers(STANDARD["TRNG_FEATURES"], function)[0] == NOT_SUPPORTED


def test_uuid(source: Machine) -> None:
    regs = source.registers(STANDARD["TRNG_GET_UUID"])
    assert b"".join(word.to_bytes(4, "little") for word in regs[:4]) == ABI.trng_uid.bytes
    assert regs[0] != 0xFFFF_FFFF
    assert regs[4:] == REST


def bits64(machine: Machine, bits: int) -> int:
    """The answer of TRNG_RND64 as one number."""
    status, high, middle, low, *rest = machine.registers(RND64, bits)
    assert status == 0
    assert tuple(rest) == REST
    return high << 128 | middle << 64 | low


def bits32(machine: Machine, bits: int) -> int:
    """The answer of TRNG_RND32 as one number."""
    status, high, middle, low, *rest = machine.registers(RND32, bits)
    assert status == 0
    assert tuple(rest) == REST
    assert max(high, middle, low) < 1 << 32
    return high << 64 | middle << 32 | low


@pytest.mark.parametrize("bits", [1, 7, 32, 63, 64, 65, 127, 128, 129, 191, 192])
def test_64_bit_answers_have_as_many_bits_as_asked_for(source: Machine, bits: int) -> None:
    seen = [bits64(source, bits) for _ in range(48)]
    assert all(number < 1 << bits for number in seen)
    every = ones = 0
    for number in seen:
        every, ones = every | number, ones | (number ^ (1 << bits) - 1)
    # Each bit is seen set and clear; that one of 192 is not has a chance of 2^-39.
    assert every == ones == (1 << bits) - 1
    assert bits < 64 or len(set(seen)) == len(seen)


@pytest.mark.parametrize("bits", [1, 31, 32, 33, 63, 64, 65, 95, 96])
def test_32_bit_answers_have_as_many_bits_as_asked_for(source: Machine, bits: int) -> None:
    seen = [bits32(source, bits) for _ in range(48)]
    every = ones = 0
    for number in seen:
        every, ones = every | number, ones | (number ^ (1 << bits) - 1)
    assert every == ones == (1 << bits) - 1


def test_a_32_bit_call_reads_32_bits_of_its_argument(source: Machine) -> None:
    assert bits32(source, 0xFFFF_FFFF_0000_0000 | 8) < 256


@pytest.mark.host  # the same code on every machine; some sizes are tried on all
def test_every_size_has_its_bits_and_no_others(source: Machine) -> None:
    """0 to beyond the most: the numbers are below 2^bits, and the top bit comes up; all other sizes are refused."""
    for bits in range(1, 193):
        seen = [bits64(source, bits) for _ in range(24)]
        assert max(seen) < 1 << bits
        assert any(number >> bits - 1 for number in seen), f"bit {bits - 1} of {bits} is never set"
    for bits in range(1, 97):
        seen = [bits32(source, bits) for _ in range(24)]
        assert max(seen) < 1 << bits
        assert any(number >> bits - 1 for number in seen), f"bit {bits - 1} of {bits} is never set"
    refused = [(RND64, bits) for bits in (0, *range(193, 260), *(1 << power for power in range(8, 64)))]
    refused += [(RND32, bits) for bits in (0, *range(97, 260), *(1 << power for power in range(7, 64)))]
    for function, bits in refused:
        assert source.registers(function, bits) == (INVALID_PARAMETERS, 0, 0, 0, *REST), f"{bits:#x} bits"


@pytest.mark.parametrize(("function", "bits"), [
    (RND64, 0), (RND64, 193), (RND64, 1 << 32), (RND64, MASK),
    (RND32, 0), (RND32, 97), (RND32, 0xFFFF_FFFF), (RND32, 1 << 32),
])  # fmt: skip
def test_sizes_that_do_not_exist(source: Machine, function: int, bits: int) -> None:
    assert source.registers(function, bits) == (INVALID_PARAMETERS, 0, 0, 0, *REST)


@pytest.fixture
def without_source() -> Iterator[Machine]:
    """A machine without a source."""
    backend = HostBackend(features=0)
    yield Machine(backend)
    backend.close()


@pytest.mark.host
@pytest.mark.parametrize("function", FUNCTIONS, ids=hex)
def test_without_a_source(without_source: Machine, function: int) -> None:
    machine = without_source
    rest = tuple(filler(register) for register in range(2, 18))
    assert machine.registers(function, 64) == (NOT_SUPPORTED, 64, *rest)
