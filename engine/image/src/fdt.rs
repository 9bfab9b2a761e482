//! Flattened device trees: a reader that answers whatever bytes it is given. Trust label: TRUSTED.
//!
//! [`Tree::new`] walks all tokens once and refuses what is not a tree; later walks see the same tokens, so they end
//! and find nothing cut short. No recursion and no index that could be out of range: the depth of the tree costs no
//! stack. Source: Devicetree Specification 0.4, chapter 5 (format), 2.3 (standard properties).
#![forbid(unsafe_code)]

use bulkhead_abi::Range;

const MAGIC: u32 = 0xd00d_feed;
const BEGIN: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// Version of the format, and the oldest one whose readers understand it.
const VERSION: u32 = 17;
const COMPATIBLE_VERSION: u32 = 16;
/// Most bytes of a property's name with its closing zero: more than the specification allows, so that many properties
/// with endless names cost no time.
const NAME: usize = 64;
/// Deepest nesting of nodes.
const DEPTH: u32 = 16;

/// What the structure block is made of.
enum Token<'a> {
    Begin(&'a [u8]),
    Property(&'a [u8], &'a [u8]),
    EndNode,
    End,
}

/// Big-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The next four bytes.
fn word(stream: &mut &[u8]) -> Option<u32> {
    let (first, rest) = stream.split_first_chunk()?;
    *stream = rest;
    Some(u32::from_be_bytes(*first))
}

/// Text up to its closing zero.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split_at_checked(bytes.iter().position(|byte| *byte == 0)?).map(|(text, _)| text)
}

/// The next token; None: there is no sound one.
fn token<'a>(stream: &mut &'a [u8], strings: &'a [u8]) -> Option<Token<'a>> {
    loop {
        let kind = word(stream)?;
        let (token, length) = match kind {
            NOP => continue,
            END_NODE => (Token::EndNode, 0),
            END => (Token::End, 0),
            BEGIN => {
                let name = text(stream)?;
                (Token::Begin(name), name.len() + 1)
            }
            PROPERTY => {
                let (length, name) = (word(stream)? as usize, word(stream)? as usize);
                let name = strings.get(name..)?;
                let name = name.get(..NAME).unwrap_or(name);
                (Token::Property(text(name)?, stream.get(..length)?), length)
            }
            _ => return None,
        };
        *stream = stream.get(length.next_multiple_of(4)..)?;
        return Some(token);
    }
}

/// A sound tree.
pub struct Tree<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    reservations: &'a [u8],
}

impl<'a> Tree<'a> {
    /// The tree in `blob`; the error says what is wrong with it.
    pub fn new(blob: &'a [u8]) -> Result<Self, &'static str> {
        const HEADER: &str = "the device tree is malformed: its header";
        let mut stream = blob;
        let mut header = [0; 10];
        for field in &mut header {
            *field = word(&mut stream).ok_or(HEADER)?;
        }
        let [magic, total, structure, strings, reservations, version, oldest, _, strings_size, structure_size] = header;
        let all = blob.get(..total as usize).ok_or(HEADER)?;
        let part = |from: u32, size: u32| all.get(from as usize..)?.get(..size as usize);
        let tree = Self {
            structure: part(structure, structure_size).ok_or(HEADER)?,
            strings: part(strings, strings_size).ok_or(HEADER)?,
            reservations: all.get(reservations as usize..).ok_or(HEADER)?,
        };
        let understood = version >= VERSION && (COMPATIBLE_VERSION..=VERSION).contains(&oldest);
        if magic != MAGIC || !understood || structure % 4 != 0 {
            return Err(HEADER);
        }
        if !tree.raw_reservations().any(|(base, size)| base == 0 && size == 0) {
            return Err("the device tree is malformed: its reservation block");
        }
        tree.check_structure()?;
        Ok(tree)
    }

    /// One root, properties before children, everything closed, not too deep.
    fn check_structure(&self) -> Result<(), &'static str> {
        const STRUCTURE: &str = "the device tree is malformed: its structure";
        let mut stream = self.structure;
        let (mut depth, mut nodes, mut properties_may_come) = (0, 0, false);
        loop {
            match token(&mut stream, self.strings).ok_or(STRUCTURE)? {
                Token::Begin(_) if depth == 0 && nodes > 0 => return Err(STRUCTURE),
                Token::Begin(_) if depth == DEPTH => return Err("the device tree is malformed: nested too deeply"),
                Token::Begin(_) => (depth, nodes, properties_may_come) = (depth + 1, nodes + 1, true),
                Token::Property(..) if !properties_may_come => return Err(STRUCTURE),
                Token::Property(..) => {}
                Token::EndNode if depth == 0 => return Err(STRUCTURE),
                Token::EndNode => (depth, properties_may_come) = (depth - 1, false),
                Token::End if depth == 0 && nodes > 0 => return Ok(()),
                Token::End => return Err(STRUCTURE),
            }
        }
    }

    /// The root node.
    pub fn root(&self) -> Node<'a> {
        let mut body = self.structure;
        let _begin = token(&mut body, self.strings);
        Node { name: &[], body, strings: self.strings }
    }

    fn raw_reservations(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        self.reservations.chunks_exact(16).map(|entry| (number(&entry[..8]), number(&entry[8..])))
    }

    /// Ranges of the memory reservation block.
    pub fn reservations(&self) -> impl Iterator<Item = Range> + use<'a> {
        let entries = self.raw_reservations().take_while(|(base, size)| *base != 0 || *size != 0);
        entries.map(|(base, size)| Range { base, size })
    }
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    name: &'a [u8],
    body: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Node<'a> {
    /// Value of a property.
    pub fn property(self, wanted: &str) -> Option<&'a [u8]> {
        let mut stream = self.body;
        while let Some(Token::Property(name, value)) = token(&mut stream, self.strings) {
            if name == wanted.as_bytes() {
                return Some(value);
            }
        }
        None
    }

    /// The nodes in this one.
    pub fn children(self) -> impl Iterator<Item = Node<'a>> {
        let (mut stream, mut depth) = (self.body, 0);
        core::iter::from_fn(move || {
            loop {
                match token(&mut stream, self.strings)? {
                    Token::Begin(name) => {
                        depth += 1;
                        if depth == 1 {
                            return Some(Node { name, body: stream, strings: self.strings });
                        }
                    }
                    Token::EndNode if depth == 0 => return None,
                    Token::EndNode => depth -= 1,
                    Token::Property(..) => {}
                    Token::End => return None,
                }
            }
        })
    }

    /// The first child of that name, whatever its unit address.
    pub fn child(self, wanted: &str) -> Option<Node<'a>> {
        let plain = |name: &'a [u8]| name.split(|byte| *byte == b'@').next();
        self.children().find(|node| plain(node.name) == Some(wanted.as_bytes()))
    }

    /// Whether a property, a list of strings, has `text` among them.
    pub fn lists(self, property: &str, text: &str) -> bool {
        let mut parts = self.property(property).unwrap_or_default().split(|byte| *byte == 0);
        parts.any(|part| part == text.as_bytes())
    }

    /// Whether the node describes something that may be used.
    pub fn is_enabled(self) -> bool {
        self.property("status").is_none() || self.lists("status", "okay") || self.lists("status", "ok")
    }

    /// Whether the node is in use and of a kind.
    pub fn is(self, kind: &str) -> bool {
        self.is_enabled() && self.lists("compatible", kind)
    }

    /// A property of one or two cells as a number.
    pub fn number(self, property: &str) -> Option<u64> {
        self.property(property).filter(|value| matches!(value.len(), 4 | 8)).map(number)
    }

    /// The cells of a property; None if it is missing or no whole number of cells.
    pub fn cells(self, property: &str) -> Option<impl Iterator<Item = u64> + 'a> {
        let value = self.property(property).filter(|value| value.len() % 4 == 0)?;
        Some(value.chunks_exact(4).map(number))
    }

    /// Cells of an address and of a size in `reg` of this node's children: each 1 or 2, a size also 0.
    pub fn cell_sizes(self) -> Option<(usize, usize)> {
        let address = self.number("#address-cells").unwrap_or(2);
        let size = self.number("#size-cells").unwrap_or(1);
        if matches!(address, 1 | 2) && size <= 2 { Some((address as usize * 4, size as usize * 4)) } else { None }
    }

    /// The ranges in `reg` of a node whose parent has these cell sizes, none if it has no `reg`. None if that is
    /// no whole number of ranges or one of them wraps.
    pub fn regions(self, (address, size): (usize, usize)) -> Option<impl Iterator<Item = Range> + 'a> {
        let value = self.property("reg").unwrap_or_default();
        let range = move |entry: &[u8]| {
            let (base, size) = entry.split_at_checked(address)?;
            Some(Range { base: number(base), size: number(size) })
        };
        let mut entries = value.chunks_exact(address + size).map(range);
        let sound = entries.all(|range| range.is_some_and(|range| range.base.checked_add(range.size).is_some()));
        let whole = value.len() % (address + size) == 0;
        (sound && whole).then(|| value.chunks_exact(address + size).filter_map(range))
    }

    /// What a PCI host bridge forwards (`ranges`): the first cell of the PCI address, which names the space, and the
    /// range of addresses outside, in a parent whose addresses have `address` bytes. None if that is no whole number
    /// of ranges.
    pub fn forwarded(self, address: usize) -> Option<impl Iterator<Item = (u64, Range)> + 'a> {
        const PCI_ADDRESS: usize = 12;
        const SIZE: usize = 8;
        let value = self.property("ranges").unwrap_or_default();
        let entry = move |entry: &[u8]| {
            let (inside, outside) = entry.split_at(PCI_ADDRESS);
            let (base, size) = outside.split_at(address);
            (number(&inside[..4]), Range { base: number(base), size: number(size) })
        };
        let length = PCI_ADDRESS + address + SIZE;
        (value.len() % length == 0).then(|| value.chunks_exact(length).map(entry))
    }
}
