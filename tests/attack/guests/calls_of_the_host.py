"""A VM makes the host's calls: it gives itself frames, kills others, runs vCPUs."""

from attack.arena import RAM, STATUS, Arena
from bulkhead import abi
from bulkhead.attack import attack


@attack(
    by="vm",
    against="P5",
    refused="a VM has a list of calls of its own",
)
def carry_out(arena: Arena) -> None:
    host_only = [call for call in abi.load().calls if call.caller == "host"]
    vm_ids = {call.id for call in abi.load().calls if call.caller == "vm"}
    ids = [call.id for call in host_only if call.id not in vm_ids]
    calls = "\n".join(f"call {number:#x}, 1, {RAM:#x}\n report x0" for number in ids)
    other = arena.victim(slot=1)
    victim = arena.victim(calls)
    answers = victim.reports(len(ids))
    wrong = [
        hex(number) for number, answer in zip(ids, answers, strict=True) if answer != STATUS["NOT_SUPPORTED"]
    ]
    assert not wrong, f"a VM may call {wrong}"
    assert other.run().name == "WFI"
