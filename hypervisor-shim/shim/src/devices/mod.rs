//! The devices of a VM's platform by their addresses (trust label: UNTRUSTED). A device is a module here, which
//! joins a model of `logic/` to the VM, and a line in [`WINDOWS`]. An access to anything else reads as zero, does
//! nothing, and is logged a few times.

pub mod disk;
pub mod firmware;
mod gic;
pub mod uart;

use crate::log;
use crate::vm::Vm;

/// What a device does at the VM in slot `index`. Offsets count from the window's base; sizes are 1, 2, 4 or 8 bytes.
pub struct Window {
    base: u64,
    size: u64,
    read: fn(index: usize, vm: &mut Vm, offset: u64, size: u64) -> u64,
    write: fn(index: usize, vm: &mut Vm, offset: u64, size: u64, value: u64),
}

/// The platform: addresses are those of QEMU's machine `virt`.
const WINDOWS: [Window; 7] = [
    gic::DISTRIBUTOR,
    gic::REDISTRIBUTORS,
    uart::WINDOW,
    disk::WINDOW,
    firmware::FLASH,
    firmware::CLOCK,
    firmware::CONFIGURATION,
];

/// Value of a load of `size` bytes at `address`.
pub fn read(index: usize, vm: &mut Vm, address: u64, size: u64) -> u64 {
    match find(address) {
        Some((window, offset)) => (window.read)(index, vm, offset, size),
        None => {
            nowhere(index, vm, "load", address, size);
            0
        }
    }
}

/// A store of `size` bytes at `address`.
pub fn write(index: usize, vm: &mut Vm, address: u64, size: u64, value: u64) {
    match find(address) {
        Some((window, offset)) => (window.write)(index, vm, offset, size, value),
        None => nowhere(index, vm, "store", address, size),
    }
}

/// The window that `address` lies in, and the offset there.
fn find(address: u64) -> Option<(&'static Window, u64)> {
    WINDOWS.iter().find_map(|window| {
        let offset = address.checked_sub(window.base).filter(|offset| *offset < window.size)?;
        Some((window, offset))
    })
}

fn nowhere(index: usize, vm: &mut Vm, what: &str, address: u64, size: u64) {
    if vm.log_budget > 0 {
        vm.log_budget -= 1;
        let last = if vm.log_budget == 0 { "; no more of these will be logged" } else { "" };
        log!("VM {index}: {what} of {size} bytes at {address:#x}, where nothing is{last}");
    }
}
