//! What the hypervisor decides, without touching the machine, so that it can be tested anywhere: the frames it
//! has to give, and the devices that a VM sees (trust label: UNTRUSTED).
#![no_std]
#![forbid(unsafe_code)]

pub mod flash;
pub mod frames;
pub mod fw_cfg;
pub mod pl011;
pub mod pl031;
pub mod store;
pub mod vgic;
pub mod virtio;
