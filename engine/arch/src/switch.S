// The switched registers. Trust label: TRUSTED. Generated from engine/arch/registers/*.toml by `python -m bulkhead.registers`; do not edit.

.macro load_switched base           // changes x0 to x17
    ldp     x0, x1, [\base, #{V_SWITCHED} + 0]
    ldp     x2, x3, [\base, #{V_SWITCHED} + 16]
    ldp     x4, x5, [\base, #{V_SWITCHED} + 32]
    ldp     x6, x7, [\base, #{V_SWITCHED} + 48]
    ldp     x8, x9, [\base, #{V_SWITCHED} + 64]
    ldp     x10, x11, [\base, #{V_SWITCHED} + 80]
    ldp     x12, x13, [\base, #{V_SWITCHED} + 96]
    ldp     x14, x15, [\base, #{V_SWITCHED} + 112]
    ldp     x16, x17, [\base, #{V_SWITCHED} + 128]
    msr     S3_0_C1_C0_0, x0        // SCTLR_EL1
    msr     S3_0_C1_C0_2, x1        // CPACR_EL1
    msr     S3_0_C2_C0_2, x2        // TCR_EL1
    msr     S3_0_C12_C0_0, x3       // VBAR_EL1
    msr     S3_4_C4_C1_0, x4        // SP_EL1
    msr     S3_0_C13_C0_4, x5       // TPIDR_EL1
    msr     S3_0_C4_C1_0, x6        // SP_EL0
    msr     S3_0_C4_C0_1, x7        // ELR_EL1
    msr     S3_0_C4_C0_0, x8        // SPSR_EL1
    msr     S3_0_C5_C2_0, x9        // ESR_EL1
    msr     S3_0_C6_C0_0, x10       // FAR_EL1
    msr     S3_3_C13_C0_2, x11      // TPIDR_EL0
    msr     S3_3_C13_C0_3, x12      // TPIDRRO_EL0
    msr     S3_0_C7_C4_0, x13       // PAR_EL1
    msr     S3_0_C14_C1_0, x14      // CNTKCTL_EL1
    msr     S3_3_C14_C3_2, x15      // CNTV_CVAL_EL0
    msr     S3_3_C14_C3_1, x16      // CNTV_CTL_EL0
    msr     S2_0_C0_C2_2, x17       // MDSCR_EL1
.endm

.macro save_switched base           // changes x0 to x17
    mrs     x0, S3_0_C1_C0_0        // SCTLR_EL1
    mrs     x1, S3_0_C1_C0_2        // CPACR_EL1
    mrs     x2, S3_0_C2_C0_2        // TCR_EL1
    mrs     x3, S3_0_C12_C0_0       // VBAR_EL1
    mrs     x4, S3_4_C4_C1_0        // SP_EL1
    mrs     x5, S3_0_C13_C0_4       // TPIDR_EL1
    mrs     x6, S3_0_C4_C1_0        // SP_EL0
    mrs     x7, S3_0_C4_C0_1        // ELR_EL1
    mrs     x8, S3_0_C4_C0_0        // SPSR_EL1
    mrs     x9, S3_0_C5_C2_0        // ESR_EL1
    mrs     x10, S3_0_C6_C0_0       // FAR_EL1
    mrs     x11, S3_3_C13_C0_2      // TPIDR_EL0
    mrs     x12, S3_3_C13_C0_3      // TPIDRRO_EL0
    mrs     x13, S3_0_C7_C4_0       // PAR_EL1
    mrs     x14, S3_0_C14_C1_0      // CNTKCTL_EL1
    mrs     x15, S3_3_C14_C3_2      // CNTV_CVAL_EL0
    mrs     x16, S3_3_C14_C3_1      // CNTV_CTL_EL0
    stp     x0, x1, [\base, #{V_SWITCHED} + 0]
    stp     x2, x3, [\base, #{V_SWITCHED} + 16]
    stp     x4, x5, [\base, #{V_SWITCHED} + 32]
    stp     x6, x7, [\base, #{V_SWITCHED} + 48]
    stp     x8, x9, [\base, #{V_SWITCHED} + 64]
    stp     x10, x11, [\base, #{V_SWITCHED} + 80]
    stp     x12, x13, [\base, #{V_SWITCHED} + 96]
    stp     x14, x15, [\base, #{V_SWITCHED} + 112]
    str     x16, [\base, #{V_SWITCHED} + 128]
.endm

.macro zero_switched                // what the host has no value of its own for
    msr     S2_0_C0_C2_2, xzr       // MDSCR_EL1
    msr     S3_3_C14_C3_1, xzr      // CNTV_CTL_EL0
    msr     S3_3_C14_C3_2, xzr      // CNTV_CVAL_EL0
    msr     S3_0_C14_C1_0, xzr      // CNTKCTL_EL1
    msr     S3_0_C7_C4_0, xzr       // PAR_EL1
    msr     S3_3_C13_C0_3, xzr      // TPIDRRO_EL0
    msr     S3_3_C13_C0_2, xzr      // TPIDR_EL0
    msr     S3_0_C6_C0_0, xzr       // FAR_EL1
    msr     S3_0_C5_C2_0, xzr       // ESR_EL1
    msr     S3_0_C4_C0_0, xzr       // SPSR_EL1
    msr     S3_0_C4_C0_1, xzr       // ELR_EL1
    msr     S3_0_C4_C1_0, xzr       // SP_EL0
    msr     S3_0_C2_C0_2, xzr       // TCR_EL1
    msr     S3_0_C1_C0_2, xzr       // CPACR_EL1
.endm
