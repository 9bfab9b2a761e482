//! First instructions of every CPU. Trust label: TRUSTED.
//!
//! Entered at EL2 with the MMU off: the boot CPU at `_head` with the device tree's address in x0 (Linux
//! `Documentation/arch/arm64/booting.rst`, "Call the kernel image"), the others at `secondary_start` with their index
//! in x0 (PSCI, Arm DEN 0022, CPU_ON). All of it lies in the image's first page, which is mapped at its physical
//! address too (read-only, executable), so that execution goes on when the MMU comes on.
//!
//! Addresses are formed with `adrp` and literals: before the MMU is on `adrp` gives physical ones, because the image
//! is loaded at a multiple of 2 MiB and linked at one; a literal gives the virtual one.

use core::arch::global_asm;

use bulkhead_arch::cpu;

use crate::early::{BOOT_STACK, ROOT};
use crate::{platform, uart};

/// `TCR_EL2` without PS: RES1 bits 31 and 23, 4 KiB granule, walks inner shareable Write-Back, 48 bits (D24.2.184).
const TCR: u64 = 1 << 31 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 16;

global_asm!(
    ".pushsection .head, \"ax\"",
    ".global _head",
    "_head:",
    "    b 1f",
    "    .long 0",
    "    .quad 0", // text_offset: the image runs at any multiple of 2 MiB
    ".global IMAGE_FILE_SIZE",
    "IMAGE_FILE_SIZE:",
    "    .quad __image_size", // image_size: the build adds the host program's
    "    .quad 0xa",                         // little endian, 4 KiB pages, anywhere in memory
    "    .quad 0, 0, 0",
    "    .ascii \"ARM\\x64\"",
    "    .long 0",
    ".popsection",
    ".pushsection .head.text, \"ax\"",
    "1:  msr daifset, #0xf",
    "    mrs x22, CNTPCT_EL0",
    "    mrs x1, CurrentEL",
    "    cmp x1, #(2 << 2)",
    "    b.ne 9f",
    "    mrs x1, SCTLR_EL2",
    "    tbnz x1, #0, 9f",
    "    mov x20, x0",
    "    adrp x19, _head",
    "    adrp x1, {stack}",
    "    add sp, x1, #{stack_size}",
    "    mov x29, xzr",
    "    mov x30, xzr",
    "    mov x0, x19",
    "    bl {early}",
    "    ldr x21, =boot_virtual",
    "    b enable_mmu",
    // Not EL2, or the MMU is on: says so on UART0, by its physical address, and parks.
    "9:  mov x1, #{uart0}",
    "    mov w2, #{uart_on}",
    "    str w2, [x1, #{uart_control}]",
    "    adr x2, 7f",
    "8:  ldrb w3, [x2], #1",
    "    cbz w3, 6f",
    "5:  ldr w4, [x1, #{uart_flags}]",
    "    tbnz w4, #{uart_full}, 5b",
    "    str w3, [x1]",
    "    b 8b",
    "6:  wfe",
    "    b 6b",
    "7:  .asciz \"BULKHEAD STOP not entered at EL2 with the MMU off (QEMU: -machine virtualization=on)\\r\\n\"",
    "    .balign 4",
    ".global secondary_start",
    "secondary_start:",
    "    msr daifset, #0xf",
    "    mov x20, x0",
    "    ldr x21, =secondary_virtual",
    // Clobbers x1..x3, goes on at x21.
    "enable_mmu:",
    "    ldr x1, ={mair}",
    "    msr MAIR_EL2, x1",
    "    ldr x1, ={tcr}",
    "    mrs x2, ID_AA64MMFR0_EL1",
    "    and x2, x2, #0xf", // PARange; the translation regime uses at most 48 bits
    "    mov x3, #5",
    "    cmp x2, x3",
    "    csel x2, x2, x3, lo",
    "    orr x1, x1, x2, lsl #16",
    "    msr TCR_EL2, x1",
    "    adrp x1, {root}",
    "    msr TTBR0_EL2, x1",
    "    dsb sy",
    "    ic iallu",
    "    tlbi alle2",
    "    tlbi alle1",
    "    dsb sy",
    "    isb",
    "    ldr x1, ={sctlr}",
    "    msr SCTLR_EL2, x1",
    "    isb",
    "    br x21",
    "    .ltorg",
    ".popsection",
    ".pushsection .text, \"ax\"",
    "boot_virtual:",
    "    adrp x1, {stack}",
    "    add sp, x1, #{stack_size}",
    "    msr TPIDR_EL2, xzr",
    "    ldr x1, =bulkhead_host_vectors",
    "    msr VBAR_EL2, x1",
    "    isb",
    "    mov x0, x19",
    "    mov x1, x20",
    "    mov x2, x22",
    "    b {boot}",
    "secondary_virtual:",
    "    ldr x1, =bulkhead_host_vectors",
    "    msr VBAR_EL2, x1",
    "    mov x0, x20",
    ".global run_cpu",
    "run_cpu:",
    "    ldr x1, ={percpu_context}",
    "    mov x2, #{percpu_stride}",
    "    madd x1, x0, x2, x1",
    "    mov sp, x1",
    "    msr TPIDR_EL2, x1",
    "    isb",
    "    mov x29, xzr",
    "    mov x30, xzr",
    "    b {run}",
    "    .ltorg",
    ".popsection",
    uart0 = const platform::UART0.base,
    uart_on = const uart::ON,
    uart_control = const uart::CONTROL,
    uart_flags = const uart::FLAGS,
    uart_full = const uart::TRANSMIT_FULL.trailing_zeros(),
    stack = sym BOOT_STACK,
    stack_size = const crate::early::BOOT_STACK_SIZE,
    root = sym ROOT,
    early = sym crate::early::map_early,
    boot = sym crate::boot::boot,
    run = sym crate::boot::run_cpu_host,
    mair = const cpu::MAIR,
    tcr = const TCR,
    sctlr = const cpu::SCTLR,
    percpu_context = const bulkhead_arch::layout::PERCPU + bulkhead_arch::layout::PERCPU_CONTEXT,
    percpu_stride = const bulkhead_arch::layout::PERCPU_STRIDE,
);

unsafe extern "C" {
    /// Length of the loaded file: engine image and host program.
    pub static IMAGE_FILE_SIZE: u64;
    /// Entry point of the CPUs that PSCI starts; its physical address is its offset in the image + the load address.
    pub fn secondary_start() -> !;
    /// Gives the executing CPU, number `cpu`, its own empty stack, on which it enters the host.
    pub fn run_cpu(cpu: u64) -> !;
}
