//! The configuration channel that a VM's firmware looks for: QEMU's `fw_cfg` in its MMIO form (trust label:
//! UNTRUSTED).
//!
//! Source: QEMU, docs/specs/fw_cfg.rst. A key is selected, then the item's bytes are read one after another. There is
//! no DMA, by which the host would have to write to the VM's memory: its bit in the interface's features is 0, its
//! register reads as zero and takes nothing. There are no files.

/// Bytes of the next part of the item, in the order of memory; 1, 2, 4 or 8 at a time.
const DATA: u64 = 0x0;
/// The key, 16 bits, big-endian; write-only.
const SELECTOR: u64 = 0x8;

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const CPUS: u16 = 0x05;
const CPUS_MAX: u16 = 0x0f;
const DIRECTORY: u16 = 0x19;

/// Features: the traditional interface (bit 0), no DMA (bit 1).
const FEATURES: u32 = 1;

/// State of one channel.
pub struct FwCfg {
    key: u16,
    position: usize,
}

impl Default for FwCfg {
    fn default() -> Self {
        Self::new()
    }
}

impl FwCfg {
    /// The channel after reset.
    #[must_use]
    pub const fn new() -> Self {
        Self { key: SIGNATURE, position: 0 }
    }

    /// Value of a load of `size` bytes at `offset`, in a VM of `cpus` vCPUs. What lies behind an item's end is zero.
    pub fn read(&mut self, offset: u64, size: u64, cpus: usize) -> u64 {
        if offset != DATA {
            return 0;
        }
        (0..size).fold(0, |value, index| value | u64::from(self.next(cpus)) << (8 * index))
    }

    fn next(&mut self, cpus: usize) -> u8 {
        let number = |value: usize| (value as u32).to_le_bytes();
        let item = match self.key {
            SIGNATURE => *b"QEMU",
            ID => FEATURES.to_le_bytes(),
            CPUS | CPUS_MAX => number(cpus),
            DIRECTORY => 0_u32.to_be_bytes(),
            _ => [0; 4],
        };
        let byte = item.get(self.position).copied().unwrap_or(0);
        self.position = self.position.saturating_add(1);
        byte
    }

    /// A store of `size` bytes at `offset`.
    pub fn write(&mut self, offset: u64, size: u64, value: u64) {
        if offset == SELECTOR && size == 2 {
            *self = Self { key: (value as u16).swap_bytes(), position: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(channel: &mut FwCfg, key: u16) {
        channel.write(SELECTOR, 2, u64::from(key.swap_bytes()));
    }

    #[test]
    fn items_are_read_in_the_order_of_memory_whatever_the_size() {
        let mut channel = FwCfg::new();
        select(&mut channel, SIGNATURE);
        assert_eq!(channel.read(DATA, 4, 1), u64::from(u32::from_le_bytes(*b"QEMU")));
        assert_eq!(channel.read(DATA, 8, 1), 0, "behind its end");
        select(&mut channel, SIGNATURE);
        assert_eq!([1, 1, 2].map(|size| channel.read(DATA, size, 1)), [0x51, 0x45, 0x554d]);
    }

    #[test]
    fn the_number_of_cpus_is_the_vms() {
        let mut channel = FwCfg::new();
        for key in [CPUS, CPUS_MAX] {
            select(&mut channel, key);
            assert_eq!(channel.read(DATA, 2, 7), 7);
        }
    }

    #[test]
    fn there_is_no_dma_and_no_file() {
        const DMA: u64 = 0x10;
        let mut channel = FwCfg::new();
        select(&mut channel, ID);
        assert_eq!(channel.read(DATA, 4, 1), 1);
        select(&mut channel, DIRECTORY);
        channel.write(DMA, 8, 0x4000_0000);
        assert_eq!((channel.read(DMA, 8, 1), channel.read(DATA, 4, 1)), (0, 0));
    }

    #[test]
    fn unknown_keys_are_empty_and_the_selector_takes_16_bits_only() {
        let mut channel = FwCfg::new();
        select(&mut channel, 0xffff);
        assert_eq!((channel.read(DATA, 8, 1), channel.read(SELECTOR, 2, 1)), (0, 0));
        channel.write(SELECTOR, 4, 0);
        assert_eq!(channel.read(DATA, 4, 1), 0);
        select(&mut channel, SIGNATURE);
        channel.write(DATA, 8, 1);
        assert_eq!(channel.read(DATA, 1, 1), u64::from(b'Q'), "items are not written");
    }
}
