// FP and SIMD registers to and from memory: x0 = ResidentRegisters. CPTR_EL2.TFP must be clear.
// Trust label: TRUSTED. Names in braces are offsets that vectors.rs supplies.
.text
.arch_extension fp
.arch_extension simd
.macro vector_registers operation
    \operation q0, q1, [x0]
    \operation q2, q3, [x0, #0x20]
    \operation q4, q5, [x0, #0x40]
    \operation q6, q7, [x0, #0x60]
    \operation q8, q9, [x0, #0x80]
    \operation q10, q11, [x0, #0xa0]
    \operation q12, q13, [x0, #0xc0]
    \operation q14, q15, [x0, #0xe0]
    \operation q16, q17, [x0, #0x100]
    \operation q18, q19, [x0, #0x120]
    \operation q20, q21, [x0, #0x140]
    \operation q22, q23, [x0, #0x160]
    \operation q24, q25, [x0, #0x180]
    \operation q26, q27, [x0, #0x1a0]
    \operation q28, q29, [x0, #0x1c0]
    \operation q30, q31, [x0, #0x1e0]
.endm

.global bulkhead_fp_save
bulkhead_fp_save:
    mrs     x1, fpcr
    mrs     x2, fpsr
    stp     x1, x2, [x0, #{FPCR}]
    add     x0, x0, #{VECTORS}
    vector_registers stp
    ret

.global bulkhead_fp_load
bulkhead_fp_load:
    ldp     x1, x2, [x0, #{FPCR}]
    msr     fpcr, x1
    msr     fpsr, x2
    add     x0, x0, #{VECTORS}
    vector_registers ldp
    ret
