"""VMs come and go without a trace: fifty times in one boot the machine returns to exactly the state it had."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkhead.errors import CheckFailed
from bulkhead.inspect import checks
from bulkhead.machine.guest import MIB
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor
from bulkhead.machine.options import RunOptions
from bulkhead.machine.run import measured, read_guest
from bulkhead.machine.shim import ExitReason

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

Boot = Callable[..., GuestConsole]

PAIRS = 25
READY = b"bulkhead-guest: ready"


def state(host: Hypervisor) -> tuple[str, int]:
    """Records, VM slots and the host's stage 2 as one hash, and the number of free frames."""
    with host.view() as view:
        assert view.live_vms() == {}
        assert checks.isolation_faults(view) == []
        digest = view.digest()
    return digest, host.shim.stats().free_frames


def come_and_go(host: Hypervisor, boot: Boot, memory: int) -> None:
    """Two guests at once, from nothing to user space and back to nothing."""
    consoles = [boot(memory=memory, wait=False) for _ in range(2)]
    for console in consoles:
        console.wait(READY, 120)
    for console in consoles:
        assert host.destroy(console.vm, running=True).frames > 64, "the guest had memory"


@pytest.mark.timeout(1800)
def test_fifty_guests_leave_records_tables_and_free_frames_as_they_were(host: Hypervisor, boot: Boot) -> None:
    # Larger guests first: they make the hypervisor split every block that the others will use.
    come_and_go(host, boot, 192 * MIB)
    first = state(host)
    for pair in range(PAIRS):
        come_and_go(host, boot, 64 * MIB)
        assert state(host) == first, f"after pair {pair + 1}"


def test_a_guest_that_switches_itself_off_is_destroyed_like_any_other(host: Hypervisor, boot: Boot) -> None:
    console = boot()
    console.send(b"poweroff -f\n")
    assert console.wait_end(60).reason == ExitReason.OFF
    with host.view() as view:
        assert view.vm(console.vm).state.name == "DYING"
        assert len(view.frames_of(console.vm)) > 64
    assert host.destroy(console.vm, running=False).scrubbed


def test_a_guest_that_resets_says_so(host: Hypervisor, boot: Boot) -> None:
    console = boot()
    console.send(b"reboot -f\n")
    assert console.wait_end(60).reason == ExitReason.RESET
    host.destroy(console.vm, running=False)


def test_a_guest_is_measured_as_its_description_says_and_another_is_noticed(host: Hypervisor) -> None:
    seen = []
    for append in ("quiet one", "quiet one", "quiet two"):
        guest = read_guest(RunOptions(memory=64 * MIB, cpus=1, append=append))
        other = read_guest(RunOptions(memory=64 * MIB, cpus=1, append=append + "s"))
        started = host.start(guest.plan)
        assert started.measurement == measured(host, started.vm, guest.measurement)
        with pytest.raises(CheckFailed, match="not what was asked for"):
            measured(host, started.vm, other.measurement)
        seen.append(started.measurement)
        host.destroy(started.vm, running=True)
    assert seen[0] == seen[1] != seen[2]
