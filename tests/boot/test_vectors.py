"""Every vector that no domain can reach ends in a dump that names it.

The debugger puts the program counter there while the engine handles a call: the shipped image has no other way.
"""

from __future__ import annotations

import pytest

from boot import machines
from boot.machines import Breakpoints
from bulkhead import abi
from bulkhead.inspect.panic import parse_panic
from bulkhead.machine.errors import EnginePanic
from bulkhead.machine.framing import encode_frame
from bulkhead.machine.qemu import MIB, QemuConfig

pytestmark = pytest.mark.qemu
OWN = range(8)
"""Vectors for exceptions of EL2 itself, in both tables (Arm ARM DDI 0487, D1.3.1.5)."""
WIDTH = range(12, 16)
"""Vectors for a lower level in AArch32, in both tables: the level below is EL1, and HCR_EL2.RW makes it AArch64."""
MASKED = (9, 10, 11)
"""While the host runs: IRQ, FIQ and SError, which go to EL1."""
CASES = [("host", number) for number in (*OWN, *MASKED, *WIDTH)] + [
    ("vm", number) for number in (*OWN, *WIDTH)
]
SIZE = 0x80


@pytest.mark.parametrize(("table", "number"), CASES)
def test_the_dump_names_the_vector(table: str, number: int) -> None:
    with machines.boot(QemuConfig(kernel=machines.image(), cpus=1, memory=256 * MIB)) as booted:
        machine, handler = booted.machine, booted.symbols.address("bulkhead_arch::exits::host_call")
        with machine.paused():
            stub = Breakpoints(machine.gdb, machines.patient(machine))
            stub.stop_at(handler)
        call = {"cpu": 0, "regs": [abi.load().call("version").id] + [0] * 17}
        machine.link.send(encode_frame([1000, "call", call]))
        machine.wait_until(lambda: machine.qmp.execute("query-status")["status"] == "debug", 20, "the call")
        stub.set_register("pc", booted.symbols.address(f"bulkhead_{table}_vectors") + SIZE * number, 0)
        stub.forget(handler)
        with pytest.raises(EnginePanic) as error:
            machine.resume()
            machine.wait_until(lambda: False, 20, "a panic")
        dump = parse_panic(error.value.dump)
        assert dump is not None and dump.complete
        assert dump.values["vector"] == number
