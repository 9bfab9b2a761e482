//! Runtime of a bare-metal program at EL1 under the engine: boot, exceptions, calls, GIC, timer and the
//! management channel (trust label: UNTRUSTED, isolated by design).
//!
//! Execution environment: EL1h, MMU off, `HCR_EL2.DC = 1`, so memory is Normal Write-Back and atomics work;
//! no floating point. `PSTATE.I` stays set: interrupts are taken at chosen points by [`gic::service`], never
//! asynchronously, so no data is shared with a handler.
//!
//! A program provides `main` and `secondary` through [`entry!`].
#![no_std]
#![cfg(target_arch = "aarch64")]

pub mod boot;
pub mod channel;
pub mod cpu;
pub mod gic;
pub mod hvc;
pub mod lock;
pub mod panic;
pub mod probe;
pub mod uart;
mod vectors;

/// Names the two functions that the runtime enters: `main(&'static BootInfo) -> !` on the boot CPU and
/// `secondary(usize) -> !` on each CPU started by [`cpu::start`], with its index.
#[macro_export]
macro_rules! entry {
    ($main:path, $secondary:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn el1_program_main(boot: &'static bulkhead_abi::BootInfo) -> ! {
            let main: fn(&'static bulkhead_abi::BootInfo) -> ! = $main;
            main(boot)
        }
        #[unsafe(no_mangle)]
        extern "C" fn el1_program_secondary(cpu: usize) -> ! {
            let secondary: fn(usize) -> ! = $secondary;
            secondary(cpu)
        }
    };
}
