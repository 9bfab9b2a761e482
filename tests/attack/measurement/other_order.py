"""The host maps the same pages in another order; nobody shall know two measurements of one VM as one."""

from attack.arena import RAM, Arena
from attack.removals import CHAIN
from bulkhead.attack import attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import PAGE
from bulkhead.conformance.testing.builder import dismantle


@attack(
    by="host",
    against="P5",
    refused="the measurement is a chain",
    removed=CHAIN,
)
def carry_out(arena: Arena) -> None:
    found, expected = set(), set()
    for order in ((0, 1), (1, 0)):
        vm = Vm(arena.machine)
        for page in order:
            vm.page(RAM + page * PAGE, content=b"page %d" % page)
        vm.activate()
        found.add(arena.machine.vm_record(vm.slot).measurement)
        expected.add(vm.measurement.digest)
        dismantle(arena.machine)
    assert len(found) == 2, "the order of pages does not show"
    assert found == expected, "these are other measurements than those that follow from the pages"
