//! What a VM's firmware expects beside the UART: the flash for its variables, the configuration channel, the clock
//! (trust label: UNTRUSTED). Every VM has them; whether it learns of them is its device tree's business.

use super::Window;
use crate::memory;
use bulkhead_abi::FRAME_SIZE;
use bulkhead_el1::cpu;
use bulkhead_logic::flash::{self, Cells, Flash};
use bulkhead_logic::fw_cfg::FwCfg;
use bulkhead_logic::pl031::Pl031;

/// The flash bank; QEMU's firmware has its variables at its start.
pub const FLASH: Window = Window {
    base: 0x0400_0000,
    size: flash::SIZE,
    read: |_, vm, offset, size| vm.firmware.flash.read(&vm.firmware.pages, offset, size),
    write: |_, vm, offset, size, value| vm.firmware.flash.write(&mut vm.firmware.pages, offset, size, value),
};

/// The clock.
pub const CLOCK: Window = Window {
    base: 0x0901_0000,
    size: 0x1000,
    read: |_, vm, offset, _| u64::from(vm.firmware.clock.read(offset, vm.firmware.elapsed())),
    write: |_, vm, offset, _, value| {
        let elapsed = vm.firmware.elapsed();
        vm.firmware.clock.write(offset, value as u32, elapsed);
    },
};

/// The configuration channel.
pub const CONFIGURATION: Window = Window {
    base: 0x0902_0000,
    size: 0x1000,
    read: |_, vm, offset, size| vm.firmware.configuration.read(offset, size, vm.vcpu_count),
    write: |_, vm, offset, size, value| vm.firmware.configuration.write(offset, size, value),
};

/// State of these devices.
pub struct Firmware {
    flash: Flash,
    pages: Pages,
    clock: Pl031,
    configuration: FwCfg,
    /// Counter value at the VM's start.
    start: u64,
}

impl Firmware {
    /// Devices after reset; the flash is erased.
    pub const fn new() -> Self {
        let (flash, clock, configuration) = (Flash::new(), Pl031::new(0), FwCfg::new());
        Self { flash, pages: Pages::ERASED, clock, configuration, start: 0 }
    }

    /// Sets the clock to `time`, seconds since 1970.
    pub fn set_clock(&mut self, time: u64) {
        self.clock = Pl031::new(time);
        self.start = cpu::now();
    }

    /// Seconds since the clock was set.
    fn elapsed(&self) -> u64 {
        cpu::now().saturating_sub(self.start) / cpu::frequency().max(1)
    }

    /// Erases the flash, which gives its frames back.
    pub fn unplug(&mut self) {
        (0..flash::SIZE).step_by(flash::BLOCK as usize).for_each(|offset| self.pages.erase(offset));
    }
}

const PAGES: usize = (flash::SIZE / FRAME_SIZE) as usize;

/// The bits of the flash: frames of the host by page, 0 for a page in which nothing has been programmed.
struct Pages([u64; PAGES]);

impl Pages {
    const ERASED: Self = Self([0; PAGES]);

    fn frame(&self, offset: u64) -> u64 {
        self.0.get((offset / FRAME_SIZE) as usize).copied().unwrap_or(0)
    }
}

impl Cells for Pages {
    fn byte(&self, offset: u64) -> u8 {
        match self.frame(offset) {
            0 => 0xff,
            frame => memory::with_bytes(frame, |bytes| bytes[(offset % FRAME_SIZE) as usize]),
        }
    }

    fn program(&mut self, offset: u64, value: u8) -> bool {
        if value == 0xff {
            return true;
        }
        if self.frame(offset) == 0 {
            let Ok(frame) = memory::allocate() else { return false };
            memory::with_bytes(frame, |bytes| bytes.fill(0xff));
            self.0[(offset / FRAME_SIZE) as usize] = frame;
        }
        memory::with_bytes(self.frame(offset), |bytes| bytes[(offset % FRAME_SIZE) as usize] &= value);
        true
    }

    fn erase(&mut self, offset: u64) {
        let first = (offset / FRAME_SIZE) as usize;
        for frame in &mut self.0[first..first + (flash::BLOCK / FRAME_SIZE) as usize] {
            match core::mem::take(frame) {
                0 => {}
                frame => memory::release(frame),
            }
        }
    }
}
