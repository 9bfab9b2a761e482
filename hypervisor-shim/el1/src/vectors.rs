//! Exception vectors of EL1 (trust label: UNTRUSTED). Source: Arm ARM DDI 0487, D1.3.
//!
//! Interrupts stay masked, so only synchronous exceptions and SErrors arrive. One that comes while a probe
//! is armed on this CPU resumes the probe with the syndrome; any other is a panic.

use crate::{cpu, probe};
use core::arch::{asm, global_asm};

/// Registers as saved on exception entry; the layout is that of the assembly below.
#[repr(C)]
pub(crate) struct Frame {
    pub x: [u64; 31],
    pub elr: u64,
    pub spsr: u64,
    reserved: u64,
}

global_asm!(
    r#"
    .macro vector kind
    .balign 128
    sub     sp, sp, #272
    stp     x0, x1, [sp]
    mov     x1, #\kind
    b       el1_vector_common
    .endm

    .section .text.el1_vectors, "ax"
    .balign 2048
    .global el1_vectors
el1_vectors:
    vector 0
    vector 1
    vector 2
    vector 3
    vector 4
    vector 5
    vector 6
    vector 7
    vector 8
    vector 9
    vector 10
    vector 11
    vector 12
    vector 13
    vector 14
    vector 15

el1_vector_common:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, elr_el1
    stp     x30, x2, [sp, #240]
    mrs     x2, spsr_el1
    stp     x2, xzr, [sp, #256]
    mov     x0, sp
    bl      el1_exception
    ldr     x2, [sp, #248]
    msr     elr_el1, x2
    ldr     x2, [sp, #256]
    msr     spsr_el1, x2
    ldp     x0, x1, [sp]
    add     sp, sp, #272
    eret
    "#
);

#[unsafe(no_mangle)]
extern "C" fn el1_exception(frame: &mut Frame, vector: u64) {
    let (esr, far): (u64, u64);
    // SAFETY: reads two system registers of the current exception level.
    unsafe {
        asm!("mrs {}, esr_el1", "mrs {}, far_el1", out(reg) esr, out(reg) far, options(nomem, nostack));
    }
    const CURRENT_EL_SYNCHRONOUS: u64 = 4;
    if vector == CURRENT_EL_SYNCHRONOUS && probe::resume(frame, esr) {
        return;
    }
    panic!(
        "exception: cpu {} vector {vector} esr {esr:#x} far {far:#x} elr {:#x} spsr {:#x} lr {:#x} x0 {:#x}",
        cpu::index(),
        frame.elr,
        frame.spsr,
        frame.x[30],
        frame.x[0],
    );
}
