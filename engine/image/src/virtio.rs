//! virtio over MMIO: whatever firmware has left these transports with, they forget it. Trust label: TRUSTED.
//!
//! They master the bus outside the SMMU, and a device with buffers of firmware's writes to them when a packet comes. A
//! reset device uses no queue, and nobody but the engine reaches its registers. Source: VIRTIO 1.2, 2.1.2 (reset),
//! 4.2.2 (registers).

use bulkhead_arch::layout;

use crate::mmio::Registers;
use crate::time;

/// Bytes from one transport to the next, and of each.
pub const STRIDE: u64 = 0x200;
const MAGIC: u64 = 0;
const VIRT: u32 = 0x7472_6976;
const STATUS: u64 = 0x70;

/// Resets the transports whose bits are set in `transports`; says what does not obey. `VIRTIO_MMIO` is mapped.
pub fn reset(transports: u32) -> Result<(), &'static str> {
    // SAFETY: mapped (caller).
    let space = unsafe { Registers::new(layout::VIRTIO_MMIO) };
    for number in (0..u32::BITS).filter(|number| transports >> number & 1 == 1) {
        let transport = space.at(u64::from(number) * STRIDE);
        if transport.read(MAGIC) != VIRT {
            return Err("a virtio transport of the device tree is none");
        }
        transport.write(STATUS, 0);
        if !time::wait_for(|| transport.read(STATUS) == 0) {
            return Err("a virtio device cannot be reset");
        }
    }
    Ok(())
}
