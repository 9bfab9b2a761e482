//! The one home of `unsafe`: EL2 registers, exception vectors, the world switch, TLB, cache and GIC primitives.
//!
//! Trust label: TRUSTED. Decisions are not made here: they are `bulkhead-core`'s, which this crate serves as its
//! [`Hardware`](bulkhead_core::Hardware) through the zero-sized [`Machine`]. Source of every register and
//! instruction: Arm ARM DDI 0487 (sections named where used), GIC: IHI 0069.
//!
//! Invariants of the whole crate:
//! - EL2 runs with DAIF masked, so nothing here is re-entered.
//! - `SP_EL2` is the current context when the host or a VM runs ([`percpu::HostContext`] or the vCPU's frame);
//!   `TPIDR_EL2` is always this CPU's `HostContext`, below which lies the Rust stack.
//! - A VM's register values are stored in its vCPU frame only; what Rust spills of x19 to x28 stays on this CPU's
//!   stack, which no domain maps.
#![no_std]
#![cfg(target_arch = "aarch64")]

#[macro_use]
pub mod sysreg;

pub mod cache;
pub mod cpu;
mod exits;
pub mod features;
pub mod gic;
pub mod hooks;
mod host;
pub mod layout;
pub mod machine;
pub mod mem;
pub mod percpu;
pub mod random;
pub mod registers;
pub mod resident;
pub mod smmu;
pub mod statics;
pub mod tlb;
pub mod vectors;

pub use machine::Machine;
