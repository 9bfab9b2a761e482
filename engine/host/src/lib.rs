//! The engine's decisions, compiled for the developer's machine. Trust label: TOOL.
//!
//! The very same `bulkhead_core` that the image runs, on a fake machine: RAM is allocated memory at a fake physical
//! base, and every maintenance operation becomes an [`trace::Event`]. The fake also checks what the contract of
//! [`bulkhead_core::Hardware`] asks of its callers (indices in range, frame records only of split blocks, changes
//! only under the ownership lock); a violation is a panic, which the C interface in [`ffi`] reports as an error.
//!
//! Invariants: a machine's behaviour is a function of its configuration and the calls made on it; there is no global
//! state; the records and tables lie in fake RAM in the same form as at EL2, so one reader serves both.
//!
//! Reading order: [`layout`], [`machine`], [`hardware`], [`ffi`].
#![deny(unsafe_code)]

pub mod ffi;
pub mod hardware;
pub mod layout;
pub mod machine;
pub mod memory;
pub mod platform;
pub mod trace;
pub mod vcpu;

#[cfg(test)]
mod threads;
