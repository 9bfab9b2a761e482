//! Accesses that may fault (trust label: UNTRUSTED).
//!
//! A probe saves the callee-saved registers and the stack pointer, arms its CPU, and touches one address. If
//! that raises a synchronous exception, the vector resumes behind the probe and the syndrome (`ESR_EL1`, Arm
//! ARM DDI 0487 D17.2.37) is the result.

use crate::{cpu, vectors::Frame};
use bulkhead_abi::CPUS_MAX;
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// Stack pointer of the armed probe of each CPU; 0: not armed.
static ARMED: [AtomicU64; CPUS_MAX] = [const { AtomicU64::new(0) }; CPUS_MAX];

global_asm!(
    r#"
    .macro probe_begin
    sub     sp, sp, #112
    stp     x19, x20, [sp]
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    str     x2, [sp, #96]
    mov     x9, sp
    str     x9, [x2]
    dsb     sy
    .endm

    .section .text.el1_probe, "ax"
    .macro probe_read name, instruction, register
    .global \name
\name:                              // x0 = address, x1 = value out, x2 = armed word
    probe_begin
    \instruction \register, [x0]
    dsb     sy
    str     x3, [x1]
    b       el1_probe_done
    .endm
    .macro probe_write name, instruction, register
    .global \name
\name:                              // x0 = address, x1 = value, x2 = armed word
    probe_begin
    \instruction \register, [x0]
    dsb     sy
    b       el1_probe_done
    .endm

    probe_read  el1_probe_read8,  ldrb, w3
    probe_read  el1_probe_read16, ldrh, w3
    probe_read  el1_probe_read32, ldr,  w3
    probe_read  el1_probe_read64, ldr,  x3
    probe_write el1_probe_write8,  strb, w1
    probe_write el1_probe_write16, strh, w1
    probe_write el1_probe_write32, str,  w1
    probe_write el1_probe_write64, str,  x1
    .global el1_probe_copy
el1_probe_copy:                     // x0 = source, x1 = destination, x2 = armed word, x3 = length
    probe_begin
    orr     x9, x0, x1
    tst     x9, #7
    b.ne    2f
1:  cmp     x3, #8
    b.lo    2f
    ldr     x9, [x0], #8
    str     x9, [x1], #8
    sub     x3, x3, #8
    b       1b
2:  cbz     x3, 3f
    ldrb    w9, [x0], #1
    strb    w9, [x1], #1
    sub     x3, x3, #1
    b       2b
3:  dsb     sy
    b       el1_probe_done
    .global el1_probe_execute
el1_probe_execute:                  // x0 = address, x2 = armed word
    probe_begin
    blr     x0

el1_probe_done:
    ldr     x2, [sp, #96]
    mov     x0, xzr
    b       el1_probe_end
    .global el1_probe_resume
el1_probe_resume:                   // x0 = syndrome, x1 = stack pointer of the probe
    mov     sp, x1
    ldr     x2, [sp, #96]
el1_probe_end:
    str     xzr, [x2]
    ldp     x19, x20, [sp]
    ldp     x21, x22, [sp, #16]
    ldp     x23, x24, [sp, #32]
    ldp     x25, x26, [sp, #48]
    ldp     x27, x28, [sp, #64]
    ldp     x29, x30, [sp, #80]
    add     sp, sp, #112
    ret
    "#
);

type Read = unsafe extern "C" fn(u64, *mut u64, *const AtomicU64) -> u64;
type Write = unsafe extern "C" fn(u64, u64, *const AtomicU64) -> u64;

unsafe extern "C" {
    fn el1_probe_read8(address: u64, value: *mut u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_read16(address: u64, value: *mut u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_read32(address: u64, value: *mut u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_read64(address: u64, value: *mut u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_write8(address: u64, value: u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_write16(address: u64, value: u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_write32(address: u64, value: u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_write64(address: u64, value: u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_copy(source: u64, destination: u64, armed: *const AtomicU64, length: usize) -> u64;
    fn el1_probe_execute(address: u64, unused: u64, armed: *const AtomicU64) -> u64;
    fn el1_probe_resume();
}

/// If a probe is armed on this CPU, makes the exception return resume it with `esr`.
pub(crate) fn resume(frame: &mut Frame, esr: u64) -> bool {
    let stack = ARMED[cpu::index()].load(Ordering::Relaxed);
    if stack != 0 {
        frame.elr = el1_probe_resume as *const () as usize as u64;
        frame.x[0] = esr;
        frame.x[1] = stack;
    }
    stack != 0
}

/// Loads `size` bytes (1, 2, 4 or 8) from `address`.
///
/// # Errors
/// `ESR_EL1` of the exception that the load raised.
///
/// # Safety
/// A load from `address`, if it does not fault, must have no effect that the program relies on not happening.
pub unsafe fn read(address: u64, size: usize) -> Result<u64, u64> {
    let probe: Read = match size {
        1 => el1_probe_read8,
        2 => el1_probe_read16,
        4 => el1_probe_read32,
        _ => el1_probe_read64,
    };
    let mut value = 0;
    // SAFETY: the probe touches `address`, which the caller vouches for, and the two locals handed to it.
    let esr = unsafe { probe(address, &mut value, &ARMED[cpu::index()]) };
    if esr == 0 { Ok(value) } else { Err(esr) }
}

/// Stores the low `size` bytes (1, 2, 4 or 8) of `value` to `address`.
///
/// # Errors
/// `ESR_EL1` of the exception that the store raised.
///
/// # Safety
/// The memory at `address`, if the store does not fault, must not be relied on by the program.
pub unsafe fn write(address: u64, value: u64, size: usize) -> Result<(), u64> {
    let probe: Write = match size {
        1 => el1_probe_write8,
        2 => el1_probe_write16,
        4 => el1_probe_write32,
        _ => el1_probe_write64,
    };
    // SAFETY: the probe touches `address`, which the caller vouches for, and the armed word.
    let esr = unsafe { probe(address, value, &ARMED[cpu::index()]) };
    if esr == 0 { Ok(()) } else { Err(esr) }
}

/// Fills `bytes` from `address` on, in program order with other probes.
///
/// # Errors
/// `ESR_EL1` of the exception that a load raised; `bytes` holds anything.
///
/// # Safety
/// Loads from the range, if they do not fault, must have no effect that the program relies on not happening.
pub unsafe fn load(address: u64, bytes: &mut [u8]) -> Result<(), u64> {
    let destination = bytes.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the destination is `bytes`, all of it initialised memory; the caller vouches for the source.
    let esr = unsafe { el1_probe_copy(address, destination, &ARMED[cpu::index()], bytes.len()) };
    if esr == 0 { Ok(()) } else { Err(esr) }
}

/// Stores `bytes` from `address` on, in program order with other probes.
///
/// # Errors
/// `ESR_EL1` of the exception that a store raised; some bytes may have been stored.
///
/// # Safety
/// The memory in the range, if the stores do not fault, must not be relied on by the program.
pub unsafe fn store(address: u64, bytes: &[u8]) -> Result<(), u64> {
    let source = bytes.as_ptr().expose_provenance() as u64;
    // SAFETY: the source is `bytes`; the caller vouches for the destination.
    let esr = unsafe { el1_probe_copy(source, address, &ARMED[cpu::index()], bytes.len()) };
    if esr == 0 { Ok(()) } else { Err(esr) }
}

/// Calls `address` as a function without arguments. Any synchronous exception on the way comes back here.
///
/// # Errors
/// `ESR_EL1` of the exception that the fetch, or the code found there, raised.
///
/// # Safety
/// The code at `address`, if it can be fetched, must return or fault without harm to the program.
pub unsafe fn execute(address: u64) -> Result<(), u64> {
    // SAFETY: all callee-saved registers are kept by the probe; the caller vouches for the code.
    let esr = unsafe { el1_probe_execute(address, 0, &ARMED[cpu::index()]) };
    if esr == 0 { Ok(()) } else { Err(esr) }
}
