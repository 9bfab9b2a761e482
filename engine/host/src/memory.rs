//! Fake physical memory: 64-bit words that Python may read and write between calls. Trust label: TOOL.
//!
//! The engine changes it through [`Word::set`] and [`Words::fill`] only, which note what they write.

use std::cell::{Cell, RefCell};

/// Zeroed memory of a whole number of words, with interior mutability and a stable address.
pub struct Memory {
    words: Box<[Cell<u64>]>,
    pub(crate) written: RefCell<Vec<Written>>,
}

/// Consecutive words that were written: index of the first, counted from the start of memory, and how many.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Index of the first word.
    pub first: u64,
    /// Number of words.
    pub count: u64,
}

impl Memory {
    /// `bytes` (a multiple of 8) of zeroes; the operating system provides pages on first touch.
    #[must_use]
    #[allow(unsafe_code, reason = "turns calloc'ed words into cells without touching them")]
    pub fn zeroed(bytes: u64) -> Self {
        let words = usize::try_from(bytes / 8).expect("fake memory fits the address space");
        let raw = Box::into_raw(vec![0_u64; words].into_boxed_slice());
        // SAFETY: `raw` comes from `Box::into_raw`, and `Cell<u64>` is `repr(transparent)` over `u64`.
        Self { words: unsafe { Box::from_raw(raw as *mut [Cell<u64>]) }, written: RefCell::default() }
    }

    /// The words from byte offset `offset` on; `count` of them.
    ///
    /// # Panics
    /// If they are not aligned or not inside.
    #[must_use]
    pub fn words(&self, offset: u64, count: u64) -> Words<'_> {
        assert!(offset % 8 == 0, "offset {offset:#x} is not that of a word");
        let start = usize::try_from(offset / 8).expect("offset fits");
        let cells = &self.words[start..][..usize::try_from(count).expect("length fits")];
        Words { memory: self, first: offset / 8, cells }
    }

    /// The word at byte offset `offset`.
    ///
    /// # Panics
    /// As [`Memory::words`].
    #[must_use]
    pub fn word(&self, offset: u64) -> Word<'_> {
        self.words(offset, 1).at(0)
    }

    /// Address of the first byte on the developer's machine.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.words.as_ptr().cast_mut().cast()
    }
}

/// One word.
#[derive(Clone, Copy)]
pub struct Word<'m> {
    memory: &'m Memory,
    index: u64,
    cell: &'m Cell<u64>,
}

impl Word<'_> {
    /// Its value.
    #[must_use]
    pub fn get(self) -> u64 {
        self.cell.get()
    }

    /// Changes it.
    pub fn set(self, value: u64) {
        self.memory.written.borrow_mut().push(Written { first: self.index, count: 1 });
        self.cell.set(value);
    }
}

/// Consecutive words.
#[derive(Clone, Copy)]
pub struct Words<'m> {
    memory: &'m Memory,
    first: u64,
    cells: &'m [Cell<u64>],
}

impl<'m> Words<'m> {
    /// The word at `index`.
    ///
    /// # Panics
    /// If it is not inside.
    #[must_use]
    pub fn at(self, index: u64) -> Word<'m> {
        Word { memory: self.memory, index: self.first + index, cell: &self.cells[index as usize] }
    }

    /// Their values in order.
    pub fn values(self) -> impl Iterator<Item = u64> + 'm {
        self.cells.iter().map(Cell::get)
    }

    /// All of them get `values` in order, as far as these go.
    pub fn fill(self, values: impl Iterator<Item = u64>) {
        let count = self.cells.len() as u64;
        self.memory.written.borrow_mut().push(Written { first: self.first, count });
        self.cells.iter().zip(values).for_each(|(cell, value)| cell.set(value));
    }

    /// Where they are on the developer's machine.
    #[must_use]
    pub fn as_ptr(self) -> *const u64 {
        self.cells.as_ptr().cast()
    }
}
