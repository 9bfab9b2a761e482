//! A driver, honest and not, at a block device.

extern crate std;

use super::block::{SECTOR, Storage};
use super::mmio::Block;
use super::queue::SIZE_MAX;
use super::{Broken, Memory, NotShared};
use std::vec::Vec;

pub(super) const BASE: u64 = 0x4000_0000;
pub(super) const PAGE: u64 = 4096;
pub(super) const PAGES: usize = 16;
pub(super) const TABLE: u64 = BASE;
pub(super) const AVAILABLE: u64 = BASE + PAGE;
pub(super) const USED: u64 = BASE + 2 * PAGE;
pub(super) const BUFFERS: u64 = BASE + 3 * PAGE;
/// A page that is not shared.
pub(super) const PRIVATE: u64 = BASE + 8 * PAGE;
pub(super) const STATUS_PLACE: u64 = BUFFERS + 0x800;
pub(super) const SECTORS: u64 = 32;
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;

/// A VM's memory: the device reaches the shared pages only, and an access elsewhere is an error.
pub(super) struct Ram {
    pub(super) bytes: Vec<u8>,
    pub(super) shared: [bool; PAGES],
    /// Accesses of the device since this was emptied: whether a store, address, length.
    pub(super) accesses: Vec<(bool, u64, u64)>,
}

impl Ram {
    fn range(&self, address: u64, length: usize) -> Result<core::ops::Range<usize>, NotShared> {
        let start = usize::try_from(address.checked_sub(BASE).ok_or(NotShared)?).map_err(|_| NotShared)?;
        let end = start.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(NotShared)?;
        let pages = start / PAGE as usize..end.div_ceil(PAGE as usize);
        if self.shared[pages].iter().all(|shared| *shared) { Ok(start..end) } else { Err(NotShared) }
    }

    pub(super) fn set(&mut self, address: u64, bytes: &[u8]) {
        let start = (address - BASE) as usize;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn get<const N: usize>(&self, address: u64) -> [u8; N] {
        let start = (address - BASE) as usize;
        self.bytes[start..start + N].try_into().unwrap()
    }
}

impl Memory for Ram {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), NotShared> {
        self.accesses.push((false, address, bytes.len() as u64));
        bytes.copy_from_slice(&self.bytes[self.range(address, bytes.len())?]);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NotShared> {
        self.accesses.push((true, address, bytes.len() as u64));
        let range = self.range(address, bytes.len())?;
        self.bytes[range].copy_from_slice(bytes);
        Ok(())
    }
}

pub(super) struct Disk(pub(super) Vec<u8>);

impl Storage for Disk {
    fn sectors(&self) -> u64 {
        SECTORS
    }

    fn load(&mut self, number: u64, sector: &mut [u8; 512]) {
        let start = (number * SECTOR) as usize;
        sector.copy_from_slice(&self.0[start..start + 512]);
    }

    fn store(&mut self, number: u64, sector: &[u8; 512]) {
        let start = (number * SECTOR) as usize;
        self.0[start..start + 512].copy_from_slice(sector);
    }
}

/// Descriptor: address, length, flags, next.
pub(super) type Entry = (u64, u32, u16, u16);

pub(super) struct Driver {
    pub(super) device: Block,
    pub(super) ram: Ram,
    pub(super) disk: Disk,
    pub(super) index: u16,
    pub(super) size: u16,
}

impl Driver {
    pub(super) fn new() -> Self {
        let mut shared = [true; PAGES];
        shared[8] = false;
        let ram = Ram { bytes: std::vec![0; PAGES * PAGE as usize], shared, accesses: Vec::new() };
        let disk = Disk((0..SECTORS * SECTOR).map(|at| (at / SECTOR) as u8).collect());
        let mut driver = Self { device: Block::new(SECTORS), ram, disk, index: 0, size: SIZE_MAX };
        driver.initialise(1 << 32 | 1 << 33, SIZE_MAX, TABLE, AVAILABLE, USED);
        driver
    }

    /// 3.1.1; the register writes of a driver.
    pub(super) fn initialise(&mut self, features: u64, size: u16, table: u64, available: u64, used: u64) {
        let writes = [
            (0x70, 0),
            (0x70, 1),
            (0x70, 3),
            (0x24, 0),
            (0x20, features & 0xffff_ffff),
            (0x24, 1),
            (0x20, features >> 32),
            (0x70, 11),
            (0x30, 0),
            (0x38, u64::from(size)),
            (0x80, table & 0xffff_ffff),
            (0x84, table >> 32),
            (0x90, available & 0xffff_ffff),
            (0x94, available >> 32),
            (0xa0, used & 0xffff_ffff),
            (0xa4, used >> 32),
            (0x44, 1),
            (0x70, 15),
        ];
        for (offset, value) in writes {
            assert!(!self.device.write(offset, 4, value));
        }
        (self.index, self.size) = (0, size);
        self.ram.set(available, &[0; 4]);
    }

    pub(super) fn descriptors(&mut self, entries: &[Entry]) {
        for (index, (address, length, flags, next)) in entries.iter().enumerate() {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(length.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            self.ram.set(TABLE + 16 * index as u64, &bytes);
        }
    }

    /// Makes the chain at `head` available, advancing the index by `step`, and notifies.
    pub(super) fn offer(&mut self, head: u16, step: u16) -> Result<(), Broken> {
        self.ram.set(AVAILABLE + 4 + 2 * u64::from(self.index % self.size), &head.to_le_bytes());
        self.index = self.index.wrapping_add(step);
        self.ram.set(AVAILABLE + 2, &self.index.to_le_bytes());
        if self.device.write(0x50, 4, 0) { self.device.serve(&mut self.ram, &mut self.disk) } else { Ok(()) }
    }

    pub(super) fn head(&mut self, kind: u32, sector: u64) {
        self.ram.set(BUFFERS, &kind.to_le_bytes());
        self.ram.set(BUFFERS + 8, &sector.to_le_bytes());
        self.ram.set(STATUS_PLACE, &[0xee]);
    }

    /// A request with one data buffer; its status byte (0xee: none) and the used length.
    pub(super) fn request(&mut self, kind: u32, sector: u64, data: (u64, u32), flags: u16) -> (u8, u32) {
        self.head(kind, sector);
        self.descriptors(&[(BUFFERS, 16, NEXT, 1), (data.0, data.1, flags | NEXT, 2), (STATUS_PLACE, 1, WRITE, 0)]);
        self.offer(0, 1).unwrap();
        self.last()
    }

    fn last(&self) -> (u8, u32) {
        let slot = u64::from(self.index.wrapping_sub(1) % self.size);
        let [status] = self.ram.get(STATUS_PLACE);
        (status, u32::from_le_bytes(self.ram.get(USED + 4 + 8 * slot + 4)))
    }

    pub(super) fn used_index(&self) -> u16 {
        u16::from_le_bytes(self.ram.get(USED + 2))
    }

    pub(super) fn status(&self) -> u64 {
        self.device.read(0x70, 4)
    }

    /// After `wrong`, the device wants a reset, has changed nothing but that, and works again after it.
    fn assert_breaks(&mut self, expected: Broken, wrong: impl FnOnce(&mut Self) -> Result<(), Broken>) {
        let disk = self.disk.0.clone();
        let used = self.used_index();
        assert_eq!(wrong(self), Err(expected));
        assert_eq!((self.status() & 64, self.device.read(0x60, 4) & 2), (64, 2));
        assert_eq!((self.used_index(), &self.disk.0), (used, &disk));
        assert!(!self.device.write(0x50, 4, 0), "a broken device looks at nothing");
        self.ram.set(USED, &[0; 4]);
        self.initialise(1 << 32 | 1 << 33, SIZE_MAX, TABLE, AVAILABLE, USED);
        assert_eq!((self.status(), self.request(0, 3, (BUFFERS + 0x200, 512), WRITE)), (15, (0, 513)));
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut driver = Driver::new();
    for round in 0..200_u64 {
        let sector = round % (SECTORS - 1);
        driver.ram.set(BUFFERS + 0x200, &[round as u8 | 0x80; 1024]);
        assert_eq!(driver.request(1, sector, (BUFFERS + 0x200, 1024), 0), (0, 1));
        driver.ram.set(BUFFERS + 0x200, &[0; 1024]);
        assert_eq!(driver.request(0, sector, (BUFFERS + 0x200, 1024), WRITE), (0, 1025));
        assert_eq!(driver.ram.get::<1024>(BUFFERS + 0x200), [round as u8 | 0x80; 1024]);
    }
    assert_eq!((driver.used_index(), driver.device.line()), (400, true));
    driver.device.write(0x64, 4, 1);
    assert!(!driver.device.line());
}

#[test]
fn the_framing_of_a_request_is_the_drivers_affair() {
    let mut driver = Driver::new();
    driver.head(0, 5);
    let data = BUFFERS + 0x200;
    driver.descriptors(&[
        (BUFFERS, 7, NEXT, 1),
        (BUFFERS + 7, 0, NEXT, 2),
        (BUFFERS + 7, 9, NEXT, 3),
        (data, 500, WRITE | NEXT, 4),
        (data + 0x300, 13, WRITE, 0),
    ]);
    driver.offer(0, 1).unwrap();
    assert_eq!((driver.ram.get::<500>(data), driver.ram.get::<12>(data + 0x300)), ([5; 500], [5; 12]));
    assert_eq!((driver.ram.get::<1>(data + 0x30c), driver.last().1), ([0], 513));
}

#[test]
fn other_requests() {
    let mut driver = Driver::new();
    assert_eq!(driver.request(4, 0, (BUFFERS + 0x200, 0), 0), (0, 1));
    assert_eq!(driver.request(8, 0, (BUFFERS + 0x200, 20), WRITE), (0, 21));
    assert_eq!(driver.ram.get::<13>(BUFFERS + 0x200), *b"bulkhead-disk");
    assert_eq!(driver.request(8, 0, (BUFFERS + 0x200, 512), WRITE), (1, 1));
    assert_eq!(driver.request(77, 0, (BUFFERS + 0x200, 512), WRITE), (2, 1));
}

#[test]
fn requests_beyond_the_disk_and_odd_ones_fail_alone() {
    let mut driver = Driver::new();
    let data = BUFFERS + 0x200;
    for kind in [0, 1] {
        let flags = if kind == 0 { WRITE } else { 0 };
        for (sector, length) in
            [(SECTORS, 512), (SECTORS - 1, 1024), (u64::MAX, 512), (u64::MAX, 1024), (0, 511), (0, 513)]
        {
            assert_eq!(driver.request(kind, sector, (data, length), flags), (1, 1), "{kind} {sector:#x} {length}");
        }
        assert_eq!(driver.request(kind, 0, (data, 0x8000_0000), flags), (1, 1));
    }
    assert!(driver.disk.0.iter().enumerate().all(|(at, byte)| *byte == (at as u64 / SECTOR) as u8));
    assert_eq!(driver.status(), 15);
}

#[test]
fn a_buffer_that_is_not_shared_fails_the_request() {
    let mut driver = Driver::new();
    driver.ram.set(PRIVATE, &[0xaa; 4096]);
    for address in [PRIVATE, PRIVATE - 256, PRIVATE + PAGE - 256, 0, u64::MAX - 255, BASE + PAGES as u64 * PAGE - 256] {
        assert_eq!(driver.request(0, 1, (address, 512), WRITE).0, 1, "{address:#x}");
        assert_eq!(driver.request(1, 1, (address, 512), 0).0, 1, "{address:#x}");
    }
    assert_eq!(driver.ram.get::<4096>(PRIVATE), [0xaa; 4096]);
    assert_eq!(driver.disk.0[512..1024], [1; 512]);
    driver.head(0, 1);
    driver.descriptors(&[(PRIVATE, 16, NEXT, 1), (BUFFERS + 0x200, 512, WRITE | NEXT, 2), (STATUS_PLACE, 1, WRITE, 0)]);
    driver.offer(0, 1).unwrap();
    assert_eq!(driver.last(), (1, 1));
}

#[test]
fn a_status_that_is_not_shared_breaks_the_device() {
    let mut driver = Driver::new();
    driver.assert_breaks(Broken::NotShared, |driver| {
        driver.head(4, 0);
        driver.descriptors(&[(BUFFERS, 16, NEXT, 1), (PRIVATE, 1, WRITE, 0)]);
        driver.offer(0, 1)
    });
}

#[test]
fn malformed_chains_break_the_device() {
    let data = BUFFERS + 0x200;
    let cases: [&[Entry]; 9] = [
        &[(BUFFERS, 16, NEXT, 0)],
        &[(BUFFERS, 16, NEXT, 1), (data, 512, NEXT | WRITE, 1)],
        &[(BUFFERS, 16, NEXT, SIZE_MAX)],
        &[(BUFFERS, 16, NEXT, 0xffff)],
        &[(data, 512, WRITE | NEXT, 1), (BUFFERS, 16, 0, 0)],
        &[(BUFFERS, 32, 4, 0)],
        &[(BUFFERS, 15, NEXT, 1), (data, 513, WRITE, 0)],
        &[(BUFFERS, 16, 0, 0)],
        &[(BUFFERS, 16, NEXT | 0x10, 1), (data, 513, WRITE, 0)],
    ];
    let mut driver = Driver::new();
    for entries in cases {
        driver.assert_breaks(Broken::Chain, |driver| {
            driver.head(1, 0);
            driver.descriptors(entries);
            driver.offer(0, 1)
        });
    }
}

#[test]
fn a_chain_as_long_as_the_queue_is_the_longest() {
    let mut driver = Driver::new();
    driver.head(1, 0);
    let last = SIZE_MAX - 1;
    let mut entries: Vec<Entry> = (0..SIZE_MAX).map(|index| (BUFFERS + 0x200, 0, NEXT, index + 1)).collect();
    entries[0] = (BUFFERS, 16, NEXT, 1);
    entries[usize::from(last)] = (STATUS_PLACE, 1, WRITE, 0);
    driver.descriptors(&entries);
    driver.offer(0, 1).unwrap();
    assert_eq!(driver.last(), (0, 1));
    entries[usize::from(last)] = (STATUS_PLACE, 1, WRITE | NEXT, 5);
    driver.assert_breaks(Broken::Chain, |driver| {
        driver.descriptors(&entries);
        driver.offer(0, 1)
    });
}

#[test]
fn malformed_rings_break_the_device() {
    let mut driver = Driver::new();
    driver.assert_breaks(Broken::Ring, |driver| driver.offer(0, SIZE_MAX + 1));
    driver.assert_breaks(Broken::Ring, |driver| driver.offer(0, 0x8000));
    driver.assert_breaks(Broken::Ring, |driver| driver.offer(0, 0xffff));
    driver.assert_breaks(Broken::Ring, |driver| driver.offer(SIZE_MAX, 1));
    driver.assert_breaks(Broken::Ring, |driver| driver.offer(0xffff, 1));
}

#[test]
fn a_queue_that_is_not_shared_breaks_the_device() {
    for (table, available, used) in [
        (PRIVATE, AVAILABLE, USED),
        (TABLE, PRIVATE, USED),
        (TABLE, AVAILABLE, PRIVATE),
        (u64::MAX - 15, AVAILABLE, USED),
        (TABLE, u64::MAX - 1, USED),
        (TABLE, AVAILABLE, u64::MAX - 3),
        (0, AVAILABLE, USED),
    ] {
        let mut driver = Driver::new();
        driver.head(4, 0);
        driver.descriptors(&[(BUFFERS, 16, NEXT, 1), (STATUS_PLACE, 1, WRITE, 0)]);
        driver.device.write(0x44, 4, 0);
        driver.device.write(0x38, 4, u64::from(SIZE_MAX));
        for (offset, value) in [(0x80, table), (0x90, available), (0xa0, used)] {
            driver.device.write(offset, 4, value & 0xffff_ffff);
            driver.device.write(offset + 4, 4, value >> 32);
        }
        driver.device.write(0x44, 4, 1);
        assert_eq!(driver.offer(0, 1), Err(Broken::NotShared), "{table:#x} {available:#x} {used:#x}");
        assert_eq!(driver.ram.get::<4096>(PRIVATE), [0; 4096]);
    }
}

#[test]
fn a_queue_of_a_wrong_form_is_not_ready() {
    for (size, table, available, used) in [
        (0, TABLE, AVAILABLE, USED),
        (3, TABLE, AVAILABLE, USED),
        (SIZE_MAX * 2, TABLE, AVAILABLE, USED),
        (8, TABLE + 8, AVAILABLE, USED),
        (8, TABLE, AVAILABLE + 1, USED),
        (8, TABLE, AVAILABLE, USED + 2),
    ] {
        let mut driver = Driver::new();
        driver.initialise(1 << 32 | 1 << 33, size, table, available, used);
        assert_eq!((driver.device.read(0x44, 4), driver.device.write(0x50, 4, 0)), (0, false));
    }
}

#[test]
fn a_driver_that_would_not_share_is_refused() {
    for features in [0, 1 << 32, 1 << 33, 7 << 32, 1 << 28 | 3 << 32, u64::MAX] {
        let mut driver = Driver::new();
        driver.initialise(features, SIZE_MAX, TABLE, AVAILABLE, USED);
        assert_eq!(driver.status() & 8, 0, "{features:#x}");
        assert_eq!((driver.device.read(0x44, 4), driver.device.write(0x50, 4, 0)), (0, false));
    }
}

#[test]
fn registers_hold_what_the_specification_says() {
    let mut device = Block::new(SECTORS);
    assert_eq!([0, 4, 8].map(|offset| device.read(offset, 4)), [0x7472_6976, 2, 2]);
    assert_eq!((device.read(0x100, 8), device.read(0x108, 4), device.read(0x10c, 4)), (SECTORS, 4096, 62));
    assert_eq!((device.read(0x114, 4), device.read(0x100, 1), device.read(0x1ff, 8)), (512, SECTORS, 0));
    device.write(0x14, 4, 1);
    assert_eq!(device.read(0x10, 4), 3, "VERSION_1 and ACCESS_PLATFORM");
    device.write(0x14, 4, 2);
    assert_eq!(device.read(0x10, 4), 0);
    device.write(0x30, 4, 1);
    assert_eq!((device.read(0x34, 4), device.read(0x44, 4)), (0, 0), "there is no queue 1");
}
