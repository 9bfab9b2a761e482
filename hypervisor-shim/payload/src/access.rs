//! Reading, writing and executing any address, with faults reported (trust label: UNTRUSTED).
//!
//! 1, 2, 4 or 8 bytes at an aligned address are one access of that size, so that device registers can be
//! used; anything else goes in 8-byte steps where aligned, else byte by byte.

use bulkhead_el1::probe;
use bulkhead_link::message::{Answer, Refusal, Request};

/// Most bytes of one request.
const LENGTH_MAX: usize = 4096;

/// Size of the next access at `address` with `left` bytes to go, in a request of `total` bytes.
fn step(address: u64, left: usize, total: usize) -> usize {
    let fits = |size: usize| left >= size && address % size as u64 == 0;
    if matches!(total, 2 | 4 | 8) && fits(total) {
        total
    } else if fits(8) {
        8
    } else {
        1
    }
}

/// The range `address`, `length` does not wrap and is not too long.
fn check_range(address: u64, length: usize) -> Result<(), Refusal> {
    if length > LENGTH_MAX || address.checked_add(length as u64).is_none() {
        return Err(Refusal::request("a range is too long or wraps"));
    }
    Ok(())
}

/// `read {address, length}` → `{data}`, or a fault with `esr`.
pub fn read(request: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    let address = request.u64("address")?;
    let length = request.index("length", LENGTH_MAX + 1)?;
    check_range(address, length)?;
    let mut data = [0; LENGTH_MAX];
    let mut done = 0;
    while done < length {
        let at = address + done as u64;
        let size = step(at, length - done, length);
        // SAFETY: a load; the tester chose the address, and whatever it does is what is to be tested.
        let value = unsafe { probe::read(at, size) }.map_err(Refusal::fault)?;
        data[done..done + size].copy_from_slice(&value.to_le_bytes()[..size]);
        done += size;
    }
    reply.bytes("data", &data[..length]);
    Ok(())
}

/// `write {address, data}`, or a fault with `esr`.
pub fn write(request: &Request) -> Result<(), Refusal> {
    let address = request.u64("address")?;
    let data = request.bytes("data")?;
    check_range(address, data.len())?;
    let mut done = 0;
    while done < data.len() {
        let at = address + done as u64;
        let size = step(at, data.len() - done, data.len());
        let mut value = [0; 8];
        value[..size].copy_from_slice(&data[done..done + size]);
        // SAFETY: the tester chose the address; one that hits the payload itself ends the test, nothing more.
        unsafe { probe::write(at, u64::from_le_bytes(value), size) }.map_err(Refusal::fault)?;
        done += size;
    }
    Ok(())
}

/// `survey {address, step, count}` → `{reached}`: bit n of byte n / 8 says whether a load at `address + n * step` works.
pub fn survey(request: &Request, reply: &mut Answer) -> Result<(), Refusal> {
    let (address, step) = (request.u64("address")?, request.u64("step")?);
    let count = request.index("count", 8 * LENGTH_MAX + 1)?;
    let mut reached = [0_u8; LENGTH_MAX];
    for n in 0..count {
        let at = step.checked_mul(n as u64).and_then(|offset| address.checked_add(offset));
        let at = at.ok_or(Refusal::request("a range is too long or wraps"))?;
        // SAFETY: a load; the tester chose the address, and whatever it does is what is to be tested.
        if unsafe { probe::read(at, 1) }.is_ok() {
            reached[n / 8] |= 1 << (n % 8);
        }
    }
    reply.bytes("reached", &reached[..count.div_ceil(8)]);
    Ok(())
}

/// `execute {address}`, or a fault with `esr`.
pub fn execute(request: &Request) -> Result<(), Refusal> {
    // SAFETY: the tester chose the address; code there that does not return ends the test, nothing more.
    unsafe { probe::execute(request.u64("address")?) }.map_err(Refusal::fault)
}
