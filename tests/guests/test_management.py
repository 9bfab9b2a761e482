"""The management link: nothing that arrives on it takes the hypervisor down, and refusals change nothing."""

from __future__ import annotations

import random

import pytest

from bulkhead.machine.errors import LinkError
from bulkhead.machine.framing import encode_frame
from bulkhead.machine.hypervisor import KERNEL, Hypervisor

pytestmark = [pytest.mark.qemu, pytest.mark.guest]

NO_VM = 15
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
