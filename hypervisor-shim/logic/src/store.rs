//! The image store that the boot loader leaves in memory (trust label: UNTRUSTED).
//!
//! Format, little endian: `BHSTORE1`, count `u32`, 0 `u32`, then `count` entries {name: 24 bytes padded with
//! zeros, offset `u64`, size `u64`}; offsets count from the start of the store.

const MAGIC: &[u8] = b"BHSTORE1";
const HEADER: usize = 16;
const ENTRY: usize = 40;
const NAME: usize = 24;

/// A store; every access is checked against its bytes.
#[derive(Clone, Copy)]
pub struct Store<'s> {
    bytes: &'s [u8],
}

impl<'s> Store<'s> {
    /// The store in `bytes`; anything that is none is an empty one.
    #[must_use]
    pub const fn new(bytes: &'s [u8]) -> Self {
        Self { bytes }
    }

    /// Names and contents. An entry that points outside has no content and is left out.
    pub fn files(self) -> impl Iterator<Item = (&'s str, &'s [u8])> {
        let table = self.table().unwrap_or_default();
        table.chunks_exact(ENTRY).filter_map(move |entry| self.file(entry))
    }

    /// Content of the file `name`.
    #[must_use]
    pub fn find(self, name: &str) -> Option<&'s [u8]> {
        self.files().find(|(candidate, _)| *candidate == name).map(|(_, content)| content)
    }

    fn table(self) -> Option<&'s [u8]> {
        let header = self.bytes.get(..HEADER).filter(|header| header.starts_with(MAGIC))?;
        let count = u32::from_le_bytes(header.get(8..12)?.try_into().ok()?) as usize;
        self.bytes.get(HEADER..HEADER.checked_add(count.checked_mul(ENTRY)?)?)
    }

    fn file(self, entry: &'s [u8]) -> Option<(&'s str, &'s [u8])> {
        let (name, place) = entry.split_at_checked(NAME)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        let name = core::str::from_utf8(name.get(..end)?).ok()?;
        let offset = usize::try_from(u64::from_le_bytes(place.get(..8)?.try_into().ok()?)).ok()?;
        let size = usize::try_from(u64::from_le_bytes(place.get(8..16)?.try_into().ok()?)).ok()?;
        Some((name, self.bytes.get(offset..offset.checked_add(size)?)?))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn store(entries: &[(&str, u64, u64)], payload: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((entries.len() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        for (name, offset, size) in entries {
            let mut padded = [0; NAME];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            bytes.extend(padded);
            bytes.extend(offset.to_le_bytes());
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn files_are_found_by_name() {
        let bytes = store(&[("kernel", 96, 3), ("initrd", 99, 2)], b"abcde");
        let store = Store::new(&bytes);
        assert_eq!(store.find("kernel"), Some(&b"abc"[..]));
        assert_eq!(store.find("initrd"), Some(&b"de"[..]));
        assert_eq!(store.find("kern"), None);
        assert_eq!(store.files().count(), 2);
    }

    #[test]
    fn lies_are_not_followed() {
        let bytes = store(&[("a", u64::MAX, 2), ("b", 0, u64::MAX), ("c", 176, 1), ("d", 176, 0)], b"");
        let names: Vec<_> = Store::new(&bytes).files().map(|(name, _)| name).collect();
        assert_eq!(names, ["d"]);
        let mut many = store(&[], b"");
        many[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        for bytes in [&many[..], &bytes[..15], b"", b"BHSTORE2aaaaaaaa"] {
            assert_eq!(Store::new(bytes).files().count(), 0);
        }
    }
}
