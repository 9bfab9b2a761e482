//! The VM's UART at its address, with its interrupt and the console behind it (trust label: UNTRUSTED).

use super::Window;
use crate::vm::Vm;

/// Its registers.
pub const WINDOW: Window = Window { base: 0x0900_0000, size: 0x1000, read, write };
/// Interrupt id: SPI 1.
const INTID: usize = 33;

fn read(_: usize, vm: &mut Vm, offset: u64, _: u64) -> u64 {
    let value = vm.uart.read(offset);
    vm.gic.set_line(INTID, vm.uart.line());
    u64::from(value)
}

fn write(index: usize, vm: &mut Vm, offset: u64, _: u64, value: u64) {
    if let Some(byte) = vm.uart.write(offset, value as u32) {
        vm.console.put(index, byte);
    }
    vm.gic.set_line(INTID, vm.uart.line());
}

/// Input for the UART; false if it does not fit.
pub fn type_in(vm: &mut Vm, data: &[u8]) -> bool {
    let taken = vm.uart.receive(data);
    vm.gic.set_line(INTID, vm.uart.line());
    taken
}
