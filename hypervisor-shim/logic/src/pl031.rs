//! The clock that a VM sees: an Arm PL031 real time clock (Arm DDI 0224C) (trust label: UNTRUSTED).
//!
//! It counts the seconds since 1970. The match register's interrupt shows in its status, but has no line.

const DR: u64 = 0x000;
const MR: u64 = 0x004;
const LR: u64 = 0x008;
const CR: u64 = 0x00c;
const IMSC: u64 = 0x010;
const RIS: u64 = 0x014;
const MIS: u64 = 0x018;
const ICR: u64 = 0x01c;
/// Peripheral and cell identification, from 0xfe0.
const IDENTIFICATION: [u32; 8] = [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// State of one clock. Times are whole seconds; `elapsed` counts from the VM's start.
pub struct Pl031 {
    /// Seconds since 1970 at `elapsed` 0, modulo 2^32.
    base: u32,
    load: u32,
    compare: u32,
    mask: u32,
    /// When the match register was written or its interrupt cleared; None: no match is awaited.
    armed: Option<u32>,
    raw: u32,
}

impl Pl031 {
    /// A clock that shows `time`, seconds since 1970, when the VM starts.
    #[must_use]
    pub const fn new(time: u64) -> Self {
        Self { base: time as u32, load: 0, compare: 0, mask: 0, armed: None, raw: 0 }
    }

    /// Value of the register at `offset`.
    pub fn read(&mut self, offset: u64, elapsed: u64) -> u32 {
        let now = self.now(elapsed);
        match offset {
            DR => now,
            MR => self.compare,
            LR => self.load,
            CR => 1,
            IMSC => self.mask,
            RIS => self.raw,
            MIS => self.raw & self.mask,
            0xfe0..=0xffc if offset % 4 == 0 => IDENTIFICATION[((offset - 0xfe0) / 4) as usize],
            _ => 0,
        }
    }

    /// Writes the register at `offset`.
    pub fn write(&mut self, offset: u64, value: u32, elapsed: u64) {
        let now = self.now(elapsed);
        match offset {
            MR => {
                self.compare = value;
                self.armed = Some(now);
            }
            LR => {
                self.load = value;
                self.base = value.wrapping_sub(elapsed as u32);
                self.armed = self.armed.map(|_| value);
            }
            IMSC => self.mask = value & 1,
            ICR => self.raw &= !value,
            _ => {}
        }
    }

    /// The count; notes whether the match has been reached meanwhile.
    fn now(&mut self, elapsed: u64) -> u32 {
        let now = self.base.wrapping_add(elapsed as u32);
        if self.armed.is_some_and(|since| now.wrapping_sub(since) >= self.compare.wrapping_sub(since)) {
            self.raw = 1;
            self.armed = None;
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_seconds_from_where_it_was_set() {
        let mut clock = Pl031::new(1_700_000_000);
        assert_eq!((clock.read(DR, 0), clock.read(DR, 61)), (1_700_000_000, 1_700_000_061));
        clock.write(LR, 1000, 70);
        assert_eq!((clock.read(DR, 75), clock.read(LR, 75)), (1005, 1000));
        assert_eq!(clock.read(CR, 75), 1, "it cannot be stopped");
        clock.write(CR, 0, 75);
        assert_eq!(clock.read(DR, 76), 1006);
    }

    #[test]
    fn a_match_shows_once_until_it_is_cleared() {
        let mut clock = Pl031::new(u64::from(u32::MAX) - 1);
        clock.write(MR, 3, 0);
        assert_eq!((clock.read(RIS, 4), clock.read(RIS, 5), clock.read(MIS, 5)), (0, 1, 0));
        clock.write(IMSC, 0xff, 6);
        assert_eq!((clock.read(MIS, 6), clock.read(IMSC, 6)), (1, 1));
        clock.write(ICR, 1, 6);
        assert_eq!((clock.read(RIS, 7), clock.read(MR, 7)), (0, 3));
    }

    #[test]
    fn identification_is_that_of_an_arm_pl031() {
        let mut clock = Pl031::new(0);
        let mut id = 0;
        for (index, offset) in (0xfe0..0x1000).step_by(4).enumerate() {
            id |= u64::from(clock.read(offset, 0)) << (8 * index);
        }
        assert_eq!(id, 0xb105_f00d_0014_1031);
    }
}
