"""A VM goes on storing, on another CPU, to a page that it has given back and that is the host's now."""

from attack.arena import Arena
from attack.sharer import SHARED
from bulkhead.attack import Edit, attack
from bulkhead.inspect.records import Kind

PROGRAM = f"""
    ldr     x0, =0xc4000003              // CPU_ON
    mov     x1, #1
    adr     x2, 3f
    mov     x3, #0
    hvc     #0
    ldr     x20, ={SHARED:#x}
1:  ldr     x21, [x20]
    cbz     x21, 1b                      // until the other vCPU is there
    call    0xc6000045, {SHARED:#x}
2:  wfi
    b       2b
3:  ldr     x20, ={SHARED:#x}
4:  add     x21, x21, #1
    str     x21, [x20]
    b       4b
"""
"""One vCPU gives the page back to which the other stores."""


@attack(
    by="vm",
    against="P7",
    refused="the VM's leaf is cleared and its TLBs invalidated before the page is the host's",
    removed=Edit(
        "engine/core/src/vcpu/sharing.rs",
        "    p.invalidate_vm_page(vm, ipa);\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim(PROGRAM, vcpus=2)
    page = victim.vm.page(SHARED)
    assert victim.run().name == "PSCI"
    arena.begin(f"timed_run {victim.vm.contexts[1]:#x}")
    assert victim.run().name == "SHARE"
    arena.finish()
    assert arena.owner(page) == Kind.HOST
    assert not any(arena.machine.physical(page)), "a VM has stored to a frame of the host"
