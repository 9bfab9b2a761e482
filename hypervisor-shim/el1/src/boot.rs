//! Entry at EL1 on the boot CPU and on secondaries (trust label: UNTRUSTED).
//!
//! The head is an arm64 Image header (Linux Documentation/arch/arm64/booting.rst section 4). The image is
//! linked at 0 and applies its own `R_AARCH64_RELATIVE` relocations (ELF for the Arm 64-bit Architecture,
//! section 5.7.16) before any Rust code runs. Each CPU has its own stack; `TPIDR_EL1` holds the CPU's index.

use bulkhead_abi::{BOOT_MAGIC, BootInfo, CPUS_MAX, VERSION};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Bytes of one CPU's stack.
const STACK_SIZE: usize = 128 << 10;

#[repr(C, align(4096))]
struct Stacks(UnsafeCell<[[u8; STACK_SIZE]; CPUS_MAX]>);

// SAFETY: never accessed as Rust data; each CPU uses its own stack through SP alone.
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_SIZE]; CPUS_MAX]));
static BOOT: AtomicPtr<BootInfo> = AtomicPtr::new(core::ptr::null_mut());

global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    b       1f
    .long   0
    .quad   0
    .quad   __image_size - _start
    .quad   0xa
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
1:  adrp    x9, _start
    adrp    x10, __rela_start
    add     x10, x10, :lo12:__rela_start
    adrp    x11, __rela_end
    add     x11, x11, :lo12:__rela_end
2:  cmp     x10, x11
    b.hs    3f
    ldp     x12, x13, [x10]
    ldr     x14, [x10, #16]
    add     x10, x10, #24
    cmp     w13, #1027              // R_AARCH64_RELATIVE
    b.ne    2b
    add     x14, x14, x9
    str     x14, [x9, x12]
    b       2b
3:  adrp    x10, __bss_start
    adrp    x11, __bss_end
4:  cmp     x10, x11
    b.hs    5f
    stp     xzr, xzr, [x10], #16
    b       4b
5:  mov     x1, xzr
    bl      el1_stack
    bl      el1_boot
    b       .

    .global el1_secondary_entry
el1_secondary_entry:                // x0 = CPU index
    mov     x1, x0
    bl      el1_stack
    bl      el1_program_secondary
    b       .

el1_stack:                          // x1 = CPU index; keeps x0
    msr     tpidr_el1, x1
    adrp    x2, {stacks}
    add     x2, x2, :lo12:{stacks}
    mov     x3, #{size}
    add     x1, x1, #1
    madd    x2, x1, x3, x2
    msr     spsel, #1
    mov     sp, x2
    adrp    x2, el1_vectors
    add     x2, x2, :lo12:el1_vectors
    msr     vbar_el1, x2
    msr     daifset, #0xf
    isb
    mov     x29, xzr
    ret
    "#,
    stacks = sym STACKS,
    size = const STACK_SIZE,
);

unsafe extern "C" {
    fn el1_secondary_entry();
    fn el1_program_main(boot: &'static BootInfo) -> !;
}

/// Physical address that CPU_ON enters.
pub(crate) fn secondary_entry() -> u64 {
    el1_secondary_entry as *const () as usize as u64
}

#[unsafe(no_mangle)]
extern "C" fn el1_boot(boot: &'static BootInfo) -> ! {
    BOOT.store(core::ptr::from_ref(boot).cast_mut(), Ordering::Release);
    assert!(boot.magic == BOOT_MAGIC && boot.abi_version == VERSION, "the engine speaks another version");
    assert!(boot.cpus >= 1 && boot.cpus <= CPUS_MAX as u64, "CPU count");
    crate::cpu::init(boot);
    crate::uart::init(boot.uart);
    // SAFETY: the program defines this function through `entry!`.
    unsafe { el1_program_main(boot) }
}

/// What the engine told the program at boot; `None` before.
#[must_use]
pub fn info() -> Option<&'static BootInfo> {
    // SAFETY: the pointer is null or the BootInfo, which nobody writes after entry.
    unsafe { BOOT.load(Ordering::Acquire).as_ref() }
}
