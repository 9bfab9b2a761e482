"""Tables of what is specified and tested, but not proved: everything that does not change ownership.

Trust label: STATEMENT, tested. `calls.DEFINITIONS` and `calls.STEP_DEFINITIONS` are what the prover takes; calls that
change ownership appear here once more, behind the lock. A parameter `cpu` is the CPU; the others are x1, x2, ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache, wraps

from bulkhead.spec.transaction import Transaction
from bulkhead.spec.words import Word

from . import DEFINITIONS, discovery, exceptions, guest, power, psci, running, traps, trng

Definition = Callable[..., None]


def behind_lock(definition: Definition) -> Definition:
    """The same call, where another CPU may be changing ownership."""

    @wraps(definition)
    def locked(t: Transaction, **arguments: Word) -> None:
        t.need(t.before.inputs.lock == 0, "BUSY")
        definition(t, **arguments)

    return locked


STANDARD: Mapping[str, Definition] = {
    "SMCCC_VERSION": discovery.smccc_version,
    "SMCCC_ARCH_FEATURES": discovery.smccc_arch_features,
    "TRNG_VERSION": trng.version,
    "TRNG_FEATURES": trng.features,
    "TRNG_GET_UUID": trng.get_uuid,
    "TRNG_RND32": trng.rnd32,
    "TRNG_RND64": trng.rnd64,
    "PSCI_VERSION": psci.version,
    "PSCI_MIGRATE_INFO_TYPE": psci.migrate_info_type,
}
"""Functions that answer host and VMs alike."""
HOST_CALLS: Mapping[str, Definition] = {
    "version": discovery.version,
    "features": discovery.features,
    "log_read": discovery.log_read,
    "stats": discovery.stats,
    "vcpu_run": running.vcpu_run,
    "vcpu_put": running.vcpu_put,
    **STANDARD,
    "VENDOR_HYP_UID": discovery.uid,
    "VENDOR_HYP_REVISION": discovery.revision,
    "PSCI_FEATURES": psci.host_features,
    "unknown": discovery.unsupported,
}
"""Calls of the host by name; "unknown" are all ids that nobody else has."""
LOCKED_CALLS: Mapping[str, Definition] = {
    name: behind_lock(definition) for name, definition in DEFINITIONS.items()
}
"""Calls that change ownership, with BUSY as their first error."""
POWER: Mapping[str, Definition] = {
    "PSCI_CPU_ON": power.cpu_on,
    "PSCI_CPU_OFF": power.cpu_off,
    "PSCI_AFFINITY_INFO": power.affinity_info,
    "PSCI_SYSTEM_OFF": power.system_end,
    "PSCI_SYSTEM_RESET": power.system_end,
}
"""Calls of the host that end in firmware: they are the image's, and not in the host build."""
OF_VM = "VM: "
_OF_VMS: tuple[tuple[str, Definition], ...] = (
    *STANDARD.items(),
    ("VENDOR_HYP_UID", discovery.vm_uid),
    ("VENDOR_HYP_FEATURES", discovery.vm_features),
    ("PSCI_FEATURES", psci.vm_features),
    ("PSCI_CPU_SUSPEND", psci.cpu_suspend),
    ("PSCI_CPU_OFF", psci.cpu_off),
    ("PSCI_CPU_ON", psci.cpu_on),
    ("PSCI_AFFINITY_INFO", psci.affinity_info),
    ("PSCI_SYSTEM_OFF", psci.system_off),
    ("PSCI_SYSTEM_RESET", psci.system_off),
    ("measurement", guest.measurement),
    ("extend", guest.extend),
    ("host_call", guest.host_call),
    ("meminfo", discovery.meminfo),
    ("share", guest.share),
    ("unshare", guest.unshare),
    ("relinquish", guest.relinquish),
    ("unknown", discovery.unsupported),
)
VM_CALLS: Mapping[str, Definition] = {OF_VM + name: definition for name, definition in _OF_VMS}
"""Calls of a VM."""
EXCEPTIONS: Mapping[str, Definition] = {
    "VM: WFx": exceptions.wait,
    "VM: SMC": exceptions.smc,
    "VM: system register": traps.system_access,
    "VM: data abort": exceptions.data_abort,
    "VM: instruction abort": exceptions.instruction_abort,
    "VM: other exception": exceptions.undefined,
}
"""Synchronous exceptions of a VM, but for its calls."""
INTERRUPTS: Mapping[str, Definition] = {
    "VM: interrupt": exceptions.interrupt,
    "VM: fast interrupt": exceptions.fast_interrupt,
    "VM: SError": exceptions.system_error,
}
"""What ends the turn of a VM from outside."""
TESTED: Mapping[str, Definition] = {**HOST_CALLS, **POWER, **VM_CALLS, **EXCEPTIONS, **INTERRUPTS}
"""All steps that are not in the prover's tables, by name."""


@cache
def parameters(definition: Definition) -> tuple[str, ...]:
    """Names of the arguments behind the transaction."""
    return tuple(inspect.signature(definition).parameters)[1:]
