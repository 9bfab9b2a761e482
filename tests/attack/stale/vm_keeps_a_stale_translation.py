"""A VM goes on storing to a page from another CPU while the host takes the page back."""

from attack.arena import SECRET, Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="several",
    against="P7",
    refused="TLBI with the VM's VMID on all CPUs, completed, before the frame has its new owner",
    removed=Edit(
        "engine/core/src/call/reclaim.rs",
        "        hw.invalidate_vm_page(record.vm(), ipa);\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim("secret x20\n add x20, x20, #0x1000\n 1: add x1, x1, #1\n str x1, [x20]\n b 1b")
    page = victim.vm.page(SECRET + PAGE)
    # Two seconds: the page must have changed hands long before the VM stops, however busy this computer is.
    arena.begin(f'timed_run {victim.context:#x}, "lsl #1"')
    arena.wait(lambda: any(arena.machine.physical(page, 8)), "the VM to store")
    victim.vm.kill()
    arena.machine.ok("reclaim", frame=page)
    arena.finish()
    found = arena.backend.memory(page, 8)
    assert not any(found), f"a VM has stored {found.hex()} to a frame of the host"
