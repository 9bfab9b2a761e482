//! The log: lines `[ticks] message` in a ring that the host reads with `log_read`. Trust label: TRUSTED.
//!
//! Written at boot and when CPUs come and go, never on behalf of a VM. Until the host runs, lines also go to UART0.
//! A writer first takes its place in the ring and then fills it; a reader that comes between sees older bytes there.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::{time, uart};

/// Bytes kept.
const SIZE: u64 = 16 << 10;
/// Longest line, with its line feed; what is longer is cut.
const LINE: usize = 160;
/// Bytes that one `log_read` answers.
pub const CHUNK: u64 = 64;

static RING: [AtomicU8; SIZE as usize] = [const { AtomicU8::new(0) }; SIZE as usize];
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static MIRRORED: AtomicBool = AtomicBool::new(true);

/// Adds a line to the log: `log!("cpu {} on", cpu)`.
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::line(format_args!($($argument)*)) };
}
pub(crate) use log;

/// A line on its way.
struct Line {
    bytes: [u8; LINE],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // The last place is the line feed's.
            if self.used < LINE - 1 {
                self.bytes[self.used] = byte;
                self.used += 1;
            }
        }
        Ok(())
    }
}

/// Adds a line; the `log!` macro is the way to call it.
pub fn line(message: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; LINE], used: 0 };
    // `write_str` above cannot fail.
    let _ = write!(line, "[{}] {message}", time::now());
    line.bytes[line.used] = b'\n';
    let text = &line.bytes[..=line.used];
    let start = WRITTEN.fetch_add(text.len() as u64, Ordering::AcqRel);
    for (offset, byte) in (start..).zip(text) {
        RING[(offset % SIZE) as usize].store(*byte, Ordering::Release);
    }
    if MIRRORED.load(Ordering::Relaxed) {
        uart::write(text);
    }
}

/// From now on lines stay off UART0.
pub fn stop_mirror() {
    MIRRORED.store(false, Ordering::Relaxed);
}

/// Up to [`CHUNK`] bytes from `offset`, or from the oldest byte kept: the offset to ask for next, the number of
/// bytes, and the bytes, first byte in the lowest bits.
pub fn read(offset: u64) -> (u64, u64, [u64; 8]) {
    let end = WRITTEN.load(Ordering::Acquire);
    let start = offset.clamp(end.saturating_sub(SIZE), end);
    let count = (end - start).min(CHUNK);
    let mut words = [0; 8];
    for index in 0..count {
        let byte = RING[((start + index) % SIZE) as usize].load(Ordering::Acquire);
        words[(index / 8) as usize] |= u64::from(byte) << (8 * (index % 8));
    }
    (start + count, count, words)
}
