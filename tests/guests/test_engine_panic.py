"""An engine bug, made by breaking an instruction in RAM: the dump comes out decoded and ends every wait."""

from __future__ import annotations

import os
import re

import pytest

from bulkhead.image import build
from bulkhead.inspect.panic import parse_panic
from bulkhead.machine.errors import EnginePanic
from bulkhead.machine.guest import MIB
from bulkhead.machine.hypervisor import MachineSpec, hypervisor
from bulkhead.machine.options import RunOptions
from bulkhead.machine.qemu import RAM_BASE
from bulkhead.machine.run import read_guest, status_of
from bulkhead.provision import qemu

pytestmark = [pytest.mark.qemu, pytest.mark.slow]

BRK = 0xD4200020  # brk #1 (Arm ARM C6.2.41)


def test_a_panic_is_decoded_with_names_and_source_lines() -> None:
    images = build.build()
    guest = read_guest(RunOptions(memory=64 * MIB, cpus=1))
    spec = MachineSpec(image=images.image, engine=images.elf, program=str(qemu.ensure()), time_limit=120)
    with pytest.raises(EnginePanic) as caught, hypervisor(spec, guest.store()) as host:
        with host.view() as view:
            # Not executed yet, so that QEMU has not translated it yet.
            place = view.physical(view.symbols.address("vm_create"))
        os.pwrite(host.machine.ram, BRK.to_bytes(4, "little"), place - RAM_BASE)
        host.start(guest.plan)
    dump = parse_panic(caught.value.dump)
    assert dump is not None
    assert dump.complete
    assert dump.values["esr"] >> 26 == 0x3C
    assert "cause: BRK" in caught.value.decoded
    assert "vm_create" in caught.value.decoded
    assert re.search(r"elr = .*vm_create.* \(core/src/\S+\.rs:\d+\)", caught.value.decoded)
    assert dump.backtrace
    assert "host_call" in caught.value.decoded, "it tells who called"
    assert status_of(caught.value) == 4
