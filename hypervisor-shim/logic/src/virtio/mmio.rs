//! A block device's registers in memory (trust label: UNTRUSTED). Source: virtio 1.2, 4.2.2 (register layout), 3.1.1
//! (initialisation), 6 (feature bits), 5.2.4 (configuration of a block device).

use super::block::{BUFFER_MAX, BUFFERS_MAX, SECTOR, Storage, serve};
use super::queue::{Queue, SIZE_MAX};
use super::{Broken, Memory};

const MAGIC: u64 = 0x00;
const VERSION: u64 = 0x04;
const DEVICE_ID: u64 = 0x08;
const VENDOR_ID: u64 = 0x0c;
const DEVICE_FEATURES: u64 = 0x10;
const DEVICE_FEATURES_SELECT: u64 = 0x14;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SELECT: u64 = 0x24;
const QUEUE_SELECT: u64 = 0x30;
const QUEUE_SIZE_MAX: u64 = 0x34;
const QUEUE_SIZE: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const QUEUE_NOTIFY: u64 = 0x50;
const INTERRUPT_STATUS: u64 = 0x60;
const INTERRUPT_ACKNOWLEDGE: u64 = 0x64;
const STATUS: u64 = 0x70;
const QUEUE_DESCRIPTORS: u64 = 0x80;
const QUEUE_DRIVER: u64 = 0x90;
const QUEUE_DEVICE: u64 = 0xa0;
const SHARED_MEMORY: core::ops::RangeInclusive<u64> = 0xb0..=0xbc;
const CONFIGURATION: u64 = 0x100;

const STATUS_DRIVER_OK: u32 = 4;
const STATUS_FEATURES_OK: u32 = 8;
const STATUS_NEEDS_RESET: u32 = 64;
/// ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED: what a driver sets.
const STATUS_DRIVER: u32 = 0x8f;
const INTERRUPT_USED: u32 = 1;
const INTERRUPT_CONFIGURATION: u32 = 2;

const FEATURE_SIZE_MAX: u64 = 1 << 1;
const FEATURE_SEG_MAX: u64 = 1 << 2;
const FEATURE_FLUSH: u64 = 1 << 9;
/// Without these two a driver would use memory that it does not share.
const REQUIRED: u64 = 1 << 32 | 1 << 33; // VERSION_1, ACCESS_PLATFORM
const OFFERED: u64 = REQUIRED | FEATURE_SIZE_MAX | FEATURE_SEG_MAX | FEATURE_FLUSH;

/// A block device with one queue.
pub struct Block {
    sectors: u64,
    status: u32,
    features: u64,
    device_select: u32,
    driver_select: u32,
    queue_select: u32,
    interrupts: u32,
    queue: Queue,
}

impl Block {
    /// A device of `sectors` sectors after reset.
    #[must_use]
    pub const fn new(sectors: u64) -> Self {
        Self {
            sectors,
            status: 0,
            features: 0,
            device_select: 0,
            driver_select: 0,
            queue_select: 0,
            interrupts: 0,
            queue: Queue::NEW,
        }
    }

    /// Level of the interrupt output.
    #[must_use]
    pub fn line(&self) -> bool {
        self.interrupts != 0
    }

    /// Value of a load of `size` bytes at `offset`.
    #[must_use]
    pub fn read(&self, offset: u64, size: u64) -> u64 {
        if offset >= CONFIGURATION {
            return self.configuration(offset - CONFIGURATION, size);
        }
        let value = match offset {
            MAGIC => u32::from_le_bytes(*b"virt"),
            VERSION | DEVICE_ID => 2,
            VENDOR_ID => u32::from_le_bytes(*b"BLKH"),
            DEVICE_FEATURES => half(OFFERED, self.device_select),
            QUEUE_SIZE_MAX if self.queue_select == 0 => u32::from(SIZE_MAX),
            QUEUE_READY if self.queue_select == 0 => u32::from(self.queue.ready),
            INTERRUPT_STATUS => self.interrupts,
            STATUS => self.status,
            _ if SHARED_MEMORY.contains(&offset) => u32::MAX,
            _ => 0,
        };
        if size == 4 { u64::from(value) } else { 0 }
    }

    fn configuration(&self, offset: u64, size: u64) -> u64 {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&self.sectors.to_le_bytes());
        bytes[8..12].copy_from_slice(&BUFFER_MAX.to_le_bytes());
        bytes[12..16].copy_from_slice(&BUFFERS_MAX.to_le_bytes());
        bytes[20..24].copy_from_slice(&(SECTOR as u32).to_le_bytes());
        let byte = |position: u64| bytes.get(usize::try_from(position).ok()?).copied();
        (0..size.min(8)).fold(0, |value, at| value | u64::from(byte(offset + at).unwrap_or(0)) << (8 * at))
    }

    /// A store of `size` bytes at `offset`. Whether it tells the device to look at its queue ([`Block::serve`]).
    pub fn write(&mut self, offset: u64, size: u64, value: u64) -> bool {
        let value = value as u32;
        match offset {
            _ if size != 4 => {}
            DEVICE_FEATURES_SELECT => self.device_select = value,
            DRIVER_FEATURES_SELECT => self.driver_select = value,
            DRIVER_FEATURES if self.status & STATUS_FEATURES_OK == 0 => {
                set_half(&mut self.features, self.driver_select, value);
            }
            QUEUE_SELECT => self.queue_select = value,
            INTERRUPT_ACKNOWLEDGE => self.interrupts &= !value,
            STATUS => self.set_status(value),
            QUEUE_NOTIFY => return value == 0 && self.is_running(),
            _ if self.queue_select == 0 => self.configure(offset, value),
            _ => {}
        }
        false
    }

    /// The queue's registers: nothing changes while it is in use.
    fn configure(&mut self, offset: u64, value: u32) {
        let queue = &mut self.queue;
        match offset {
            QUEUE_READY if value == 0 => *queue = Queue::NEW,
            QUEUE_READY => {
                queue.ready |= value == 1 && queue.is_well_formed() && self.status & STATUS_FEATURES_OK != 0;
            }
            _ if queue.ready => {}
            QUEUE_SIZE => queue.size = u16::try_from(value).unwrap_or(0),
            _ => {
                let area = match offset & !7 {
                    QUEUE_DESCRIPTORS => &mut queue.descriptors,
                    QUEUE_DRIVER => &mut queue.driver,
                    QUEUE_DEVICE => &mut queue.device,
                    _ => return,
                };
                match offset % 8 {
                    0 => set_half(area, 0, value),
                    4 => set_half(area, 1, value),
                    _ => {}
                }
            }
        }
    }

    fn set_status(&mut self, value: u32) {
        if value == 0 {
            *self = Self::new(self.sectors);
            return;
        }
        let mut status = self.status | value & STATUS_DRIVER;
        let acceptable = self.features & REQUIRED == REQUIRED && self.features & !OFFERED == 0;
        if !acceptable {
            status &= !STATUS_FEATURES_OK;
        }
        if status & STATUS_FEATURES_OK == 0 {
            status &= !STATUS_DRIVER_OK;
        }
        self.status = status;
    }

    fn is_running(&self) -> bool {
        self.status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET) == STATUS_DRIVER_OK && self.queue.ready
    }

    /// Carries out what is in the queue. How it broke, if it did: the driver can see that, and reset it.
    pub fn serve(&mut self, memory: &mut impl Memory, storage: &mut impl Storage) -> Result<(), Broken> {
        match serve(&mut self.queue, memory, storage) {
            Ok(interrupt) => {
                self.interrupts |= if interrupt { INTERRUPT_USED } else { 0 };
                Ok(())
            }
            Err(broken) => {
                self.status |= STATUS_NEEDS_RESET;
                self.interrupts |= INTERRUPT_CONFIGURATION;
                Err(broken)
            }
        }
    }
}

/// Bits 31:0 (`select` 0) or 63:32 (1) of `value`.
fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

fn set_half(value: &mut u64, select: u32, half: u32) {
    match select {
        0 => *value = *value & !0xffff_ffff | u64::from(half),
        1 => *value = *value & 0xffff_ffff | u64::from(half) << 32,
        _ => {}
    }
}
