"""A stock kernel's own driver for the TRNG calls (arm_smccc_trng) finds them, and /dev/hwrng gives bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkhead.machine.guest_console import GuestConsole

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.slow]

SCRIPT = """
set -e
cat /sys/class/misc/hw_random/rng_current
head -c 4096 /dev/hwrng > /bytes
wc -c < /bytes
sha512sum < /bytes | cut -c1-128
gzip -c /bytes | wc -c
"""


def test_two_guests_draw_different_numbers(boot: Callable[..., GuestConsole]) -> None:
    digests = set()
    for console in (boot(), boot()):
        driver, length, digest, packed = console.run(SCRIPT, 60.0).output.decode().split()
        assert (driver, int(length)) == ("smccc_trng", 4096)
        assert int(packed) > 4096, "random bytes do not get smaller"
        digests.add(digest)
    assert len(digests) == 2
