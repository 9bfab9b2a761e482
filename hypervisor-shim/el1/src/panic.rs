//! A panic of the program (trust label: UNTRUSTED): the text goes out as an event `panic {text}` and this CPU
//! sleeps for ever; the engine and the VMs' memory are not concerned.

use crate::{channel, cpu};
use core::fmt::Write;
use core::panic::PanicInfo;

/// Text of bounded length; what does not fit is cut off.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    /// An empty text.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// What has been written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let written = &self.bytes[..self.length];
        core::str::from_utf8(written)
            .unwrap_or_else(|error| core::str::from_utf8(&written[..error.valid_up_to()]).unwrap_or_default())
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.length..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut text = Text::<1024>::new();
    let _ = write!(text, "cpu {}: {info}", cpu::index());
    channel::last_event("panic", |event| event.text("text", text.as_str()));
    loop {
        cpu::wait_for_interrupt();
    }
}
