//! Virtio devices as a VM sees them, version 1 only (trust label: UNTRUSTED). Source: OASIS virtio 1.2.
//!
//! Everything that a driver writes is an allegation. A device touches the VM's memory through [`Memory`] alone, which
//! reaches nothing but pages that the VM shares; it reads every ring entry and descriptor once, and a ring that makes
//! no sense breaks the device, and nothing else, until the driver resets it.

pub mod block;
pub mod mmio;
pub mod queue;

/// The VM does not share what an access would touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotShared;

/// The memory that a VM shares with the host, by the VM's addresses (IPA). Accesses take effect in program order.
pub trait Memory {
    /// Fills `bytes` from `address` on.
    ///
    /// # Errors
    /// Not all of the range is shared; `bytes` holds anything.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), NotShared>;

    /// Stores `bytes` from `address` on.
    ///
    /// # Errors
    /// Not all of the range is shared; some of `bytes` may have been stored where it is.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NotShared>;
}

/// Why a device works no more until its driver resets it (`DEVICE_NEEDS_RESET`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A ring, or the place of a request's status, is not shared.
    NotShared,
    /// The available ring is further ahead than it is long, or names a descriptor behind the table.
    Ring,
    /// A chain loops, leaves the table, uses what was not negotiated, has its parts in the wrong order, or has no room
    /// for a request.
    Chain,
}

impl From<NotShared> for Broken {
    fn from(_: NotShared) -> Self {
        Self::NotShared
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
