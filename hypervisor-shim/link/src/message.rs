//! Messages: requests `[sequence, operation, {arguments}]`, replies `[sequence, code, {..}]` and events
//! `[0, name, {..}]` as CBOR (trust label: UNTRUSTED).
//!
//! A request is an allegation: every argument is decoded where it is asked for, and a wrong type is a
//! [`Refusal`], never a panic.

use minicbor::data::Type;
use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};

/// Code of a refusal whose cause is a fault of an access.
pub const CODE_FAULT: u64 = 1;
/// Code of a refusal of a malformed or unknown request.
pub const CODE_REQUEST: u64 = 2;
/// Code of a refusal because the state does not allow the request.
pub const CODE_STATE: u64 = 3;
/// Code of a refusal because the engine refused a call; `status` and `detail` say how.
pub const CODE_CALL: u64 = 4;

/// Why a request was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// One of the `CODE_*` constants.
    pub code: u64,
    /// What went wrong.
    pub text: &'static str,
    /// Further values, by name.
    pub values: [Option<(&'static str, u64)>; 2],
}

impl Refusal {
    /// A malformed or unknown request.
    #[must_use]
    pub const fn request(text: &'static str) -> Self {
        Self { code: CODE_REQUEST, text, values: [None; 2] }
    }

    /// The state does not allow the request.
    #[must_use]
    pub const fn state(text: &'static str) -> Self {
        Self { code: CODE_STATE, text, values: [None; 2] }
    }

    /// An access faulted with this syndrome (`ESR_EL1`).
    #[must_use]
    pub const fn fault(esr: u64) -> Self {
        Self { code: CODE_FAULT, text: "fault", values: [Some(("esr", esr)), None] }
    }

    /// The engine refused `call` with `status` in x0 and `detail` in x1.
    #[must_use]
    pub const fn call(call: &'static str, status: u64, detail: u64) -> Self {
        Self { code: CODE_CALL, text: call, values: [Some(("status", status)), Some(("detail", detail))] }
    }
}

/// A request whose arguments have not been looked at.
#[derive(Debug, Clone)]
pub struct Request<'b> {
    /// Number that the reply repeats; at least 1.
    pub sequence: u64,
    /// Name of the operation.
    pub operation: &'b str,
    arguments: &'b [u8],
}

impl<'b> Request<'b> {
    /// Reads a body; `None` if it is no request at all.
    #[must_use]
    pub fn parse(body: &'b [u8]) -> Option<Self> {
        let mut decoder = Decoder::new(body);
        if decoder.array().ok()? != Some(3) {
            return None;
        }
        let sequence = decoder.u64().ok().filter(|sequence| *sequence >= 1)?;
        let operation = decoder.str().ok()?;
        let arguments = body.get(decoder.position()..)?;
        Some(Self { sequence, operation, arguments })
    }

    /// Refuses arguments that are no map of known names, each at most once, and what lies behind them.
    ///
    /// # Errors
    /// The arguments are malformed, or one of them is not among `names`.
    pub fn only(&self, names: &[&str]) -> Result<(), Refusal> {
        const MALFORMED: Refusal = Refusal::request("the arguments are malformed");
        let mut decoder = Decoder::new(self.arguments);
        let mut seen = 0_u64;
        for _ in 0..decoder.map().ok().flatten().ok_or(MALFORMED)? {
            let key = decoder.str().map_err(|_| MALFORMED)?;
            let index = names.iter().take(64).position(|name| *name == key);
            let bit = 1 << index.ok_or(Refusal::request("the operation has no such argument"))?;
            if seen & bit != 0 {
                return Err(Refusal::request("an argument comes twice"));
            }
            seen |= bit;
            decoder.skip().map_err(|_| MALFORMED)?;
        }
        if decoder.position() == self.arguments.len() { Ok(()) } else { Err(MALFORMED) }
    }

    /// A decoder standing at the value of argument `key`.
    fn find(&self, key: &str) -> Option<Decoder<'b>> {
        let mut decoder = Decoder::new(self.arguments);
        let entries = decoder.map().ok()??;
        for _ in 0..entries {
            let found = decoder.str().ok()? == key;
            if found {
                return Some(decoder);
            }
            decoder.skip().ok()?;
        }
        None
    }

    /// Argument `key`, an unsigned integer.
    ///
    /// # Errors
    /// Missing, or of another type.
    pub fn u64(&self, key: &str) -> Result<u64, Refusal> {
        let value = self.find(key).and_then(|mut decoder| decoder.u64().ok());
        value.ok_or(Refusal::request("an unsigned integer argument is missing"))
    }

    /// Argument `key`, an index below `limit`.
    ///
    /// # Errors
    /// Missing, of another type, or out of range.
    pub fn index(&self, key: &str, limit: usize) -> Result<usize, Refusal> {
        let value = usize::try_from(self.u64(key)?).ok().filter(|value| *value < limit);
        value.ok_or(Refusal::request("an index argument is out of range"))
    }

    /// Argument `key`, a byte string.
    ///
    /// # Errors
    /// Missing, or of another type.
    pub fn bytes(&self, key: &str) -> Result<&'b [u8], Refusal> {
        let value = self.find(key).and_then(|mut decoder| decoder.bytes().ok());
        value.ok_or(Refusal::request("a byte string argument is missing"))
    }

    /// Argument `key`, a text.
    ///
    /// # Errors
    /// Missing, or of another type.
    pub fn text(&self, key: &str) -> Result<&'b str, Refusal> {
        let value = self.find(key).and_then(|mut decoder| decoder.str().ok());
        value.ok_or(Refusal::request("a text argument is missing"))
    }

    /// What `read` makes of argument `key`, or `None` where it is null or missing.
    fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Self, &str) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        match self.find(key) {
            None => Ok(None),
            Some(decoder) if decoder.datatype().is_ok_and(|kind| kind == Type::Null) => Ok(None),
            Some(_) => read(self, key).map(Some),
        }
    }

    /// Argument `key`, a text, or `None` where it is null or missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn optional_text(&self, key: &str) -> Result<Option<&'b str>, Refusal> {
        self.optional(key, Self::text)
    }

    /// Argument `key`, a byte string, or `None` where it is null or missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn optional_bytes(&self, key: &str) -> Result<Option<&'b [u8]>, Refusal> {
        self.optional(key, Self::bytes)
    }

    /// Argument `key`, an unsigned integer, or `None` where it is null or missing.
    ///
    /// # Errors
    /// Of another type.
    pub fn optional_u64(&self, key: &str) -> Result<Option<u64>, Refusal> {
        self.optional(key, Self::u64)
    }

    /// Argument `key`, an array of at most `N` unsigned integers; the rest of the result is 0.
    ///
    /// # Errors
    /// Missing, of another type, or too long.
    pub fn integers<const N: usize>(&self, key: &str) -> Result<([u64; N], usize), Refusal> {
        let refusal = Refusal::request("an array of unsigned integers is missing or too long");
        let mut decoder = self.find(key).ok_or(refusal)?;
        let length = decoder.array().ok().flatten().and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= N).ok_or(refusal)?;
        let mut values = [0; N];
        for value in &mut values[..length] {
            *value = decoder.u64().map_err(|_| refusal)?;
        }
        Ok((values, length))
    }

    /// Argument `key`, an array of at most `N` pairs of unsigned integers.
    ///
    /// # Errors
    /// Missing, of another type, or too long.
    pub fn pairs<const N: usize>(&self, key: &str) -> Result<([(u64, u64); N], usize), Refusal> {
        let refusal = Refusal::request("an array of pairs is missing or too long");
        let mut decoder = self.find(key).ok_or(refusal)?;
        let length = decoder.array().ok().flatten().and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= N).ok_or(refusal)?;
        let mut values = [(0, 0); N];
        for value in &mut values[..length] {
            if decoder.array().map_err(|_| refusal)? != Some(2) {
                return Err(refusal);
            }
            *value = (decoder.u64().map_err(|_| refusal)?, decoder.u64().map_err(|_| refusal)?);
        }
        Ok((values, length))
    }
}

/// The open map at the end of a reply or event. Once it has overflowed, nothing more is written.
pub struct Answer<'w> {
    encoder: Encoder<Cursor<&'w mut [u8]>>,
    overflow: bool,
}

type Encoded<'w> = Encoder<Cursor<&'w mut [u8]>>;

impl<'w> Answer<'w> {
    /// Starts `[sequence, code, {` in `body`.
    #[must_use]
    pub fn reply(body: &'w mut [u8], sequence: u64, code: u64) -> Self {
        let mut answer = Self { encoder: Encoder::new(Cursor::new(body)), overflow: false };
        answer.put(|encoder| encoder.array(3)?.u64(sequence)?.u64(code)?.begin_map()?.ok());
        answer
    }

    /// Starts `[0, name, {` in `body`.
    #[must_use]
    pub fn event(body: &'w mut [u8], name: &str) -> Self {
        let mut answer = Self { encoder: Encoder::new(Cursor::new(body)), overflow: false };
        answer.put(|encoder| encoder.array(3)?.u8(0)?.str(name)?.begin_map()?.ok());
        answer
    }

    /// Ends the map; the length of the body, or `None` if it did not fit.
    #[must_use]
    pub fn finish(mut self) -> Option<usize> {
        self.put(|encoder| encoder.end()?.ok());
        (!self.overflow).then(|| self.encoder.writer().position())
    }

    /// Writes CBOR items of any form; overflow is remembered.
    pub fn put<E>(&mut self, write: impl FnOnce(&mut Encoded<'w>) -> Result<(), E>) {
        if !self.overflow && write(&mut self.encoder).is_err() {
            self.overflow = true;
        }
    }

    /// An unsigned integer.
    pub fn u64(&mut self, key: &str, value: u64) {
        self.put(|encoder| encoder.str(key)?.u64(value)?.ok());
    }

    /// A truth value.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.put(|encoder| encoder.str(key)?.bool(value)?.ok());
    }

    /// A text.
    pub fn text(&mut self, key: &str, value: &str) {
        self.put(|encoder| encoder.str(key)?.str(value)?.ok());
    }

    /// A byte string.
    pub fn bytes(&mut self, key: &str, value: &[u8]) {
        self.put(|encoder| encoder.str(key)?.bytes(value)?.ok());
    }

    /// An array of unsigned integers.
    pub fn integers(&mut self, key: &str, values: &[u64]) {
        self.put(|encoder| {
            encoder.str(key)?.array(values.len() as u64)?;
            for value in values {
                encoder.u64(*value)?;
            }
            encoder.ok()
        });
    }

    /// A nested map that `fill` writes.
    pub fn map(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.put(|encoder| encoder.str(key)?.begin_map()?.ok());
        fill(self);
        self.put(|encoder| encoder.end()?.ok());
    }
}

/// Writes the reply to `request` into `body`: what `handle` answers, or its refusal. The length of the body.
pub fn answer<'b>(
    body: &mut [u8],
    request: &Request<'b>,
    handle: impl FnOnce(&Request<'b>, &mut Answer) -> Result<(), Refusal>,
) -> usize {
    let mut reply = Answer::reply(body, request.sequence, 0);
    let refusal = match handle(request, &mut reply) {
        Ok(()) => match reply.finish() {
            Some(length) => return length,
            None => Refusal::state("the answer does not fit into a frame"),
        },
        Err(refusal) => refusal,
    };
    let mut reply = Answer::reply(body, request.sequence, refusal.code);
    reply.text("error", refusal.text);
    for (name, value) in refusal.values.into_iter().flatten() {
        reply.u64(name, value);
    }
    reply.finish().unwrap_or(0)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
