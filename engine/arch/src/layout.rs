//! Generated from tooling/bulkhead/image/memory_map.py by `python -m bulkhead.image.memory_map`; do not edit.
//!
//! Where the engine sees what: the EL2 virtual address space. Trust label: TRUSTED.

/// RAM that is not the engine's: RAM + PA, read-write, never executable.
pub const RAM: u64 = 0x4000_0000_0000;
/// The engine image: text RX, rodata R, data and bss RW.
pub const IMAGE: u64 = 0x8000_0000_0000;
/// Block records: u64[blocks].
pub const BLOCKS: u64 = 0x9000_0000_0000;
/// Frame records: u64[frames].
pub const FRAMES: u64 = 0x9100_0000_0000;
/// Level 2 entries of the host's stage 2: u64[blocks].
pub const HOST_L2: u64 = 0x9200_0000_0000;
/// Level 2 entries of the devices' stage 2 in the SMMU: u64[blocks].
pub const DMA_L2: u64 = 0x9300_0000_0000;
/// The engine's devices: DEVICE + PA, Device-nGnRE, never executable.
pub const DEVICE: u64 = 0xa000_0000_0000;
/// One area for each CPU: stacks between guards, host context.
pub const PERCPU: u64 = 0xb000_0000_0000;
/// Bytes of the image window: the most that the engine image may take.
pub const IMAGE_SIZE: u64 = 0x20_0000;
/// Bytes from one CPU's area to the next.
pub const PERCPU_STRIDE: u64 = 0x1_0000;
/// Offset in a CPU's area: stack of the panic dump.
pub const PERCPU_EMERGENCY_STACK: u64 = 0x1000;
/// Bytes: stack of the panic dump.
pub const EMERGENCY_STACK_SIZE: u64 = 0x2000;
/// Offset in a CPU's area: stack; it ends where the host context begins.
pub const PERCPU_STACK: u64 = 0x7000;
/// Bytes: stack; it ends where the host context begins.
pub const STACK_SIZE: u64 = 0x8000;
/// Offset in a CPU's area: the host's registers; TPIDR_EL2 points here.
pub const PERCPU_CONTEXT: u64 = 0xf000;
/// Bytes: the host's registers; TPIDR_EL2 points here.
pub const CONTEXT_SIZE: u64 = 0x1000;
/// Most CPUs.
pub const CPUS_MAX: usize = 8;
/// Bits of a physical address that the RAM window can show.
pub const PHYSICAL_BITS: u32 = 46;
/// Most frames between the lowest and the highest RAM address.
pub const FRAMES_MAX: u64 = 0x1000_0000;
/// Virtual address of GICD.
pub const GICD: u64 = 0xa000_0800_0000;
/// Virtual address of GIC_ITS.
pub const GIC_ITS: u64 = 0xa000_0808_0000;
/// Virtual address of redistributors, `GICR_STRIDE` apart, in the order of the CPU indices.
pub const GICR: u64 = 0xa000_080a_0000;
/// Virtual address of UART0.
pub const UART0: u64 = 0xa000_0900_0000;
/// Virtual address of SMMU.
pub const SMMU: u64 = 0xa000_0905_0000;
/// Virtual address of VIRTIO_MMIO.
pub const VIRTIO_MMIO: u64 = 0xa000_0a00_0000;
/// Virtual address of PCIE_ECAM.
pub const PCIE_ECAM: u64 = 0xa040_1000_0000;
/// Distance of two redistributors: RD_base and SGI_base frame (IHI 0069 section 12.10).
pub const GICR_STRIDE: u64 = 0x2_0000;
