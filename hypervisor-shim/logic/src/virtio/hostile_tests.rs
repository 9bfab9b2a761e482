//! Properties of a block device that hold whatever its driver writes, tried on rings drawn at random (trust label:
//! CHECKED).

extern crate std;

use super::Broken;
use super::mmio::Block;
use super::queue::SIZE_MAX;
use super::tests::{
    AVAILABLE, BASE, BUFFERS, Driver, Entry, NEXT, PAGE, PAGES, PRIVATE, SECTORS, STATUS_PLACE, TABLE, USED, WRITE,
};
use std::vec::Vec;

const FEATURES: u64 = 1 << 32 | 1 << 33;
const SECRET: u8 = 0xaa;
/// Most accesses of one look at the queue: of each chain the descriptors, its data by sectors cut into buffers.
const ACCESSES_MAX: usize = 2 + 64 * (4 + 64 + 16 + 64 + 62 * 8 + 64);
const LENGTHS: [u32; 12] = [0, 1, 15, 16, 17, 511, 512, 513, 4096, 4097, 0x8000_0000, u32::MAX];

/// xorshift64 (Marsaglia 2003).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Somewhere in shared or private memory, at an end of it, or where addresses wrap.
    fn address(&mut self) -> u64 {
        let end = BASE + PAGES as u64 * PAGE;
        let places = [BUFFERS, BUFFERS + 0x200, STATUS_PLACE, PRIVATE, TABLE, AVAILABLE, USED, end, BASE, 0, u64::MAX];
        match self.below(16) {
            0 => self.next(),
            1 | 2 => self.of(&places).wrapping_sub(1 + self.below(600)),
            _ => self.of(&places),
        }
    }

    fn entry(&mut self, size: u16) -> Entry {
        let length = if self.below(4) == 0 { self.of(&LENGTHS) } else { self.of(&LENGTHS[..8]) };
        let flags = if self.below(32) == 0 { self.next() as u16 } else { self.below(4) as u16 };
        let next = if self.below(16) == 0 { self.next() as u16 } else { self.below(u64::from(size) + 1) as u16 };
        (self.address(), length, flags, next)
    }

    /// A chain from entry `first` on that is a request, but for what later draws spoil.
    fn request(&mut self, first: u16) -> [Entry; 3] {
        let length = self.of(&[0, 20, 512, 512, 1024]);
        let flags = self.of(&[0, WRITE, WRITE]);
        [
            (BUFFERS, 16, NEXT, first + 1),
            (BUFFERS + 0x200, length, NEXT | flags, first + 2),
            (STATUS_PLACE, 1, WRITE, 0),
        ]
    }
}

/// A driver with a queue of a random size that says things at random, some of them sound.
fn prepare(driver: &mut Driver, draw: &mut Draw) -> Vec<Entry> {
    let size = 1 << draw.below(7);
    driver.ram.set(USED, &[0; 4]);
    driver.initialise(FEATURES, size, TABLE, AVAILABLE, USED);
    driver.head(draw.of(&[0, 1, 4, 8, 77]), draw.of(&[0, 1, SECTORS - 1, SECTORS, u64::MAX, u64::MAX / 512]));
    let mut entries: Vec<Entry> = (0..size).map(|_| draw.entry(size)).collect();
    let mut first = 0;
    while first + 3 <= size {
        if draw.below(4) != 0 {
            entries[usize::from(first)..][..3].copy_from_slice(&draw.request(first));
        }
        first += 3;
    }
    if draw.below(2) == 0 {
        let spoilt = draw.below(u64::from(size)) as usize;
        entries[spoilt] = draw.entry(size);
    }
    driver.descriptors(&entries);
    entries
}

/// Makes chains available and notifies; how many were announced, and what the device says.
fn offer(driver: &mut Driver, draw: &mut Draw) -> (u16, Result<(), Broken>) {
    let count = 1 + draw.below(u64::from(driver.size)) as u16;
    for slot in 0..driver.size {
        let head = if draw.below(24) == 0 { draw.next() as u16 } else { draw.below(u64::from(driver.size)) as u16 };
        driver.ram.set(AVAILABLE + 4 + 2 * u64::from(slot), &(head / 3 * 3).to_le_bytes());
    }
    let step = if draw.below(12) == 0 { draw.next() as u16 } else { count };
    driver.index = driver.index.wrapping_add(step);
    driver.ram.set(AVAILABLE + 2, &driver.index.to_le_bytes());
    driver.ram.accesses.clear();
    if !driver.device.write(0x50, 4, 0) {
        return (0, Ok(()));
    }
    let said = driver.device.serve(&mut driver.ram, &mut driver.disk);
    (step, said)
}

/// Whether a store of the device lies in the used ring or in a buffer that the driver gave it to write to.
fn is_granted(entries: &[Entry], size: u16, (is_store, address, length): (bool, u64, u64)) -> bool {
    let inside = |start: u64, room: u64| {
        address.checked_sub(start).is_some_and(|offset| offset <= room && length <= room - offset)
    };
    let used = 4 + 8 * u64::from(size);
    !is_store
        || inside(USED, used)
        || entries.iter().any(|(start, room, flags, _)| flags & WRITE != 0 && inside(*start, u64::from(*room)))
}

/// Whether the newest entries of the used ring are the chains that were announced; yes if a buffer lies over either ring.
fn are_returned(driver: &Driver, entries: &[Entry], announced: u16, total: u16) -> bool {
    let rings = AVAILABLE..USED + PAGE;
    if entries.iter().any(|entry| entry.0 < rings.end && entry.0.saturating_add(entry.1.into()) > rings.start) {
        return true;
    }
    let all = (1..=announced).all(|back| {
        let slot = u64::from(total.wrapping_sub(back) % driver.size);
        let head = u16::from_le_bytes(driver.ram.get(AVAILABLE + 4 + 2 * slot));
        u32::from(head) == u32::from_le_bytes(driver.ram.get(USED + 4 + 8 * slot))
    });
    all && driver.used_index() == total
}

#[test]
fn whatever_a_ring_says_the_device_keeps_to_it_and_ends() {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    let mut driver = Driver::new();
    driver.ram.set(PRIVATE, &[SECRET; 4096]);
    let (mut served, mut broken, mut several) = (0, [0; 3], 0);
    let (mut entries, mut table, mut total) = (Vec::new(), [0; 1024], 0_u16);
    for round in 0..30_000 {
        if driver.status() != 15 || round % 6 == 0 {
            (entries, total) = (prepare(&mut driver, &mut draw), 0);
            table = driver.ram.get(TABLE);
        }
        let (announced, said) = offer(&mut driver, &mut draw);
        let untouched = table == driver.ram.get::<1024>(TABLE);
        match said {
            Ok(()) => {
                served += 1;
                several += usize::from(announced > 1);
                assert!(announced <= driver.size, "round {round}");
                total = total.wrapping_add(announced);
                assert!(!untouched || are_returned(&driver, &entries, announced, total), "round {round}");
                assert_eq!(driver.status(), 15, "round {round}");
            }
            Err(reason) => {
                broken[reason as usize] += 1;
                assert_eq!(driver.status() & 64, 64, "round {round}");
                assert!(!driver.device.write(0x50, 4, 0), "round {round}: a broken device looks at nothing");
            }
        }
        let accesses = &driver.ram.accesses;
        assert!(accesses.len() <= ACCESSES_MAX, "round {round}: {} accesses", accesses.len());
        if untouched {
            let foreign = accesses.iter().find(|access| !is_granted(&entries, driver.size, **access));
            assert_eq!(foreign, None, "round {round}: {entries:x?}");
        }
        assert_eq!(driver.ram.get::<4096>(PRIVATE), [SECRET; 4096], "round {round}");
    }
    assert!(
        served > 2000 && several > 1000 && broken.iter().all(|count| *count > 200),
        "{served} {several} {broken:?}"
    );
    assert!(!driver.disk.0.windows(64).any(|window| window == [SECRET; 64]), "private memory was read");
}

#[test]
fn whatever_is_written_to_the_registers_nothing_private_is_reached() {
    let mut draw = Draw(0xd1b5_4a32_d192_ed03);
    let mut driver = Driver::new();
    driver.ram.set(PRIVATE, &[SECRET; 4096]);
    let offsets = [0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4];
    let mut looked = 0;
    for round in 0..60_000 {
        if round % 24 == 0 {
            driver.initialise(FEATURES, SIZE_MAX, TABLE, AVAILABLE, USED);
        }
        let offset = if draw.below(8) == 0 { draw.below(0x200) } else { draw.of(&offsets) };
        let address = draw.address();
        let value = match draw.below(3) {
            0 => draw.of(&[0, 1, 2, 3, 4, 8, 11, 15, 64, 128, u64::from(u32::MAX)]),
            1 => address & 0xffff_ffff,
            _ => address >> 32,
        };
        let size = if draw.below(16) == 0 { draw.of(&[1, 2, 8]) } else { 4 };
        if driver.device.write(offset, size, value) {
            looked += 1;
            let _ = driver.device.serve(&mut driver.ram, &mut driver.disk);
        }
        let _ = driver.device.read(offset, size);
        driver.ram.accesses.clear();
    }
    assert!(looked > 200, "{looked}");
    assert_eq!(driver.ram.get::<4096>(PRIVATE), [SECRET; 4096]);
    driver.device = Block::new(SECTORS);
    driver.ram.set(USED, &[0; 4]);
    driver.initialise(FEATURES, SIZE_MAX, TABLE, AVAILABLE, USED);
    assert_eq!(driver.request(0, 3, (BUFFERS + 0x200, 512), WRITE), (0, 513), "it serves an honest driver after that");
}
