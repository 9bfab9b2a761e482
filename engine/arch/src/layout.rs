//! Generated from tooling/bulkhead/image/memory_map.py by `python -m bulkhead.image.memory_map`; do not edit.
//!
//! Where the engine sees what: the EL2 virtual address space. Trust label: TRUSTED.

/// RAM that is not the engine's: RAM + PA, read-write, never executable.
pub const RAM_WINDOW: u64 = 0x4000_0000_0000;
/// Bytes of the RAM window.
pub const RAM_WINDOW_SIZE: u64 = 0x4000_0000_0000;
/// The engine image: text RX, rodata R, data and bss RW.
pub const IMAGE_WINDOW: u64 = 0x8000_0000_0000;
/// Bytes of the IMAGE window.
pub const IMAGE_WINDOW_SIZE: u64 = 0x20_0000;
/// Block records: u64[blocks].
pub const BLOCKS_WINDOW: u64 = 0x9000_0000_0000;
/// Bytes of the BLOCKS window.
pub const BLOCKS_WINDOW_SIZE: u64 = 0x40_0000;
/// Frame records: u64[frames].
pub const FRAMES_WINDOW: u64 = 0x9100_0000_0000;
/// Bytes of the FRAMES window.
pub const FRAMES_WINDOW_SIZE: u64 = 0x8000_0000;
/// Level 2 entries of the host's stage 2: u64[blocks].
pub const HOST_L2_WINDOW: u64 = 0x9200_0000_0000;
/// Bytes of the HOST_L2 window.
pub const HOST_L2_WINDOW_SIZE: u64 = 0x40_0000;
/// The engine's devices: DEVICE + PA, Device-nGnRE, never executable.
pub const DEVICE_WINDOW: u64 = 0xa000_0000_0000;
/// Bytes of the DEVICE window.
pub const DEVICE_WINDOW_SIZE: u64 = 0x1_0000_0000;
/// One area for each CPU: stacks between guards, host context.
pub const PERCPU_WINDOW: u64 = 0xb000_0000_0000;
/// Bytes of the PERCPU window.
pub const PERCPU_WINDOW_SIZE: u64 = 0x8_0000;
/// Bytes from one CPU's area in the PERCPU window to the next.
pub const PERCPU_STRIDE: u64 = 0x1_0000;
/// Offset in a CPU's area: stack of the panic dump.
pub const EMERGENCY_STACK_OFFSET: u64 = 0x1000;
/// Bytes: stack of the panic dump.
pub const EMERGENCY_STACK_SIZE: u64 = 0x2000;
/// Offset in a CPU's area: stack; it ends where the host context begins.
pub const STACK_OFFSET: u64 = 0x7000;
/// Bytes: stack; it ends where the host context begins.
pub const STACK_SIZE: u64 = 0x8000;
/// Offset in a CPU's area: the host's registers; TPIDR_EL2 points here.
pub const HOST_CONTEXT_OFFSET: u64 = 0xf000;
/// Bytes: the host's registers; TPIDR_EL2 points here.
pub const HOST_CONTEXT_SIZE: u64 = 0x1000;
/// Most CPUs.
pub const CPUS_MAX: usize = 8;
/// Bits of a physical address that the RAM window can show.
pub const PHYSICAL_BITS: u32 = 46;
/// Most frames between the lowest and the highest RAM address.
pub const FRAMES_MAX: u64 = 0x1000_0000;
/// Virtual address of GICD.
pub const GICD: u64 = 0xa000_0800_0000;
/// Virtual address of GICR_RD, of CPU 0.
pub const GICR_RD: u64 = 0xa000_080a_0000;
/// Virtual address of GICR_SGI, of CPU 0.
pub const GICR_SGI: u64 = 0xa000_080b_0000;
/// Virtual address of UART0.
pub const UART0: u64 = 0xa000_0900_0000;
/// Virtual address of SMMU.
pub const SMMU: u64 = 0xa000_0905_0000;
/// Bytes from one CPU's redistributor to the next.
pub const GICR_STRIDE: u64 = 0x2_0000;
