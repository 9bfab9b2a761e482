//! What the hypervisor decides, without touching the machine, so that it can be tested anywhere: the frames it
//! has to give, the GIC, the UART and the disk that a VM sees (trust label: UNTRUSTED).
#![no_std]
#![forbid(unsafe_code)]

pub mod frames;
pub mod pl011;
pub mod store;
pub mod vgic;
pub mod virtio;
