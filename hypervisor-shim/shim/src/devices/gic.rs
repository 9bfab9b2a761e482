//! The VM's interrupt controller at its addresses (trust label: UNTRUSTED).

use super::Window;
use bulkhead_abi::VCPUS_MAX;

/// The distributor.
pub const DISTRIBUTOR: Window = Window {
    base: 0x0800_0000,
    size: 0x1_0000,
    read: |_, vm, offset, size| vm.gic.distributor_read(offset, size),
    write: |_, vm, offset, size, value| vm.gic.distributor_write(offset, size, value),
};

/// The redistributors, one behind the other.
pub const REDISTRIBUTORS: Window = Window {
    base: 0x080a_0000,
    size: 0x2_0000 * VCPUS_MAX as u64,
    read: |_, vm, offset, size| vm.gic.redistributor_read(offset, size),
    write: |_, vm, offset, size, value| vm.gic.redistributor_write(offset, size, value),
};
