//! The requests of a virtio block device (trust label: UNTRUSTED). Source: virtio 1.2, 5.2.

use super::queue::{Chain, Queue, SIZE_MAX};
use super::{Broken, Memory, NotShared};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Longest buffer that a driver may use, bytes.
pub const BUFFER_MAX: u32 = 4096;
/// Most buffers of data in a request: the others are for its head and its status.
pub const BUFFERS_MAX: u32 = SIZE_MAX as u32 - 2;
/// Most bytes of data of a request, which bounds the time that it takes.
const DATA_MAX: u64 = BUFFER_MAX as u64 * BUFFERS_MAX as u64;

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const STATUS_OK: u8 = 0;
const STATUS_ERROR: u8 = 1;
const STATUS_UNSUPPORTED: u8 = 2;
const HEAD: u64 = 16;
/// What the device answers to GET_ID: 20 bytes.
const IDENTITY: &[u8; 20] = b"bulkhead-disk\0\0\0\0\0\0\0";

/// What a disk keeps.
pub trait Storage {
    /// Number of sectors.
    fn sectors(&self) -> u64;
    /// Copies the sector `number`, which is below [`Storage::sectors`], to `sector`.
    fn load(&mut self, number: u64, sector: &mut [u8; SECTOR as usize]);
    /// Keeps `sector` as sector `number`, which is below [`Storage::sectors`].
    fn store(&mut self, number: u64, sector: &[u8; SECTOR as usize]);
}

/// Carries out everything that is available in `queue`. Whether the driver is to get an interrupt.
///
/// # Errors
/// The queue is malformed or not shared; the requests before the bad one have been carried out.
pub fn serve(queue: &mut Queue, memory: &mut impl Memory, storage: &mut impl Storage) -> Result<bool, Broken> {
    let pending = queue.pending(memory)?;
    for _ in 0..pending {
        let chain = queue.take(memory)?;
        let written = request(&chain, memory, storage)?;
        queue.put(memory, &chain, written)?;
    }
    Ok(pending > 0 && queue.wants_interrupt(memory)?)
}

/// Carries out one request; the number of bytes that were written into its buffers.
fn request(chain: &Chain, memory: &mut impl Memory, storage: &mut impl Storage) -> Result<u32, Broken> {
    let out = chain.readable().checked_sub(HEAD).ok_or(Broken::Chain)?;
    let room = chain.writable().checked_sub(1).ok_or(Broken::Chain)?;
    let done = carry_out(chain, memory, storage, out, room);
    let (status, written) = match done {
        Ok(Some(written)) => (STATUS_OK, written),
        Ok(None) => (STATUS_UNSUPPORTED, 0),
        Err(NotShared) => (STATUS_ERROR, 0),
    };
    chain.write(memory, room, &[status])?;
    Ok(written + 1)
}

/// The number of bytes that were written, or nothing if the type is unknown. Every error is an I/O error.
fn carry_out(
    chain: &Chain,
    memory: &mut impl Memory,
    storage: &mut impl Storage,
    out: u64,
    room: u64,
) -> Result<Option<u32>, NotShared> {
    let mut head = [0; HEAD as usize];
    chain.read(memory, 0, &mut head)?;
    let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = head;
    let first = u64::from_le_bytes(sector);
    let mut sector = [0; SECTOR as usize];
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        TYPE_IN => {
            for number in sectors(first, room, storage.sectors())? {
                storage.load(number, &mut sector);
                chain.write(memory, (number - first) * SECTOR, &sector)?;
            }
            Ok(Some(room as u32))
        }
        TYPE_OUT => {
            for number in sectors(first, out, storage.sectors())? {
                chain.read(memory, HEAD + (number - first) * SECTOR, &mut sector)?;
                storage.store(number, &sector);
            }
            Ok(Some(0))
        }
        TYPE_FLUSH => Ok(Some(0)),
        TYPE_GET_ID if room == IDENTITY.len() as u64 => {
            chain.write(memory, 0, IDENTITY)?;
            Ok(Some(IDENTITY.len() as u32))
        }
        TYPE_GET_ID => Err(NotShared),
        _ => Ok(None),
    }
}

/// The sectors that `bytes` of data from sector `first` on are, if all of them exist in a disk of `count`.
fn sectors(first: u64, bytes: u64, count: u64) -> Result<core::ops::Range<u64>, NotShared> {
    let end = first.checked_add(bytes / SECTOR).filter(|end| *end <= count);
    match end {
        Some(end) if bytes % SECTOR == 0 && bytes <= DATA_MAX => Ok(first..end),
        _ => Err(NotShared),
    }
}
