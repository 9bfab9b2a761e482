//! The management channel: frames over the UART (trust label: UNTRUSTED).
//!
//! Only the boot CPU receives ([`Inbox`]); any CPU sends, under one lock, which is the innermost of all.

use crate::lock::Mutex;
use crate::{cpu, uart};
use bulkhead_link::frame::{self, Receiver};
use bulkhead_link::message::{Answer, Refusal, Request, answer};
use bulkhead_link::{BODY_MAX, WIRE_MAX};

struct Sender {
    body: [u8; BODY_MAX + 4],
    wire: [u8; WIRE_MAX],
}

impl Sender {
    fn send(&mut self, length: usize) {
        if let Some(bytes) = frame::encode(&mut self.body, length, &mut self.wire) {
            uart::send(bytes);
        }
    }
}

static SENDER: Mutex<Sender> = Mutex::new(Sender { body: [0; BODY_MAX + 4], wire: [0; WIRE_MAX] });

/// Sends the event `name` with the values that `fill` writes. One that does not fit is dropped.
pub fn event(name: &str, fill: impl FnOnce(&mut Answer)) {
    let mut sender = SENDER.lock();
    let mut event = Answer::event(&mut sender.body[..BODY_MAX], name);
    fill(&mut event);
    if let Some(length) = event.finish() {
        sender.send(length);
    }
}

/// Like [`event`], for the panic handler: takes the lock from whoever holds it after a while.
pub(crate) fn last_event(name: &str, fill: impl FnOnce(&mut Answer)) {
    for _ in 0..1_000_000 {
        if !SENDER.is_locked() {
            break;
        }
        cpu::relax();
    }
    // SAFETY: the lock is free, or its holder is this CPU, which will never go on, or one that has not moved
    // for long; at worst two frames mix and their CRCs fail.
    unsafe { SENDER.force_unlock() };
    event(name, fill);
}

/// The receiving side, owned by the boot CPU.
pub struct Inbox {
    receiver: Receiver,
    request: [u8; BODY_MAX],
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox {
    /// An empty inbox.
    #[must_use]
    pub const fn new() -> Self {
        Self { receiver: Receiver::new(), request: [0; BODY_MAX] }
    }

    /// Reads what has arrived, up to one request, and answers that by `handle`, which also gets the number of
    /// bad frames so far. False when nothing more is there; the receive interrupt is then unmasked.
    pub fn poll(&mut self, handle: impl FnOnce(&Request, u64, &mut Answer) -> Result<(), Refusal>) -> bool {
        let Some(length) = self.next_body() else {
            uart::listen(true);
            return false;
        };
        self.request[..length].copy_from_slice(self.receiver.body(length));
        let bad_frames = self.receiver.bad_frames();
        match Request::parse(&self.request[..length]) {
            None => self.receiver.reject(),
            Some(request) => reply(&request, |request, reply| handle(request, bad_frames, reply)),
        }
        true
    }

    fn next_body(&mut self) -> Option<usize> {
        loop {
            if let Some(length) = self.receiver.push(uart::receive()?) {
                return Some(length);
            }
        }
    }
}

/// Runs the handler with its own buffer, so that events can be sent meanwhile, then sends the reply.
fn reply<'b>(request: &Request<'b>, handle: impl FnOnce(&Request<'b>, &mut Answer) -> Result<(), Refusal>) {
    let mut body = [0; BODY_MAX];
    let length = answer(&mut body, request, handle);
    let mut sender = SENDER.lock();
    sender.body[..length].copy_from_slice(&body[..length]);
    sender.send(length);
}
