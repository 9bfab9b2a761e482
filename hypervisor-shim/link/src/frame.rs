//! Framing: consistent overhead byte stuffing with a CRC-32 (trust label: UNTRUSTED).

use crate::{BODY_MAX, WIRE_MAX};

const CRC_SIZE: usize = 4;

/// Collects wire bytes into bodies. Invariant: `length <= WIRE_MAX`.
pub struct Receiver {
    wire: [u8; WIRE_MAX],
    length: usize,
    overflow: bool,
    bad_frames: u64,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// An empty receiver.
    #[must_use]
    pub const fn new() -> Self {
        Self { wire: [0; WIRE_MAX], length: 0, overflow: false, bad_frames: 0 }
    }

    /// Frames dropped so far: too long, not COBS, wrong CRC, or reported by [`Receiver::reject`].
    #[must_use]
    pub fn bad_frames(&self) -> u64 {
        self.bad_frames
    }

    /// Counts a frame whose body made no sense.
    pub fn reject(&mut self) {
        self.bad_frames = self.bad_frames.saturating_add(1);
    }

    /// Takes one byte; `Some(n)` when it ended a good frame of `n` bytes, to be read by [`Receiver::body`]
    /// before the next byte is pushed.
    pub fn push(&mut self, byte: u8) -> Option<usize> {
        if byte != 0 {
            match self.wire.get_mut(self.length) {
                Some(slot) => {
                    *slot = byte;
                    self.length += 1;
                }
                None => self.overflow = true,
            }
            return None;
        }
        let length = core::mem::take(&mut self.length);
        let overflow = core::mem::take(&mut self.overflow);
        if length == 0 {
            return None;
        }
        let body = if overflow { None } else { check(&mut self.wire[..length]) };
        if body.is_none() {
            self.reject();
        }
        body
    }

    /// The first `length` bytes of the frame that [`Receiver::push`] announced.
    #[must_use]
    pub fn body(&self, length: usize) -> &[u8] {
        &self.wire[..length.min(WIRE_MAX)]
    }
}

/// Undoes COBS in place and checks the CRC; the length of the body.
fn check(wire: &mut [u8]) -> Option<usize> {
    let size = cobs::decode_in_place(wire).ok()?;
    let length = size.checked_sub(CRC_SIZE).filter(|length| *length > 0 && *length <= BODY_MAX)?;
    let (body, crc) = wire.get(..size)?.split_at(length);
    (crc32fast::hash(body).to_le_bytes() == *crc).then_some(length)
}

/// Encodes a body, which must have room for the CRC behind its `length` bytes, into a wire frame.
/// Returns the bytes to send, terminator included; `None` if the body is too long.
pub fn encode<'w>(body: &mut [u8; BODY_MAX + 4], length: usize, wire: &'w mut [u8; WIRE_MAX]) -> Option<&'w [u8]> {
    if length > BODY_MAX {
        return None;
    }
    let crc = crc32fast::hash(&body[..length]).to_le_bytes();
    body[length..length + CRC_SIZE].copy_from_slice(&crc);
    let size = cobs::try_encode(&body[..length + CRC_SIZE], wire).ok()?;
    *wire.get_mut(size)? = 0;
    wire.get(..=size)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
