//! What a call answers: a status in x0 and its detail in x1. Trust label: PROVED.

use bulkhead_abi::status;

/// Status and detail, as they go to x0 and x1.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// One of `abi::status`.
    pub status: u64,
    /// What the table says x1 carries with this status; with SUCCESS the result, if the call has one.
    pub detail: u64,
}

impl Outcome {
    /// Done.
    pub const SUCCESS: Self = Self { status: status::SUCCESS, detail: 0 };
    /// The VM or vCPU is not in the right state.
    pub const BAD_STATE: Self = Self { status: status::BAD_STATE, detail: 0 };
    /// The slot is taken.
    pub const ALREADY_MAPPED: Self = Self { status: status::ALREADY_MAPPED, detail: 0 };
    /// Something is still there.
    pub const NOT_EMPTY: Self = Self { status: status::NOT_EMPTY, detail: 0 };
    /// Try again.
    pub const BUSY: Self = Self { status: status::BUSY, detail: 0 };
    /// Unknown or reserved.
    pub const NOT_SUPPORTED: Self = Self { status: status::NOT_SUPPORTED, detail: 0 };

    /// Done; the call's only result.
    #[inline(always)]
    pub const fn with_result(result: u64) -> Self {
        Self { status: status::SUCCESS, detail: result }
    }

    /// Argument register x`register` is outside its domain.
    #[inline(always)]
    pub const fn invalid(register: u64) -> Self {
        Self { status: status::INVALID_ARGUMENT, detail: register }
    }

    /// The frame in argument register x`register` is not owned as the call needs it.
    #[inline(always)]
    pub const fn not_owned(register: u64) -> Self {
        Self { status: status::NOT_OWNED, detail: register }
    }

    /// The frame in argument register x`register` lies in a block that is not split.
    #[inline(always)]
    pub const fn needs_split(register: u64) -> Self {
        Self { status: status::NEEDS_SPLIT, detail: register }
    }

    /// The block that argument register x`register` lies in has not been touched since boot.
    #[inline(always)]
    pub const fn not_cleared(register: u64) -> Self {
        Self { status: status::NOT_CLEARED, detail: register }
    }

    /// The translation table of `level` is missing.
    #[inline(always)]
    pub const fn table_missing(level: u64) -> Self {
        Self { status: status::TABLE_MISSING, detail: level }
    }

    /// The list register or control word in argument register x`register` is malformed.
    #[inline(always)]
    pub const fn bad_reply(register: u64) -> Self {
        Self { status: status::BAD_REPLY, detail: register }
    }
}
