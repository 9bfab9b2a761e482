//! The device's side of a split virtqueue (trust label: UNTRUSTED). Source: virtio 1.2, 2.7.
//!
//! Neither indirect descriptors nor event indexes are offered.

use super::{Broken, Memory, NotShared};

/// Most entries of a queue.
pub const SIZE_MAX: u16 = 64;

const DESCRIPTOR: u64 = 16;
const USED: u64 = 8;
/// Bytes before the entries of either ring: flags and index.
const HEAD: u64 = 4;
const FLAG_NEXT: u16 = 1;
const FLAG_WRITE: u16 = 2;
const AVAILABLE_NO_INTERRUPT: u16 = 1;

/// A queue as the driver configured it, and how far the device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Entries.
    pub size: u16,
    /// The driver has said that it may be used; from then on the fields above and below do not change.
    pub ready: bool,
    /// Address of the descriptor table.
    pub descriptors: u64,
    /// Address of the available ring ("driver area").
    pub driver: u64,
    /// Address of the used ring ("device area").
    pub device: u64,
    next_available: u16,
    next_used: u16,
}

impl Queue {
    /// A queue that has not been configured.
    pub const NEW: Self =
        Self { size: 0, ready: false, descriptors: 0, driver: 0, device: 0, next_available: 0, next_used: 0 };

    /// Whether size and alignment are what 2.7 demands.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.size.is_power_of_two()
            && self.size <= SIZE_MAX
            && self.descriptors % DESCRIPTOR == 0
            && self.driver % 2 == 0
            && self.device % 4 == 0
    }

    /// Number of chains that the driver has made available and the device has not taken.
    ///
    /// # Errors
    /// The ring is not shared, or its index is further ahead than the queue is long.
    pub fn pending(&self, memory: &mut impl Memory) -> Result<u16, Broken> {
        let index = read_u16(memory, self.driver, 2)?;
        let pending = index.wrapping_sub(self.next_available);
        if pending > self.size { Err(Broken::Ring) } else { Ok(pending) }
    }

    /// The next available chain; only after [`Queue::pending`] has found one.
    ///
    /// # Errors
    /// Ring or table is not shared, or the chain is malformed.
    pub fn take(&mut self, memory: &mut impl Memory) -> Result<Chain, Broken> {
        let slot = u64::from(self.next_available % self.size);
        let head = read_u16(memory, self.driver, HEAD + 2 * slot)?;
        self.next_available = self.next_available.wrapping_add(1);
        if head >= self.size {
            return Err(Broken::Ring);
        }
        let mut chain = Chain { head, segments: [Segment::NONE; SIZE_MAX as usize], readable: 0, count: 0 };
        let mut index = head;
        loop {
            let descriptor = Descriptor::read(memory, self.descriptors, index)?;
            chain.push(&descriptor, self.size)?;
            if descriptor.flags & FLAG_NEXT == 0 {
                return Ok(chain);
            }
            index = descriptor.next;
            if index >= self.size {
                return Err(Broken::Chain);
            }
        }
    }

    /// Hands a chain back, into the first `written` bytes of whose writable part the device has written.
    ///
    /// # Errors
    /// The ring is not shared.
    pub fn put(&mut self, memory: &mut impl Memory, chain: &Chain, written: u32) -> Result<(), Broken> {
        let slot = u64::from(self.next_used % self.size);
        let mut entry = [0; USED as usize];
        entry[..4].copy_from_slice(&u32::from(chain.head).to_le_bytes());
        entry[4..].copy_from_slice(&written.to_le_bytes());
        memory.write(offset(self.device, HEAD + USED * slot)?, &entry)?;
        self.next_used = self.next_used.wrapping_add(1);
        memory.write(offset(self.device, 2)?, &self.next_used.to_le_bytes())?;
        Ok(())
    }

    /// Whether the driver wants an interrupt for what came back.
    ///
    /// # Errors
    /// The ring is not shared.
    pub fn wants_interrupt(&self, memory: &mut impl Memory) -> Result<bool, Broken> {
        Ok(read_u16(memory, self.driver, 0)? & AVAILABLE_NO_INTERRUPT == 0)
    }
}

fn offset(base: u64, by: u64) -> Result<u64, NotShared> {
    base.checked_add(by).ok_or(NotShared)
}

fn read_u16(memory: &mut impl Memory, base: u64, by: u64) -> Result<u16, NotShared> {
    let mut bytes = [0; 2];
    memory.read(offset(base, by)?, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

/// A descriptor, read once.
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &mut impl Memory, table: u64, index: u16) -> Result<Self, NotShared> {
        let mut bytes = [0; DESCRIPTOR as usize];
        memory.read(offset(table, DESCRIPTOR * u64::from(index))?, &mut bytes)?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        Ok(Self {
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        })
    }
}

/// A buffer of the VM.
#[derive(Debug, Clone, Copy)]
struct Segment {
    address: u64,
    length: u64,
}

impl Segment {
    const NONE: Self = Self { address: 0, length: 0 };
}

/// The buffers of one request: first those that the device reads, then those that it writes. Invariant:
/// `readable <= count <= SIZE_MAX`.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    segments: [Segment; SIZE_MAX as usize],
    readable: usize,
    count: usize,
}

impl Chain {
    fn push(&mut self, descriptor: &Descriptor, size: u16) -> Result<(), Broken> {
        let writable = descriptor.flags & FLAG_WRITE != 0;
        let unknown = descriptor.flags & !(FLAG_NEXT | FLAG_WRITE) != 0;
        let disordered = !writable && self.readable != self.count;
        // A chain longer than the table uses an entry twice: it loops.
        if unknown || disordered || self.count >= usize::from(size.min(SIZE_MAX)) {
            return Err(Broken::Chain);
        }
        self.segments[self.count] = Segment { address: descriptor.address, length: u64::from(descriptor.length) };
        self.count += 1;
        self.readable += usize::from(!writable);
        Ok(())
    }

    /// Bytes that the device may read.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.segments[..self.readable].iter().map(|segment| segment.length).sum()
    }

    /// Bytes that the device may write.
    #[must_use]
    pub fn writable(&self) -> u64 {
        self.segments[self.readable..self.count].iter().map(|segment| segment.length).sum()
    }

    /// Fills `bytes` from byte `position` of the readable part on, however that is cut into buffers.
    ///
    /// # Errors
    /// The chain is shorter, or a buffer is not shared.
    pub fn read(&self, memory: &mut impl Memory, position: u64, bytes: &mut [u8]) -> Result<(), NotShared> {
        let mut rest = bytes;
        for (address, length) in pieces(&self.segments[..self.readable], position, rest.len() as u64) {
            let (piece, behind) = rest.split_at_mut(length as usize);
            memory.read(address.ok_or(NotShared)?, piece)?;
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(NotShared) }
    }

    /// Stores `bytes` from byte `position` of the writable part on, however that is cut into buffers.
    ///
    /// # Errors
    /// The chain is shorter, or a buffer is not shared.
    pub fn write(&self, memory: &mut impl Memory, position: u64, bytes: &[u8]) -> Result<(), NotShared> {
        let mut rest = bytes;
        for (address, length) in pieces(&self.segments[self.readable..self.count], position, rest.len() as u64) {
            let (piece, behind) = rest.split_at(length as usize);
            memory.write(address.ok_or(NotShared)?, piece)?;
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(NotShared) }
    }
}

/// Address (none if it wraps) and length of the pieces of `segments` that hold `length` bytes from `position` on.
fn pieces(segments: &[Segment], position: u64, length: u64) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
    let (mut skip, mut left) = (position, length);
    segments.iter().filter_map(move |segment| {
        let skipped = skip.min(segment.length);
        skip -= skipped;
        let taken = left.min(segment.length - skipped);
        left -= taken;
        (taken > 0).then(|| (segment.address.checked_add(skipped), taken))
    })
}
