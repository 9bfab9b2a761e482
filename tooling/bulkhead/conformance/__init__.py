"""Conformance: the same checks of the engine's calls on every machine that runs its decisions.

Trust label: TOOL. `backend` is what a machine must offer; `host` (the engine's decisions as a library), `qemu` (the
shipped image with a payload program as its host) and `metal` (the same over a line of bytes) offer it. `machine` makes
calls by name and compares raw records and tables, `builder` makes VMs, `oracle` compares with the specification,
`plugin` is the pytest side. README.md is for those who test with it.
"""

from bulkhead.conformance.backends.backend import Backend, HostFault, Layout
from bulkhead.conformance.testing.builder import Vm
from bulkhead.conformance.testing.machine import Machine, Reply

__all__ = ["Backend", "HostFault", "Layout", "Machine", "Reply", "Vm"]
