"""The host build under sanitizers: clean, and not when the engine's protocol is broken or the library reads too far."""

from __future__ import annotations

import pytest

from bulkhead import sanitize
from bulkhead.errors import CheckFailed
from bulkhead.image.variant import Edit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("sanitize")]

CORE = "engine/core/src"
BROKEN = {
    "early unlock": Edit(
        f"{CORE}/call/dispatch.rs", "let outcome = ownership_call(", "hw.unlock();\n    let outcome = ownership_call("
    ),
    "no claim": Edit(
        f"{CORE}/vcpu/run.rs", "!hw.exchange_frame_record(frame, record, claimed)",
        "{ hw.set_frame_record(frame, claimed); false }",
    ),
}  # fmt: skip
TRIES = 10
"""Runs in which two CPUs must meet at least once."""
FFI = "engine/host/src/ffi.rs"
TOO_FAR = Edit(FFI, "list.as_ptr(), out, count.min(capacity)", "list.as_ptr(), out, list.capacity() + 1")


def test_nothing_is_wrong() -> None:
    sanitize.main()


@pytest.mark.parametrize("edit", BROKEN.values(), ids=BROKEN.keys())
def test_cpus_that_do_not_keep_to_the_protocol_are_told(edit: Edit) -> None:
    with pytest.raises(CheckFailed, match="ThreadSanitizer: data race"):
        for _ in range(TRIES):
            sanitize.threads([edit])


def test_a_library_that_reads_too_far_is_told() -> None:
    with pytest.raises(CheckFailed, match="AddressSanitizer: heap-buffer-overflow"):
        sanitize.address_of_calls([TOO_FAR], ["tests/native/test_exits.py", "-k", "handle_itself"])
