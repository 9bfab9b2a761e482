//! Frames and messages of the management channel (trust label: UNTRUSTED).
//!
//! On the wire a frame is `COBS(body || CRC-32(body), little endian) || 0x00`; the body is a CBOR array
//! (RFC 8949) of at most [`BODY_MAX`] bytes. Nothing here allocates, blocks or panics on what it receives:
//! bytes that are no frame are dropped and counted.
#![no_std]
#![forbid(unsafe_code)]

pub mod frame;
pub mod message;

/// Most bytes of a body.
pub const BODY_MAX: usize = 8192;
/// Most bytes of a frame on the wire: body and CRC, one COBS byte per 254, and the terminator.
pub const WIRE_MAX: usize = BODY_MAX + 4 + (BODY_MAX + 4) / 254 + 2;
