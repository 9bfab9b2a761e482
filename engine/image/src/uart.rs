//! UART0, a PL011: boot messages and the panic dump. Output only. Trust label: TRUSTED.
//!
//! Source: Arm PrimeCell UART (PL011) TRM, DDI 0183, chapter 3.

use bulkhead_arch::layout;

use crate::mmio::Registers;
use crate::time;

const DATA: u64 = 0x00;
/// The flag register.
pub const FLAGS: u64 = 0x18;
const LINE_CONTROL: u64 = 0x2c;
/// The control register, and its value with the transmitter on.
pub const CONTROL: u64 = 0x30;
/// See [`CONTROL`].
pub const ON: u32 = 1 << 8 | 1;
/// In [`FLAGS`]: no room for another byte.
pub const TRANSMIT_FULL: u32 = 1 << 5;

// SAFETY: boot maps the page before it says anything.
const UART: Registers = unsafe { Registers::new(layout::UART0) };

/// Turns the transmitter on: 8 bits, FIFO. The baud rate stays as firmware left it.
pub fn start() {
    UART.write(CONTROL, 0);
    UART.write(LINE_CONTROL, 3 << 5 | 1 << 4);
    UART.write(CONTROL, ON);
}

/// Writes bytes, a carriage return before each line feed. A transmitter that stays full for a second loses them.
pub fn write(bytes: &[u8]) {
    for byte in bytes {
        if *byte == b'\n' {
            put(b'\r');
        }
        put(*byte);
    }
}

fn put(byte: u8) {
    if time::wait_for(|| UART.read(FLAGS) & TRANSMIT_FULL == 0) {
        UART.write(DATA, u32::from(byte));
    }
}

/// For `write!`.
pub struct Console;

impl core::fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
