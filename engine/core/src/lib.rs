//! The engine's decisions: who owns each frame, what each table holds, which call may change what.
//!
//! Trust label: PROVED for the calls, CHECKED for what says so in its head. No `unsafe`, no assembly, no globals, no
//! heap, no recursion, no formatting; everything that touches the machine goes through the [`Hardware`] trait, which
//! `engine/arch` implements for AArch64 at EL2 and `engine/host` with fake RAM for tests on a developer's machine.
//!
//! Reading order: [`addr`], [`owner`], [`stage2`], [`vm`], then a call in [`call`], say [`call::map`].
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod call;
pub mod hardware;
pub mod measure;
pub mod outcome;
pub mod owner;
pub mod psci;
pub mod stage2;
pub mod trng;
pub mod vcpu;
pub mod vm;

pub use hardware::Hardware;
pub use outcome::Outcome;
