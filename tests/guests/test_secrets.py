"""What a guest keeps to itself is in its own frames only, out of the hypervisor's reach, and gone when it is gone."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable

import pytest

from bulkhead.inspect import checks
from bulkhead.inspect.engine import FRAMES
from bulkhead.inspect.pagetable import Reach
from bulkhead.inspect.records import Kind
from bulkhead.machine.guest import MIB
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor
from bulkhead.machine.qemu import KERNEL_ADDRESS, RAM_BASE

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

Boot = Callable[..., GuestConsole]

SCRIPT_SECONDS = 60.0
# The guest itself makes the bytes from a number: only the number crosses the link.
MAKE_SECRET = r"""
set -e
hex=$(printf %s NONCE | sha512sum | cut -c1-128)
printf "$(printf %s "$hex" | sed 's/../\\x&/g')" > /secret
test $(wc -c < /secret) = 64
sha512sum < /secret | cut -c1-128
"""
PROBES = ("read", "write", "execute")
WRITTEN = 0x4242_4242_4242_4242  # what the hypervisor's write probe stores


def make_secret(console: GuestConsole) -> bytes:
    """64 bytes that exist in the guest and, computed again, here; they were never on the link."""
    nonce = secrets.token_hex(16)
    secret = hashlib.sha512(nonce.encode()).digest()
    result = console.run(MAKE_SECRET.replace("NONCE", nonce), SCRIPT_SECONDS)
    assert result.output.decode().strip() == hashlib.sha512(secret).hexdigest(), (
        "the guest has the same bytes"
    )
    assert result.status == 0
    return secret


def test_a_secret_is_in_the_guests_frames_only_and_gone_afterwards(host: Hypervisor, boot: Boot) -> None:
    console: GuestConsole = boot(memory=512 * MIB, cpus=2)
    secret = make_secret(console)
    marker = os.urandom(64)
    planted = host.shim.poke(marker)
    with host.view() as view:
        found = checks.sightings(view, secret)
        assert found, "the scan sees what is there"
        assert {(one.owner, one.host_reaches) for one in found} == {(f"vm {console.vm}", False)}
        control = checks.sightings(view, marker)
        assert (planted, "host", True) in {(one.address, one.owner, one.host_reaches) for one in control}
        assert checks.isolation_faults(view) == []
    assert host.shim.peek(planted, 64) == marker
    assert host.shim.probe(found[0].address & -8, "read").faulted
    destroyed = host.destroy(console.vm, running=True)
    assert destroyed.scrubbed
    assert destroyed.frames == len(host.frames[console.vm])
    with host.view() as view:
        assert checks.sightings(view, secret) == []
        assert checks.sightings(view, marker), "the scan still sees what is there"


def places_out_of_reach(host: Hypervisor, vm: int) -> dict[str, int]:
    """Physical addresses that the hypervisor must not reach, by what they are."""
    with host.view() as view:
        own = view.frames_of(vm)
        reach = Reach(view.host_mappings())
        places = {
            f"VM {kind.name}": view.frame_address(
                next(frame for frame, one in own.items() if one.kind == kind)
            )
            for kind in (Kind.VM_PAGE, Kind.VM_TABLE, Kind.VCPU)
        }
        host_table = next(frame for frame, one in view.records() if one.kind == Kind.HOST_TABLE)
        places |= {
            "host level 3 table": view.frame_address(host_table),
            "engine text": KERNEL_ADDRESS,
            "engine VM records": view.physical(view.symbols.address("VMS")),
            "engine frame records": view.physical(FRAMES),
            "engine stage 1": view.el2_root,
            "host stage 2": view.host_root,
            "redistributor": 0x080A_0000,
            "engine console": 0x0900_0000,
            "fw_cfg": 0x0902_0000,
            "SMMU": 0x0905_0000,
        }
        assert not any(address in reach for address in places.values())
        return places


def test_the_hypervisor_faults_wherever_it_must_not_reach_and_goes_on(host: Hypervisor, boot: Boot) -> None:
    console: GuestConsole = boot()
    places = places_out_of_reach(host, console.vm)
    secret = make_secret(console)
    for name, address in places.items():
        for kind in PROBES:
            assert host.shim.probe(address, kind).faulted, f"{kind} of {name} at {address:#x}"
    with host.view() as view:
        assert checks.isolation_faults(view) == []
        for name, address in places.items():
            if address >= RAM_BASE:
                assert view.ram.word(address) != WRITTEN, name
        assert checks.sightings(view, secret)
    own = host.shim.poke(b"reachable")
    assert not host.shim.probe(own & -8, "read").faulted, "the probe can also succeed"
    assert console.run("echo alive", SCRIPT_SECONDS).output == b"alive\n"


def test_two_guests_do_not_share_a_frame(host: Hypervisor, boot: Boot) -> None:
    consoles: list[GuestConsole] = [boot(), boot()]
    kept = [make_secret(console) for console in consoles]
    with host.view() as view:
        assert checks.isolation_faults(view) == []
        for console, secret in zip(consoles, kept, strict=True):
            assert {one.owner for one in checks.sightings(view, secret)} == {f"vm {console.vm}"}
        frames = [set(view.frames_of(console.vm)) for console in consoles]
        reached = [{one.output for one in view.vm_mappings(console.vm)} for console in consoles]
    assert frames[0].isdisjoint(frames[1])
    assert reached[0].isdisjoint(reached[1])
    host.destroy(consoles[0].vm, running=True)
    with host.view() as view:
        assert checks.sightings(view, kept[0]) == []
        assert checks.sightings(view, kept[1])
    assert consoles[1].run("sha512sum < /secret | cut -c1-128", SCRIPT_SECONDS).output.decode().strip() == (
        hashlib.sha512(kept[1]).hexdigest()
    )
