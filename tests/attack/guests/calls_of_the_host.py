"""A VM makes the host's calls: it gives itself frames, kills others, runs vCPUs."""

from attack.arena import RAM, STATUS, Arena
from bulkhead import abi
from bulkhead.attack import Edit, attack


@attack(
    by="vm",
    against="P5",
    refused="a VM has a list of calls of its own",
    removed=(
        Edit("engine/core/src/call/dispatch.rs", "fn change_ownership<", "pub(crate) fn change_ownership<"),
        Edit(
            "engine/core/src/vcpu/hypercall.rs",
            "        function => {\n",
            "        function if bulkhead_abi::changes_ownership(function) => {\n"
            "            let mut regs = [0; 18];\n"
            "            regs.copy_from_slice(&vcpu.x[..18]);\n"
            "            crate::call::dispatch::change_ownership(p, function, &mut regs);\n"
            "            vcpu.x[..18].copy_from_slice(&regs);\n"
            "        }\n"
            "        function => {\n",
        ),
    ),
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
