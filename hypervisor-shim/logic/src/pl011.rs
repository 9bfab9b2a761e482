//! The UART that a VM sees: an Arm PL011, revision 1 (Arm DDI 0183G) (trust label: UNTRUSTED).
//!
//! What the VM sends is taken at once, so the transmit FIFO is always empty. What it receives waits in a queue
//! longer than the hardware's, so that a sender of a whole line needs no flow control.

const DR: u64 = 0x000;
const RSR: u64 = 0x004;
const FR: u64 = 0x018;
const ILPR: u64 = 0x020;
const IBRD: u64 = 0x024;
const FBRD: u64 = 0x028;
const LCR_H: u64 = 0x02c;
const CR: u64 = 0x030;
const IFLS: u64 = 0x034;
const IMSC: u64 = 0x038;
const RIS: u64 = 0x03c;
const MIS: u64 = 0x040;
const ICR: u64 = 0x044;
const DMACR: u64 = 0x048;
/// Peripheral and cell identification, from 0xfe0.
const IDENTIFICATION: [u32; 8] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

const FR_RECEIVE_EMPTY: u32 = 1 << 4;
const FR_RECEIVE_FULL: u32 = 1 << 6;
const FR_TRANSMIT_EMPTY: u32 = 1 << 7;
const INTERRUPT_RECEIVE: u32 = 1 << 4;
const INTERRUPT_TRANSMIT: u32 = 1 << 5;
const INTERRUPTS: u32 = 0x7ff;
/// Bytes of the hardware's receive FIFO, from which on it counts as full.
const FIFO: usize = 16;
/// Bytes of the receive queue.
const QUEUE: usize = 4096;

/// State of one UART. Invariant: `first < QUEUE`, `count <= QUEUE`.
pub struct Pl011 {
    queue: [u8; QUEUE],
    first: usize,
    count: usize,
    raw: u32,
    mask: u32,
    control: u32,
    line_control: u32,
    integer_divisor: u32,
    fractional_divisor: u32,
    levels: u32,
}

impl Default for Pl011 {
    fn default() -> Self {
        Self::new()
    }
}

impl Pl011 {
    /// The UART after reset.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queue: [0; QUEUE],
            first: 0,
            count: 0,
            raw: 0,
            mask: 0,
            control: 0x300,
            line_control: 0,
            integer_divisor: 0,
            fractional_divisor: 0,
            levels: 0x12,
        }
    }

    /// Level of the interrupt output.
    #[must_use]
    pub fn line(&self) -> bool {
        self.raw & self.mask != 0
    }

    /// Puts `bytes` into the receive queue; false, with nothing changed, if they do not all fit.
    pub fn receive(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > QUEUE - self.count {
            return false;
        }
        for byte in bytes {
            self.queue[(self.first + self.count) % QUEUE] = *byte;
            self.count += 1;
        }
        if !bytes.is_empty() {
            self.raw |= INTERRUPT_RECEIVE;
        }
        true
    }

    fn take(&mut self) -> u32 {
        if self.count == 0 {
            return 0;
        }
        let byte = self.queue[self.first];
        self.first = (self.first + 1) % QUEUE;
        self.count -= 1;
        if self.count == 0 {
            self.raw &= !INTERRUPT_RECEIVE;
        }
        u32::from(byte)
    }

    /// Value of the register at `offset`.
    pub fn read(&mut self, offset: u64) -> u32 {
        match offset {
            DR => self.take(),
            FR => self.flags(),
            IBRD => self.integer_divisor,
            FBRD => self.fractional_divisor,
            LCR_H => self.line_control,
            CR => self.control,
            IFLS => self.levels,
            IMSC => self.mask,
            RIS => self.raw,
            MIS => self.raw & self.mask,
            0xfe0..=0xffc => IDENTIFICATION[((offset - 0xfe0) / 4) as usize],
            _ => 0,
        }
    }

    fn flags(&self) -> u32 {
        let mut flags = FR_TRANSMIT_EMPTY;
        if self.count == 0 {
            flags |= FR_RECEIVE_EMPTY;
        }
        if self.count >= FIFO {
            flags |= FR_RECEIVE_FULL;
        }
        flags
    }

    /// Writes the register at `offset`; the byte that the VM sent, if it did.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<u8> {
        match offset {
            DR => {
                self.raw |= INTERRUPT_TRANSMIT;
                return Some(value as u8);
            }
            IBRD => self.integer_divisor = value & 0xffff,
            FBRD => self.fractional_divisor = value & 0x3f,
            LCR_H => self.line_control = value & 0xff,
            CR => self.control = value & 0xffff,
            IFLS => self.levels = value & 0x3f,
            IMSC => self.mask = value & INTERRUPTS,
            ICR => {
                self.raw &= !value;
                if self.count > 0 {
                    self.raw |= INTERRUPT_RECEIVE;
                }
            }
            RSR | ILPR | DMACR => {}
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_bytes_raise_the_line_until_they_are_read() {
        let mut uart = Pl011::new();
        assert!(uart.receive(b"ab") && !uart.line());
        uart.write(IMSC, INTERRUPT_RECEIVE);
        assert!(uart.line());
        uart.write(ICR, INTERRUPTS);
        assert!(uart.line(), "bytes are still there");
        assert_eq!((uart.read(DR), uart.line()), (u32::from(b'a'), true));
        assert_eq!((uart.read(DR), uart.line()), (u32::from(b'b'), false));
        assert_eq!(uart.read(FR) & FR_RECEIVE_EMPTY, FR_RECEIVE_EMPTY);
        assert_eq!(uart.read(DR), 0);
    }

    #[test]
    fn the_queue_takes_all_or_nothing_and_wraps() {
        let mut uart = Pl011::new();
        assert!(!uart.receive(&[0; QUEUE + 1]));
        for round in 0..5_u8 {
            assert!(uart.receive(&[round; QUEUE - 1]) && !uart.receive(&[0; 2]));
            for _ in 0..QUEUE - 1 {
                assert_eq!(uart.read(DR), u32::from(round));
            }
        }
    }

    #[test]
    fn sending_raises_the_transmit_interrupt_until_it_is_cleared() {
        let mut uart = Pl011::new();
        uart.write(IMSC, INTERRUPT_TRANSMIT);
        assert_eq!(uart.write(DR, 0x141), Some(0x41));
        assert!(uart.line());
        assert_eq!(uart.write(ICR, INTERRUPT_TRANSMIT), None);
        assert!(!uart.line());
    }

    #[test]
    fn identification_is_that_of_an_arm_pl011() {
        let mut uart = Pl011::new();
        let mut id = 0;
        for (index, offset) in (0xfe0..0x1000).step_by(4).enumerate() {
            id |= u64::from(uart.read(offset)) << (8 * index);
        }
        assert_eq!(id, 0xb105_f00d_0014_1011);
    }
}
