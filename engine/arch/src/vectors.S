// Exception vectors of EL2 and the world switch.
//
// Trust label: TRUSTED. Source: Arm ARM DDI 0487, D1.3 (exceptions), D19.2 (registers).
// SP_EL2 is the current context: HostContext while the host runs, VcpuContext while a VM runs; both begin with
// x0..x30. TPIDR_EL2 is HostContext; the Rust stack grows down from it. Names in braces are offsets and symbols
// that vectors.rs supplies. No ISB stands before an ERET: the exception return synchronises the context.

.macro x0_to_x17 operation           // st or ld
    \operation\()p     x0, x1, [sp]
    \operation\()p     x2, x3, [sp, #0x10]
    \operation\()p     x4, x5, [sp, #0x20]
    \operation\()p     x6, x7, [sp, #0x30]
    \operation\()p     x8, x9, [sp, #0x40]
    \operation\()p     x10, x11, [sp, #0x50]
    \operation\()p     x12, x13, [sp, #0x60]
    \operation\()p     x14, x15, [sp, #0x70]
    \operation\()p     x16, x17, [sp, #0x80]
.endm

.macro x20_to_x29 operation
    \operation\()p     x20, x21, [sp, #0xa0]
    \operation\()p     x22, x23, [sp, #0xb0]
    \operation\()p     x24, x25, [sp, #0xc0]
    \operation\()p     x26, x27, [sp, #0xd0]
    \operation\()p     x28, x29, [sp, #0xe0]
.endm

.macro caller_saved operation        // x0 to x18 and x30: what Rust may change
    x0_to_x17 \operation
    \operation\()r     x18, [sp, #0x90]
    \operation\()r     x30, [sp, #0xf0]
.endm

.macro callee_saved operation        // x19 to x29
    \operation\()r     x19, [sp, #0x98]
    x20_to_x29 \operation
.endm

.macro general operation             // x0 to x30
    x0_to_x17 \operation
    \operation\()p     x18, x19, [sp, #0x90]
    x20_to_x29 \operation
    \operation\()r     x30, [sp, #0xf0]
.endm

.macro forget_branches               // Spectre-BHB: overwrite the branch history that EL1 has trained; x3 is saved
    .if     {BHB_LOOPS} > 0
    mov     x3, #{BHB_LOOPS}
71: b       72f
72: subs    x3, x3, #1
    b.ne    71b
    dsb     nsh
    isb
    .endif
.endm

.macro return_to_el1                 // no speculation past the exception return
    eret
    dsb     nsh
    isb
.endm

// A vector that only the engine itself can cause: 0 to 7 are its own exceptions, 8 up are impossible ones.
.macro engine_fault kind
    .balign 0x80
    msr     tpidr_el1, x0            // the one scratch register; EL1 never runs again
    mov     x0, #\kind
    b       bulkhead_engine_fault
.endm

.macro own_exceptions
    engine_fault 0
    engine_fault 1
    engine_fault 2
    engine_fault 3
    engine_fault 4
    engine_fault 5
    engine_fault 6
    engine_fault 7
.endm

.section .vectors, "ax"

// -------------------------------------------------------------------------------------- while the host runs
.balign 0x800
.global bulkhead_host_vectors
bulkhead_host_vectors:
    own_exceptions
    .balign 0x80
    caller_saved st
    forget_branches
    mrs     x1, esr_el2
    lsr     x2, x1, #26
    cmp     x2, #0x16                // HVC
    b.ne    host_trap
    b       host_call
    engine_fault 9                   // IRQ, FIQ and SError go to EL1 while the host runs (IMO, FMO, AMO clear)
    engine_fault 10
    engine_fault 11
    engine_fault 12                  // for EL1 in AArch32, which HCR_EL2.RW excludes: AArch32 EL0 comes as above
    engine_fault 13
    engine_fault 14
    engine_fault 15

// -------------------------------------------------------------------------------------- while a VM runs
.balign 0x800
.global bulkhead_vm_vectors
bulkhead_vm_vectors:
    own_exceptions
.macro vm_exception handler
    .balign 0x80
    general st
    forget_branches
    b       \handler
.endm
    vm_exception vm_synchronous
    vm_exception vm_interrupt
    vm_exception vm_fast_interrupt
    vm_exception vm_error
    engine_fault 12                  // for EL1 in AArch32, which HCR_EL2.RW excludes
    engine_fault 13
    engine_fault 14
    engine_fault 15

.text

host_trap:
    cmp     x2, #0x17                // SMC, which HCR_EL2.TSC traps: the return address is the instruction's own
    b.ne    host_exception
    mrs     x2, elr_el2
    add     x2, x2, #4
    msr     elr_el2, x2
host_call:
    movz    w2, #{VCPU_RUN_HIGH}, lsl #16
    movk    w2, #{VCPU_RUN_LOW}
    cmp     x0, x2
    b.eq    vcpu_run
    mov     x0, sp
    bl      {host_call}
    caller_saved ld
    return_to_el1

host_exception:                      // any register may be the operand of a trapped instruction
    callee_saved st
    mov     x0, sp
    bl      {host_exception}
    general ld
    return_to_el1

vcpu_run:
    callee_saved st
    mrs     x4, elr_el2
    mrs     x5, spsr_el2
    mrs     x6, sp_el1
    mrs     x7, vbar_el1
    mrs     x8, tpidr_el1
    stp     x4, x5, [sp, #{H_ELR}]
    stp     x6, x7, [sp, #{H_SP_EL1}]
    str     x8, [sp, #{H_TPIDR_EL1}]
    mov     x0, sp
    bl      {vcpu_run}               // the context to enter, or 0 with the answer in the host's x0 and x1
    cbnz    x0, enter_vm
    general ld
    return_to_el1

enter_vm:                            // x0 = VcpuContext, SP = HostContext
    ldp     x10, x11, [sp, #{H_VM_HCR}]
    ldp     x12, x13, [sp, #{H_VM_CPTR}]
    mov     sp, x0
    ldp     x14, x15, [sp, #{V_VTTBR}] // vttbr, vmpidr
    ldp     x16, x17, [sp, #{V_PC}]
    adr     x9, bulkhead_vm_vectors
    msr     hcr_el2, x10
    msr     vtcr_el2, x11
    msr     cptr_el2, x12
    msr     cnthctl_el2, x13
    msr     vttbr_el2, x14
    msr     vmpidr_el2, x15
    msr     elr_el2, x16
    msr     spsr_el2, x17
    msr     vbar_el2, x9
    load_switched sp
    general ld
    return_to_el1

.macro vm_exit name, decide          // x0 to x30 are saved
\name:
    hint    #16                      // ESB: an SError that the VM caused is pended no further than here
    mrs     x4, elr_el2
    mrs     x5, spsr_el2
    stp     x4, x5, [sp, #{V_PC}]
    mov     x19, sp
    mrs     x1, tpidr_el2
    mov     x0, x19
    mov     sp, x1
    bl      \decide
    cbnz    x0, leave_vm
    b       return_to_vm
.endm
    vm_exit vm_synchronous, {vm_synchronous}
    vm_exit vm_interrupt, {vm_interrupt}
    vm_exit vm_fast_interrupt, {vm_fast_interrupt}
    vm_exit vm_error, {vm_error}

return_to_vm:
    mov     sp, x19
    ldp     x4, x5, [sp, #{V_PC}]
    msr     elr_el2, x4
    msr     spsr_el2, x5
    general ld
    return_to_el1

leave_vm:                            // x19 = VcpuContext, SP = HostContext; bit 1 of x0: the context is gone
    tbnz    w0, #1, enter_host
    save_switched x19
enter_host:                          // SP = HostContext: the host's values, zero where it has none
    ldp     x0, x1, [sp, #{H_HCR}]   // hcr, vtcr
    ldp     x2, x3, [sp, #{H_CPTR}]  // cptr, cnthctl
    ldp     x4, x5, [sp, #{H_VTTBR}] // vttbr, sctlr_el1
    ldp     x6, x7, [sp, #{H_ELR}]   // elr, spsr
    ldp     x8, x9, [sp, #{H_SP_EL1}] // sp_el1, vbar_el1
    ldp     x10, x11, [sp, #{H_TPIDR_EL1}] // tpidr_el1, vmpidr
    adr     x12, bulkhead_host_vectors
    msr     hcr_el2, x0
    msr     vtcr_el2, x1
    msr     cptr_el2, x2
    msr     cnthctl_el2, x3
    msr     vttbr_el2, x4
    msr     sctlr_el1, x5
    msr     elr_el2, x6
    msr     spsr_el2, x7
    msr     sp_el1, x8
    msr     vbar_el1, x9
    msr     tpidr_el1, x10
    msr     vmpidr_el2, x11
    msr     vbar_el2, x12
    zero_switched
    general ld
    return_to_el1

// First entry of the host on this CPU: x0 = HostContext with all its values in place. Never returns.
.global bulkhead_enter_host
bulkhead_enter_host:
    mov     sp, x0
    b       enter_host

// -------------------------------------------------------------------------------------- the engine's own faults
// x0 = kind, its old value is in TPIDR_EL1. The frame goes to this CPU's emergency stack, whatever SP was; before
// TPIDR_EL2 is set, to the boot CPU's. A second fault while dumping parks the CPU.
bulkhead_engine_fault:
    msr     tpidr_el0, x1
    mrs     x1, tpidr_el2
    cbz     x1, 1f
    sub     x1, x1, #{EMERGENCY_DOWN}
    b       2f
1:  adrp    x1, {boot_stack}
    add     x1, x1, :lo12:{boot_stack}
    add     x1, x1, #{BOOT_STACK_SIZE}
2:  sub     x1, x1, #{F_SIZE}
    stp     x2, x3, [x1, #0x10]
    ldr     x2, [x1, #{F_MARK}]
    cbnz    x2, 3f
    stp     x4, x5, [x1, #0x20]
    stp     x6, x7, [x1, #0x30]
    stp     x8, x9, [x1, #0x40]
    stp     x10, x11, [x1, #0x50]
    stp     x12, x13, [x1, #0x60]
    stp     x14, x15, [x1, #0x70]
    stp     x16, x17, [x1, #0x80]
    stp     x18, x19, [x1, #0x90]
    stp     x20, x21, [x1, #0xa0]
    stp     x22, x23, [x1, #0xb0]
    stp     x24, x25, [x1, #0xc0]
    stp     x26, x27, [x1, #0xd0]
    stp     x28, x29, [x1, #0xe0]
    mov     x2, sp
    stp     x30, x2, [x1, #0xf0]
    mrs     x2, tpidr_el1
    mrs     x3, tpidr_el0
    stp     x2, x3, [x1]
    mrs     x2, esr_el2
    mrs     x3, far_el2
    stp     x2, x3, [x1, #0x100]
    mrs     x2, hpfar_el2
    mrs     x3, elr_el2
    stp     x2, x3, [x1, #0x110]
    mrs     x2, spsr_el2
    mov     x3, #1
    stp     x2, x3, [x1, #0x120]     // spsr, mark
    mov     sp, x1
    mov     x2, x0
    mov     x0, x1
    mov     x1, x2
    bl      {engine_exception}
3:  wfi
    b       3b
