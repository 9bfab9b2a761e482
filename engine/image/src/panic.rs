//! An engine bug: dump what is known of the engine on UART0, stop every CPU. Trust label: TRUSTED.
//!
//! The dump holds engine registers only, and none while a VM is loaded, because they may be the VM's. It starts with
//! `BULKHEAD PANIC cpu=N`, has one `key=value` per line and one `bt=0x...` for each stack frame, and ends with
//! `BULKHEAD PANIC END`.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use bulkhead_arch::hooks::EngineFault;
use bulkhead_arch::layout;

use crate::device_tree::Refusal;
use crate::early::BOOT_STACK;
use crate::stop::{self, park};
use crate::time::{self, Stage};
use crate::uart::Console;

/// `ESR_EL2`: a data abort at EL2 (EC), synchronous external (DFSC).
const EXTERNAL_ABORT: u64 = 0x25 << 26 | 0x10;
const EXTERNAL_ABORT_MASK: u64 = 0x3f << 26 | 0x3f;
/// Most frames of a backtrace.
const DEPTH: usize = 32;
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Index of this CPU, or 0 while there is no context.
fn cpu() -> u64 {
    let context: u64;
    // SAFETY: reads the register that names the context.
    unsafe { core::arch::asm!("mrs {}, TPIDR_EL2", out(reg) context, options(nomem, nostack, preserves_flags)) };
    context.saturating_sub(layout::PERCPU) / layout::PERCPU_STRIDE
}

/// Claims the dump for this CPU and stops the others; a second CPU that comes here parks.
fn begin() {
    if PANICKED.swap(true, Ordering::AcqRel) {
        park();
    }
    stop::everybody();
    let _ = writeln!(Console, "\nBULKHEAD PANIC cpu={}", cpu());
}

fn end() -> ! {
    let _ = writeln!(Console, "BULKHEAD PANIC END");
    park()
}

/// An exception from EL2 itself. `kind` is the number of its vector.
#[unsafe(no_mangle)]
pub extern "C" fn bulkhead_engine_exception(fault: &EngineFault, kind: u64) -> ! {
    if !boot_is_over() && fault.esr & EXTERNAL_ABORT_MASK == EXTERNAL_ABORT {
        // The tree was believed: RAM or a device that it names is not there.
        crate::boot::stop(&Refusal::at("nothing answers where the device tree says so", physical(fault.far)));
    }
    begin();
    let named = [
        ("vector", kind),
        ("esr", fault.esr),
        ("far", fault.far),
        ("hpfar", fault.hpfar),
        ("elr", fault.elr),
        ("spsr", fault.spsr),
        ("sp", fault.sp),
    ];
    for (name, value) in named {
        let _ = writeln!(Console, "{name}={value:#018x}");
    }
    if host_vectors() {
        for (number, value) in fault.x.iter().enumerate() {
            let _ = writeln!(Console, "x{number}={value:#018x}");
        }
    } else {
        let _ = writeln!(Console, "registers withheld: they may hold a VM's values");
    }
    backtrace(fault.x[29]);
    end()
}

/// Whether the host has been entered.
fn boot_is_over() -> bool {
    time::reached(Stage::HostEntered as u64).is_some_and(|ticks| ticks > 0)
}

/// What the engine sees at `address`, in the windows that show physical addresses.
const fn physical(address: u64) -> u64 {
    if address >= layout::DEVICE { address - layout::DEVICE } else { address.wrapping_sub(layout::RAM) }
}

/// Whether no VM is loaded: from its entry on until the host's return, the vectors are the VM's.
fn host_vectors() -> bool {
    unsafe extern "C" {
        static bulkhead_host_vectors: u8;
    }
    let current: u64;
    // SAFETY: reads the register that names the vectors.
    unsafe { core::arch::asm!("mrs {}, VBAR_EL2", out(reg) current, options(nomem, nostack, preserves_flags)) };
    current == &raw const bulkhead_host_vectors as u64
}

/// A failed check of the engine's own code.
#[panic_handler]
fn failed_check(info: &PanicInfo<'_>) -> ! {
    begin();
    if let Some(place) = info.location() {
        let _ = writeln!(Console, "place={}:{}", place.file(), place.line());
    }
    let _ = writeln!(Console, "message={}", info.message());
    let frame: u64;
    // SAFETY: reads the frame pointer.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    backtrace(frame);
    end()
}

/// Follows frame records (AAPCS64, 6.2.3) upwards as long as they lie in one of this CPU's stacks.
fn backtrace(mut frame: u64) {
    let area = layout::PERCPU + cpu() * layout::PERCPU_STRIDE;
    let stacks = [
        (area + layout::PERCPU_STACK, layout::STACK_SIZE),
        (area + layout::PERCPU_EMERGENCY_STACK, layout::EMERGENCY_STACK_SIZE),
        (BOOT_STACK.address(), crate::early::BOOT_STACK_SIZE as u64),
    ];
    for _ in 0..DEPTH {
        let inside = |(base, size): &(u64, u64)| frame >= *base && frame + 16 <= base + size;
        if frame % 16 != 0 || !stacks.iter().any(inside) {
            return;
        }
        // SAFETY: the record lies in a mapped stack of this CPU (check above).
        let [next, address] = unsafe { (frame as *const [u64; 2]).read_volatile() };
        let _ = writeln!(Console, "bt={address:#018x}");
        if next <= frame {
            return;
        }
        frame = next;
    }
}
