//! Generated from tooling/bulkhead/image/memory_map.py by `python -m bulkhead.image.memory_map`; do not edit.
//!
//! The device pages of the `virt` platform and who reaches them. Trust label: TRUSTED.
//!
//! Withheld from everybody, and why:
//! - FLASH 0x0..0x8000000: firmware code and variables outlive a boot.
//! - GIC_ITS_REST 0x8081000..0x80a0000: messages of devices; the ITS is off.
//! - RTC 0x9010000..0x9011000: not needed.
//! - FW_CFG 0x9020000..0x9021000: its DMA register writes to any RAM.
//! - GPIO 0x9030000..0x9031000: power button; not needed.
//! - SMMU_REST 0x9051000..0x9070000: the SMMU's other pages: its event queue is not in use.
//! - PLATFORM_BUS 0xc000000..0xe000000: whatever is plugged there is a bus master.
//! - PCIE_MMIO_END 0x3ee00000..0x3eff0000: less than a block: not needed.
//! - PCIE_PIO 0x3eff0000..0x3f000000: not needed.
//! - PCIE_ECAM_LOW 0x3f000000..0x40000000: the other place of configuration space.
//! - PCIE_MMIO_HIGH 0x8000000000..0x10000000000: not needed.

/// A range of device pages.
pub struct Device {
    /// First physical address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes from one CPU's instance to the next; 0: there is one instance.
    pub stride: u64,
}

/// GICD: the host routes its own interrupts; holds no addresses.
pub const GICD: Device = Device { base: 0x800_0000, size: 0x1_0000, stride: 0 };

/// GIC_ITS: off: its commands and tables write to any RAM.
pub const GIC_ITS: Device = Device { base: 0x808_0000, size: 0x1000, stride: 0 };

/// GICR_RD: it holds the addresses of tables in RAM.
pub const GICR_RD: Device = Device { base: 0x80a_0000, size: 0x1_0000, stride: 0x2_0000 };

/// GICR_SGI: SGI and PPI enables of one CPU.
pub const GICR_SGI: Device = Device { base: 0x80b_0000, size: 0x1000, stride: 0x2_0000 };

/// UART0: panic dump and boot messages.
pub const UART0: Device = Device { base: 0x900_0000, size: 0x1000, stride: 0 };

/// UART1: management channel (PL011, no DMA).
pub const UART1: Device = Device { base: 0x904_0000, size: 0x1000, stride: 0 };

/// SMMU: decides which RAM each bus master reaches; page 0 only.
pub const SMMU: Device = Device { base: 0x905_0000, size: 0x1000, stride: 0 };

/// VIRTIO_MMIO: reset: these transports are bus masters outside the SMMU.
pub const VIRTIO_MMIO: Device = Device { base: 0xa00_0000, size: 0x4000, stride: 0 };

/// PCIE_MMIO: BARs: only listed functions decode anything there.
pub const PCIE_MMIO: Device = Device { base: 0x1000_0000, size: 0x2ee0_0000, stride: 0 };

/// PCIE_ECAM: enables bus masters; listed functions have a page.
pub const PCIE_ECAM: Device = Device { base: 0x40_1000_0000, size: 0x1000_0000, stride: 0 };

/// What the engine reaches.
pub const ENGINE_DEVICES: [Device; 8] = [GICD, GIC_ITS, GICR_RD, GICR_SGI, UART0, SMMU, VIRTIO_MMIO, PCIE_ECAM];

/// What the host reaches.
pub const HOST_DEVICES: [Device; 3] = [GICD, GICR_SGI, UART1];

/// A kind of PCIe function that the host may have.
pub struct PciFunction {
    /// As in configuration space: device << 16 | vendor.
    pub ids: u32,
    /// Whether its transfers may outlast their translation, so that closing a window resets it.
    pub lasting: bool,
}

/// EDU: QEMU's teaching device: a DMA engine that tests can steer.
pub const EDU: PciFunction = PciFunction { ids: 0x11e8_1234, lasting: false };

/// NVME: QEMU's NVMe controller; it keeps addresses while a drive works.
pub const NVME: PciFunction = PciFunction { ids: 0x10_1b36, lasting: true };

/// The allow-list of PCIe functions.
pub const PCI_FUNCTIONS: [PciFunction; 2] = [EDU, NVME];

/// All device addresses of the platform, withheld ones too: base and bytes. No RAM lies there.
pub const ALL_DEVICES: [(u64, u64); 20] = [
    (0, 0x800_0000),
    (0x800_0000, 0x1_0000),
    (0x808_0000, 0x1000),
    (0x808_1000, 0x1_f000),
    (0x80a_0000, 0x10_0000),
    (0x900_0000, 0x1000),
    (0x901_0000, 0x1000),
    (0x902_0000, 0x1000),
    (0x903_0000, 0x1000),
    (0x904_0000, 0x1000),
    (0x905_0000, 0x1000),
    (0x905_1000, 0x1_f000),
    (0xa00_0000, 0x4000),
    (0xc00_0000, 0x200_0000),
    (0x1000_0000, 0x2ee0_0000),
    (0x3ee0_0000, 0x1f_0000),
    (0x3eff_0000, 0x1_0000),
    (0x3f00_0000, 0x100_0000),
    (0x40_1000_0000, 0x1000_0000),
    (0x80_0000_0000, 0x80_0000_0000),
];

/// Interrupt id of UART1, the management channel.
pub const UART1_INTID: u64 = 40;

/// Maintenance ppi.
pub const MAINTENANCE_PPI: u64 = 25;

/// Virtual timer ppi.
pub const VIRTUAL_TIMER_PPI: u64 = 27;

/// Physical timer ppi.
pub const PHYSICAL_TIMER_PPI: u64 = 30;
