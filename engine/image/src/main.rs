//! The EL2 binary: everything between the boot loader and the host, and what the engine does when it finds itself
//! wrong.
//!
//! Trust label: TRUSTED. Calls and world switch are in `bulkhead-core` and `bulkhead-arch`. Reading order: [`start`],
//! [`early`], [`boot`], then what boot uses; `engine/docs/boot.md` tells the story.
#![no_std]
#![no_main]

mod boot;
mod device_tree;
mod devices;
mod early;
mod fdt;
mod gic;
mod glue;
mod host_program;
mod host_stage2;
mod log;
mod memory;
mod mmio;
mod panic;
mod pcie;
mod platform;
mod psci;
mod scrub;
mod seed;
#[cfg(feature = "self-test")]
mod self_test;
mod smmu;
mod start;
mod stop;
mod tables;
mod time;
mod uart;
mod virtio;
