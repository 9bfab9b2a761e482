//! Fake physical memory: 64-bit words that Python may read and write between calls. Trust label: TOOL.

use std::cell::Cell;

/// Zeroed memory of a whole number of words, with interior mutability and a stable address.
pub struct Memory(Box<[Cell<u64>]>);

impl Memory {
    /// `bytes` (a multiple of 8) of zeroes; the operating system provides pages on first touch.
    #[must_use]
    #[allow(unsafe_code, reason = "turns calloc'ed words into cells without touching them")]
    pub fn zeroed(bytes: u64) -> Self {
        let words = usize::try_from(bytes / 8).expect("fake memory fits the address space");
        let raw = Box::into_raw(vec![0_u64; words].into_boxed_slice());
        // SAFETY: `raw` comes from `Box::into_raw`, and `Cell<u64>` is `repr(transparent)` over `u64`.
        Self(unsafe { Box::from_raw(raw as *mut [Cell<u64>]) })
    }

    /// The words from byte offset `offset` on; `words` of them.
    ///
    /// # Panics
    /// If they are not aligned or not inside.
    #[must_use]
    pub fn words(&self, offset: u64, words: u64) -> &[Cell<u64>] {
        assert!(offset % 8 == 0, "offset {offset:#x} is not that of a word");
        let start = usize::try_from(offset / 8).expect("offset fits");
        &self.0[start..][..usize::try_from(words).expect("length fits")]
    }

    /// The word at byte offset `offset`.
    ///
    /// # Panics
    /// As [`Memory::words`].
    #[must_use]
    pub fn word(&self, offset: u64) -> &Cell<u64> {
        &self.words(offset, 1)[0]
    }

    /// Address of the first byte on the developer's machine.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }
}
