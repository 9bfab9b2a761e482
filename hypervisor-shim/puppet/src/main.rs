//! A guest that does what its console tells it, so that a test can be a driver, or a malicious one (trust label: TOOL).
//!
//! It runs at EL1h with its MMU off. A request is one byte that says what to do and five words, little-endian; the
//! answer is four words. Requests: 1 load (address, size), 2 store `count` times in a row (address, size, value,
//! count), 3 HVC (x0..x3; the answer is x0..x3), 4 make another vCPU unshare and share a page for ever (vCPU, page;
//! the answer is that of CPU_ON), 5 store 4 bytes while vCPUs 1 and 2 do so once each and go off (address, value, page;
//! the answers are those of CPU_ON).
#![no_std]
#![no_main]

use bulkhead_abi::{id, standard};
use core::arch::{asm, global_asm};

/// PL011 of the VM: data and flags (Arm DDI 0183G 3.3).
const UART_DATA: u64 = 0x0900_0000;
const UART_FLAGS: u64 = 0x0900_0018;
const RECEIVE_EMPTY: u64 = 1 << 4;
/// With the page for `puppet_hammer`: go off after the first time.
const ONCE: u64 = 1;

// An arm64 Image header (Linux Documentation/arch/arm64/booting.rst), then the stack behind the program.
global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    b       1f
    .long   0
    .quad   0
    .quad   __image_size - _start + 0x4000
    .quad   0xa
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
1:  adrp    x1, __bss_end
    add     x1, x1, #4, lsl #12
    mov     sp, x1
    bl      puppet_main

    .global puppet_hammer
puppet_hammer:                      // x0 = page, with bit 0 set if once is enough
    mov     x19, x0
    and     x20, x0, #{page}
2:  mov     x4, #30000              // shared for a while, so that its end falls into a use of the page
3:  subs    x4, x4, #1
    b.ne    3b
    ldr     x0, ={unshare}
    bl      5f
    mov     x4, #30000
4:  subs    x4, x4, #1
    b.ne    4b
    ldr     x0, ={share}
    bl      5f
    tbz     x19, #0, 2b
    ldr     x0, ={off}
    hvc     #0
5:  mov     x1, x20
    mov     x2, xzr
    mov     x3, xzr
    hvc     #0
    ret
    .ltorg
    "#,
    page = const !(bulkhead_abi::FRAME_SIZE - 1),
    share = const id::SHARE,
    unshare = const id::UNSHARE,
    off = const standard::PSCI_CPU_OFF,
);

unsafe extern "C" {
    fn puppet_hammer();
}

#[unsafe(no_mangle)]
extern "C" fn puppet_main() -> ! {
    loop {
        let what = receive();
        let arguments = [(); 5].map(|()| (0..8).fold(0, |word, byte| word | receive() << (8 * byte)));
        for word in obey(what, arguments) {
            word.to_le_bytes().map(|byte| store(UART_DATA, 4, u64::from(byte)));
        }
    }
}

fn obey(what: u64, [a, b, c, d, _]: [u64; 5]) -> [u64; 4] {
    match what {
        1 => [load(a, b), 0, 0, 0],
        2 => {
            (0..d).for_each(|number| store(a + number * b, b, c));
            [0; 4]
        }
        3 => call([a, b, c, d]),
        4 => hammer(a, b),
        5 => {
            let started = [hammer(1, c | ONCE)[0], hammer(2, c | ONCE)[0]];
            store(a, 4, b);
            [started[0], started[1], 0, 0]
        }
        _ => [u64::MAX; 4],
    }
}

/// Lets a vCPU that is off loose on a page.
fn hammer(vcpu: u64, page: u64) -> [u64; 4] {
    call([standard::PSCI_CPU_ON, vcpu, puppet_hammer as *const () as u64, page])
}

fn receive() -> u64 {
    while load(UART_FLAGS, 4) & RECEIVE_EMPTY != 0 {}
    load(UART_DATA, 4)
}

fn load(address: u64, size: u64) -> u64 {
    let value: u64;
    // SAFETY: whoever drives the puppet answers for what it touches; single accesses, in order with all others.
    unsafe {
        match size {
            1 => asm!("ldrb {0:w}, [{1}]", "dsb sy", out(reg) value, in(reg) address),
            2 => asm!("ldrh {0:w}, [{1}]", "dsb sy", out(reg) value, in(reg) address),
            4 => asm!("ldr {0:w}, [{1}]", "dsb sy", out(reg) value, in(reg) address),
            _ => asm!("ldr {0}, [{1}]", "dsb sy", out(reg) value, in(reg) address),
        }
    }
    value
}

fn store(address: u64, size: u64, value: u64) {
    // SAFETY: as for `load`.
    unsafe {
        match size {
            1 => asm!("dsb sy", "strb {0:w}, [{1}]", "dsb sy", in(reg) value, in(reg) address),
            2 => asm!("dsb sy", "strh {0:w}, [{1}]", "dsb sy", in(reg) value, in(reg) address),
            4 => asm!("dsb sy", "str {0:w}, [{1}]", "dsb sy", in(reg) value, in(reg) address),
            _ => asm!("dsb sy", "str {0}, [{1}]", "dsb sy", in(reg) value, in(reg) address),
        }
    }
}

fn call([mut x0, mut x1, mut x2, mut x3]: [u64; 4]) -> [u64; 4] {
    // SAFETY: the engine changes no register but these (SMC Calling Convention 1.2: x4 to x17 as well, if it likes).
    unsafe {
        asm!("hvc #0", inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3, clobber_abi("C"));
    }
    [x0, x1, x2, x3]
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    call([standard::PSCI_SYSTEM_OFF, 0, 0, 0]);
    loop {}
}
