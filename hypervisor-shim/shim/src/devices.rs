//! The devices of a VM's platform by their addresses (trust label: UNTRUSTED): interrupt controller and UART. An
//! access to anything else reads as zero, does nothing, and is logged a few times.

use crate::log;
use crate::vm::Vm;
use bulkhead_abi::VCPUS_MAX;

const GICD: u64 = 0x0800_0000;
const GICD_SIZE: u64 = 0x1_0000;
const GICR: u64 = 0x080a_0000;
const GICR_SIZE: u64 = 0x2_0000 * VCPUS_MAX as u64;
const UART: u64 = 0x0900_0000;
const UART_SIZE: u64 = 0x1000;
/// Interrupt id of the UART: SPI 1.
const UART_INTID: usize = 33;

/// Value of a load of `size` bytes at `address`.
pub fn read(index: usize, vm: &mut Vm, address: u64, size: u64) -> u64 {
    match address {
        _ if within(address, GICD, GICD_SIZE) => vm.gic.distributor_read(address - GICD, size),
        _ if within(address, GICR, GICR_SIZE) => vm.gic.redistributor_read(address - GICR, size),
        _ if within(address, UART, UART_SIZE) => {
            let value = vm.uart.read(address - UART);
            vm.gic.set_line(UART_INTID, vm.uart.line());
            u64::from(value)
        }
        _ => {
            nowhere(index, vm, "load", address, size);
            0
        }
    }
}

/// A store of `size` bytes at `address`.
pub fn write(index: usize, vm: &mut Vm, address: u64, size: u64, value: u64) {
    match address {
        _ if within(address, GICD, GICD_SIZE) => vm.gic.distributor_write(address - GICD, size, value),
        _ if within(address, GICR, GICR_SIZE) => vm.gic.redistributor_write(address - GICR, size, value),
        _ if within(address, UART, UART_SIZE) => {
            if let Some(byte) = vm.uart.write(address - UART, value as u32) {
                vm.console.put(index, byte);
            }
            vm.gic.set_line(UART_INTID, vm.uart.line());
        }
        _ => nowhere(index, vm, "store", address, size),
    }
}

/// Input for the UART; false if it does not fit.
pub fn type_in(vm: &mut Vm, data: &[u8]) -> bool {
    let taken = vm.uart.receive(data);
    vm.gic.set_line(UART_INTID, vm.uart.line());
    taken
}

fn within(address: u64, base: u64, size: u64) -> bool {
    address.checked_sub(base).is_some_and(|offset| offset < size)
}

fn nowhere(index: usize, vm: &mut Vm, what: &str, address: u64, size: u64) {
    if vm.log_budget > 0 {
        vm.log_budget -= 1;
        let last = if vm.log_budget == 0 { "; no more of these will be logged" } else { "" };
        log!("VM {index}: {what} of {size} bytes at {address:#x}, where nothing is{last}");
    }
}
