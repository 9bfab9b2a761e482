//! The memory-mapped registers (trust label: UNTRUSTED): Arm IHI 0069H, 12.9 (GICD), 12.10 and 12.11 (GICR).
//!
//! The distributor and the SGI_base frame of a redistributor share the layout of their interrupt registers; a
//! bank serves the ids that belong to it and reads as zero elsewhere. Everything is done in 32-bit words;
//! narrower and wider accesses are made of them.

use super::{INTIDS, Interrupt, PRIVATE, Vgic};

const GICD_CTLR: u64 = 0x0000;
const GICD_TYPER: u64 = 0x0004;
const GICD_IROUTER: core::ops::Range<u64> = 0x6000..0x8000;
const GICR_TYPER: u64 = 0x0008;
const GICR_WAKER: u64 = 0x0014;
const IIDR: u64 = 0x43b;
const PIDR2: u64 = 0xffe8;
/// GICv3.
const ARCHITECTURE: u64 = 0x30;

/// Size of a vCPU's redistributor, and where its SGI_base frame starts.
pub(super) const REDISTRIBUTOR: u64 = 0x2_0000;
const SGI_BASE: u64 = 0x1_0000;

/// Which interrupts a bank of registers serves.
#[derive(Clone, Copy)]
enum Bank {
    Shared,
    Private(usize),
}

impl Bank {
    fn vcpu(self) -> usize {
        if let Self::Private(vcpu) = self { vcpu } else { 0 }
    }

    fn has(self, id: usize) -> bool {
        match self {
            Self::Shared => (PRIVATE..INTIDS).contains(&id),
            Self::Private(_) => id < PRIVATE,
        }
    }
}

/// Registers with one bit per interrupt, by their offset / 0x80.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bits {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
}

impl Bits {
    fn at(offset: u64) -> Option<Self> {
        Some(match offset / 0x80 {
            1 => Self::Group,
            2 => Self::SetEnable,
            3 => Self::ClearEnable,
            4 => Self::SetPending,
            5 => Self::ClearPending,
            6 => Self::SetActive,
            7 => Self::ClearActive,
            _ => return None,
        })
    }

    fn read(self, interrupt: &Interrupt) -> bool {
        match self {
            Self::Group => interrupt.group_1,
            Self::SetEnable | Self::ClearEnable => interrupt.enabled,
            Self::SetPending | Self::ClearPending => interrupt.pending(),
            Self::SetActive | Self::ClearActive => interrupt.active,
        }
    }

    fn write(self, interrupt: &mut Interrupt, bit: bool) {
        match self {
            Self::Group => interrupt.group_1 = bit,
            _ if !bit => {}
            Self::SetEnable => interrupt.enabled = true,
            Self::ClearEnable => interrupt.enabled = false,
            Self::SetPending => interrupt.latch = true,
            Self::ClearPending => interrupt.latch = false,
            Self::SetActive => interrupt.active = true,
            Self::ClearActive => interrupt.active = false,
        }
    }
}

impl Vgic {
    /// Loads `size` bytes at `offset` of the distributor.
    #[must_use]
    pub fn distributor_read(&self, offset: u64, size: u64) -> u64 {
        assemble(offset, size, |word| self.distributor_word(word))
    }

    /// Stores `size` bytes at `offset` of the distributor.
    pub fn distributor_write(&mut self, offset: u64, size: u64, value: u64) {
        if size == 1 {
            self.write_byte(Bank::Shared, offset, value as u8);
            return;
        }
        split(offset, size, value, |word, value| self.set_distributor_word(word, value));
    }

    /// Loads `size` bytes at `offset` of the redistributors, which lie one after another.
    #[must_use]
    pub fn redistributor_read(&self, offset: u64, size: u64) -> u64 {
        let Some((vcpu, within)) = self.redistributor_at(offset) else { return 0 };
        assemble(within, size, |word| self.redistributor_word(vcpu, word))
    }

    /// Stores `size` bytes at `offset` of the redistributors.
    pub fn redistributor_write(&mut self, offset: u64, size: u64, value: u64) {
        let Some((vcpu, within)) = self.redistributor_at(offset) else { return };
        if size == 1 && within >= SGI_BASE {
            self.write_byte(Bank::Private(vcpu), within - SGI_BASE, value as u8);
            return;
        }
        split(within, size, value, |word, value| {
            if word == GICR_WAKER {
                self.redistributors[vcpu].asleep = value & 2 != 0;
            } else if word >= SGI_BASE {
                self.set_word(Bank::Private(vcpu), word - SGI_BASE, value);
            }
        });
    }

    fn redistributor_at(&self, offset: u64) -> Option<(usize, u64)> {
        let vcpu = usize::try_from(offset / REDISTRIBUTOR).ok().filter(|vcpu| *vcpu < self.vcpus)?;
        Some((vcpu, offset % REDISTRIBUTOR))
    }

    fn distributor_word(&self, offset: u64) -> u32 {
        const DISABLE_SECURITY: u32 = 1 << 6;
        const AFFINITY_ROUTING: u32 = 1 << 4;
        const ID_BITS: u32 = 9 << 19;
        const NO_ONE_OF_N: u32 = 1 << 25;
        match offset {
            GICD_CTLR => {
                DISABLE_SECURITY
                    | AFFINITY_ROUTING
                    | u32::from(self.enable_group_1) << 1
                    | u32::from(self.enable_group_0)
            }
            GICD_TYPER => NO_ONE_OF_N | ID_BITS | (INTIDS / 32 - 1) as u32,
            8 => IIDR as u32,
            PIDR2 => ARCHITECTURE as u32,
            _ if GICD_IROUTER.contains(&offset) => match router(offset) {
                Some((index, shift)) => (self.routes[index] >> shift) as u32,
                None => 0,
            },
            _ => self.word(Bank::Shared, offset),
        }
    }

    fn set_distributor_word(&mut self, offset: u64, value: u32) {
        if offset == GICD_CTLR {
            self.enable_group_0 = value & 1 != 0;
            self.enable_group_1 = value & 2 != 0;
            // Whatever waited for the enable concerns every vCPU.
            self.notify = (1_u16 << self.vcpus).wrapping_sub(1) as u8;
        } else if !GICD_IROUTER.contains(&offset) {
            self.set_word(Bank::Shared, offset, value);
        } else if let Some((index, shift)) = router(offset) {
            const WRITABLE: u64 = 0xff_80ff_ffff;
            let kept = self.routes[index] & !(0xffff_ffff << shift);
            self.routes[index] = (kept | u64::from(value) << shift) & WRITABLE;
            self.changed(0, index + PRIVATE);
        }
    }

    fn redistributor_word(&self, vcpu: usize, offset: u64) -> u32 {
        let last = u32::from(vcpu + 1 == self.vcpus) << 4;
        match offset {
            4 => IIDR as u32,
            GICR_TYPER => last | (vcpu as u32) << 8,
            0xc => vcpu as u32,
            GICR_WAKER if self.redistributors[vcpu].asleep => 0b110,
            PIDR2 => ARCHITECTURE as u32,
            0x1_ffe8 => ARCHITECTURE as u32,
            _ if offset >= SGI_BASE => self.word(Bank::Private(vcpu), offset - SGI_BASE),
            _ => 0,
        }
    }

    /// A word of the interrupt registers that the distributor and SGI_base have in common.
    fn word(&self, bank: Bank, offset: u64) -> u32 {
        let each = |count: usize, first: usize, field: &dyn Fn(&Interrupt) -> u32| {
            let ids = (first..first + count).enumerate().filter(|(_, id)| bank.has(*id));
            ids.fold(0, |word, (n, id)| word | field(self.get(bank.vcpu(), id)) << (n * 32 / count))
        };
        match offset {
            0x080..0x400 => {
                let Some(bits) = Bits::at(offset) else { return 0 };
                each(32, (offset % 0x80) as usize * 8, &|interrupt| u32::from(bits.read(interrupt)))
            }
            0x400..0x800 => each(4, (offset - 0x400) as usize, &|interrupt| u32::from(interrupt.priority)),
            0xc00..0xd00 => each(16, (offset - 0xc00) as usize * 4, &|interrupt| u32::from(!interrupt.level) << 1),
            _ => 0,
        }
    }

    fn set_word(&mut self, bank: Bank, offset: u64, value: u32) {
        match offset {
            0x080..0x400 => {
                let Some(bits) = Bits::at(offset) else { return };
                for n in 0..32 {
                    let id = (offset % 0x80) as usize * 8 + n;
                    self.update(bank, id, |interrupt| bits.write(interrupt, value >> n & 1 != 0));
                }
            }
            0x400..0x800 => {
                for (n, byte) in value.to_le_bytes().into_iter().enumerate() {
                    self.write_byte(bank, offset + n as u64, byte);
                }
            }
            0xc00..0xd00 => {
                for n in 0..16 {
                    let id = (offset - 0xc00) as usize * 4 + n;
                    if id >= 16 {
                        self.update(bank, id, |interrupt| interrupt.level = value >> (2 * n + 1) & 1 == 0);
                    }
                }
            }
            _ => {}
        }
    }

    /// The only registers that take single bytes: priorities.
    fn write_byte(&mut self, bank: Bank, offset: u64, value: u8) {
        if (0x400..0x800).contains(&offset) {
            self.update(bank, (offset - 0x400) as usize, |interrupt| interrupt.priority = value & 0xf8);
        }
    }

    fn update(&mut self, bank: Bank, id: usize, change: impl FnOnce(&mut Interrupt)) {
        if bank.has(id) {
            change(self.get_mut(bank.vcpu(), id));
            self.changed(bank.vcpu(), id);
        }
    }
}

/// Index of the shared interrupt of an IROUTER word, and the position of the word in it.
fn router(offset: u64) -> Option<(usize, u32)> {
    let id = ((offset - GICD_IROUTER.start) / 8) as usize;
    let shift = if offset % 8 == 0 { 0 } else { 32 };
    (PRIVATE..INTIDS).contains(&id).then(|| (id - PRIVATE, shift))
}

/// A load of `size` bytes made of words.
fn assemble(offset: u64, size: u64, word: impl Fn(u64) -> u32) -> u64 {
    let aligned = offset & !3;
    if size == 8 && offset % 8 == 0 {
        return u64::from(word(aligned + 4)) << 32 | u64::from(word(aligned));
    }
    let value = u64::from(word(aligned)) >> (8 * (offset % 4));
    match size {
        1 => value & 0xff,
        2 => value & 0xffff,
        _ => value,
    }
}

/// A store of 4 or 8 aligned bytes made of words; others are ignored.
fn split(offset: u64, size: u64, value: u64, mut store: impl FnMut(u64, u32)) {
    if offset % 4 != 0 || size < 4 {
        return;
    }
    store(offset, value as u32);
    if size == 8 && offset % 8 == 0 {
        store(offset + 4, (value >> 32) as u32);
    }
}
