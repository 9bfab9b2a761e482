//! The management UART, an Arm PL011 (Arm DDI 0183) (trust label: UNTRUSTED).

use arm_pl011_uart::{
    DataBits, FifoLevel, Interrupts, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer,
};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

const BAUD_RATE: u32 = 115_200;
/// Clock of the UART on the `virt` machine, Hz.
const CLOCK: u32 = 24_000_000;

static BASE: AtomicUsize = AtomicUsize::new(0);

/// A handle of the UART. The receiving and the sending side each use one; they touch different registers.
fn handle() -> Option<Uart<'static>> {
    let pointer = NonNull::new(core::ptr::with_exposed_provenance_mut::<PL011Registers>(BASE.load(Ordering::Relaxed)))?;
    // SAFETY: the engine maps this PL011 for the host alone, as device memory. Handles live on several CPUs,
    // but the sender (under its lock) uses DR and FR only, the receiver (boot CPU) DR reads, FR, IMSC and ICR.
    Some(Uart::new(unsafe { UniqueMmioPointer::new(pointer) }))
}

/// Turns the UART on; `base` 0 means that there is none.
pub(crate) fn init(base: u64) {
    BASE.store(base as usize, Ordering::Relaxed);
    let Some(mut uart) = handle() else { return };
    let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
    if uart.enable(line, BAUD_RATE, CLOCK).is_ok() {
        uart.set_interrupt_fifo_levels(FifoLevel::Bytes4, FifoLevel::Bytes4);
        listen(false);
    }
}

/// Masks or unmasks the receive interrupts.
pub fn listen(on: bool) {
    if let Some(mut uart) = handle() {
        uart.set_interrupt_masks(if on { Interrupts::RXI | Interrupts::RTI } else { Interrupts::empty() });
    }
}

/// The next received byte, if there is one. Bytes with line errors are dropped; the frame's CRC notices.
#[must_use]
pub fn receive() -> Option<u8> {
    let mut uart = handle()?;
    while !uart.is_rx_fifo_empty() {
        if let Ok(Some(byte)) = uart.read_word() {
            return Some(byte);
        }
    }
    None
}

/// Sends all bytes, waiting for room in the FIFO. Only one CPU may send at a time.
pub fn send(bytes: &[u8]) {
    let Some(mut uart) = handle() else { return };
    for byte in bytes {
        while uart.is_tx_fifo_full() {
            crate::cpu::relax();
        }
        uart.write_word(*byte);
    }
}
