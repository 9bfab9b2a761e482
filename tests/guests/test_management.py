"""The management link: nothing that arrives on it takes the hypervisor down, and refusals change nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest

from bulkhead.machine.errors import LinkError
from bulkhead.machine.framing import encode_frame
from bulkhead.machine.hypervisor import KERNEL, Hypervisor

pytestmark = [pytest.mark.qemu, pytest.mark.guest]

ROOT = Path(__file__).resolve().parents[2]
NO_VM = 15
REFUSED_REQUEST = 2  # code of a refusal of a malformed request
DTB = b"\xd0\x0d\xfe\xed"
START = {
    "kernel": KERNEL, "initrd": None, "dtb": DTB, "kernel_address": 0x4020_0000, "initrd_address": 0,
    "dtb_address": 0x4000_0000, "entry": 0x4020_0000, "ram": [[0x4000_0000, 0x400_0000]], "cpus": 1,
}  # fmt: skip
REFUSED: dict[str, tuple[str, dict[str, object]]] = {
    "unknown operation": ("no_such_operation", {}),
    "missing argument": ("console", {"vm": 0}),
    "argument of another type": ("console", {"vm": "zero", "data": b""}),
    "no such VM": ("destroy", {"vm": NO_VM}),
    "absurd VM": ("stop", {"vm": (1 << 64) - 1}),
    "negative VM": ("stop", {"vm": -1}),
    "unknown probe": ("probe", {"address": 0, "kind": "lick"}),
    "too long a peek": ("peek", {"address": 0x4000_0000, "length": 1 << 40}),
    "kernel that is not in the store": ("start", {**START, "kernel": "no such file"}),
    "no vCPU": ("start", {**START, "cpus": 0}),
    "too many vCPUs": ("start", {**START, "cpus": 1 << 33}),
    "no RAM": ("start", {**START, "ram": []}),
    "RAM that wraps": ("start", {**START, "ram": [[0xFFFF_FFFF_FFFF_F000, 0x2000]]}),
    "more RAM than there are addresses": ("start", {**START, "ram": [[0x4000_0000, 1 << 60]]}),
    "kernel outside RAM": ("start", {**START, "kernel_address": 0x1000}),
    "disk that is not in the store": ("start", {**START, "disk": "no such file"}),
    "disk that is no name": ("start", {**START, "disk": 7}),
    "disk smaller than its image": ("start", {**START, "disk": KERNEL, "disk_size": 512}),
    "disk of absurd size": ("start", {**START, "disk_size": (1 << 64) - 1}),
    "disk larger than a disk can be": ("start", {**START, "disk_size": (128 << 20) + 1}),
    "disk of a VM that cannot be": ("start", {**START, "disk_size": 8 << 20, "ram": [[0x4000_0000, 1]]}),
    "first program that is not aligned": ("start", {**START, "first": b"1234", "first_address": 0x4000_0001}),
    "first program outside RAM": ("start", {**START, "first": b"1234", "first_address": 0x1000}),
    "device tree that is no bytes": ("start", {**START, "dtb": 7}),
}


REQUESTS: dict[str, dict[str, object]] = {
    "ping": {}, "stats": {}, "vms": {}, "shutdown": {}, "log": {"offset": 0}, "console": {"vm": 0, "data": b""},
    "stop": {"vm": 0}, "destroy": {"vm": 0}, "probe": {"address": 0x4000_0000, "kind": "read"}, "poke": {"data": b"x"},
    "peek": {"address": 0x4000_0000, "length": 8}, "cpu_off": {"cpu": 1}, "cpu_on": {"cpu": 1},
    "start": {**START, "time": 0, "disk": None, "disk_size": 0, "first": None, "first_address": None},
}  # fmt: skip
"""A well-formed request of each operation, with every argument that it has."""
OPTIONAL = {"offset", "time", "disk", "disk_size", "initrd", "first", "first_address"}
VALUES: dict[str, object] = {
    "integer": 1, "negative": -1, "too large": 1 << 64, "text": "x", "bytes": b"x", "array": [[1, 2]], "map": {"a": 1},
    "truth": True, "fraction": 0.5, "nothing": None, "undefined": cbor2.undefined, "tag": cbor2.CBORTag(24, b"x"),
    "nested": [[[[[[[[]]]]]]]],
}  # fmt: skip
FITTING: dict[type, set[str]] = {
    int: {"integer"}, str: {"text"}, bytes: {"bytes"}, list: {"array"},
    type(None): {"nothing", "integer", "text", "bytes"},
}  # fmt: skip
"""Kinds of values that are not refused for their type, by the type of a good one."""
PAIR = b"\x61z\x01"  # z: 1


def encoded(arguments: dict[str, object], more: int = 0) -> bytes:
    """A map, which claims `more` entries than it has."""
    return bytes([0xA0 + len(arguments) + more]) + b"".join(
        cbor2.dumps(name) + cbor2.dumps(value) for name, value in arguments.items()
    )


def malformed(operation: str) -> Iterator[tuple[str, bytes]]:
    """Every way to spoil the arguments of a good request: what was done, and the bytes."""
    good = REQUESTS[operation]
    whole = encoded(good)
    yield "one more", encoded(good, 1) + PAIR
    yield "a promised one is missing", encoded(good, 1)
    yield "something behind them", whole + b"\x00"
    yield "no end", b"\xbf" + whole[1:] + b"\xff"
    yield "so many", b"\xbb" + b"\xff" * 8 + whole[1:]
    for what, value in VALUES.items():
        if what != "map":
            yield f"{what} in their place", cbor2.dumps(value)
    yield "a name that is none", encoded(good, 1) + b"\x01\x01"
    for name, value in good.items():
        others = {one: other for one, other in good.items() if one != name}
        yield f"{name} twice", encoded(good, 1) + encoded({name: value})[1:]
        if name not in OPTIONAL:
            yield f"without {name}", encoded(others)
        for what, wrong in VALUES.items():
            fits = FITTING[type(value)] | ({"nothing"} if name in OPTIONAL else set())
            if what not in fits:
                yield f"{what} as {name}", encoded({**others, name: wrong})
        yield f"{name} without end", encoded(others, 1) + cbor2.dumps(name) + b"\x5b" + b"\xff" * 8


def test_the_operations_are_those_that_the_hypervisor_has() -> None:
    source = (ROOT / "hypervisor-shim/shim/src/manage.rs").read_text()
    table = source.partition("const OPERATIONS")[2].partition("];")[0]
    assert {*re.findall(r'^    \("(\w+)"', table, re.M)} == set(REQUESTS)


@pytest.mark.parametrize("operation", REQUESTS)
def test_a_malformed_request_is_refused_without_effect(host: Hypervisor, operation: str) -> None:
    before = host.shim.stats()
    with host.view() as view:
        digest = view.digest()
    for what, arguments in malformed(operation):
        with pytest.raises(LinkError) as refusal:
            host.shim.link.call_encoded(operation, arguments)
        assert refusal.value.code == REFUSED_REQUEST, f"{what}: {refusal.value}"
    after = host.shim.stats()
    assert (after.free_frames, after.bad_frames) == (before.free_frames, before.bad_frames)
    assert host.shim.vms() == []
    with host.view() as view:
        assert view.digest() == digest


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_is_refused_without_effect(host: Hypervisor, case: str) -> None:
    operation, arguments = REFUSED[case]
    before = host.shim.stats().free_frames
    with pytest.raises(LinkError):
        host.shim.link.call(operation, arguments)
    assert host.shim.stats().free_frames == before
    assert host.shim.vms() == []


def test_the_request_that_the_bad_ones_vary_is_good(host: Hypervisor) -> None:
    before = host.shim.stats().free_frames
    vm = int(host.shim.link.call("start", START)["vm"])
    assert [state.vm for state in host.shim.vms()] == [vm]
    host.shim.stop(vm)
    assert host.shim.destroy(vm).scrubbed
    assert host.shim.stats().free_frames == before


def test_noise_is_dropped_counted_and_survived(host: Hypervisor) -> None:
    draw = random.Random(20)
    before = host.shim.stats()
    good = encode_frame([77, "ping", {}])
    cut = good[: len(good) // 2]
    flipped = bytes(byte ^ (1 << draw.randrange(8)) or 1 for byte in good[:-1])
    frames = [draw.randbytes(draw.randrange(1, 300)) for _ in range(40)]
    for frame in (*frames, cut, flipped, bytes(20000)):
        host.machine.link.send(frame + b"\0")
        host.shim.ping()
    after = host.shim.stats()
    assert after.bad_frames > before.bad_frames + 20
    assert after.free_frames == before.free_frames
