//! Reading MessagePack values off a slice: typed, bounded, and never by recursion.

use rmp::Marker;
use rmp::decode as mp;

use crate::{Error, ErrorKind, Result, Timestamp};

/// What is left of the input.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn uint(&mut self, what: &str) -> Result<u64> {
        mp::read_int(&mut self.0).map_err(|_| expected(what, "a non-negative integer"))
    }

    pub(super) fn uint32(&mut self, what: &str) -> Result<u32> {
        u32::try_from(self.uint(what)?).map_err(|_| expected(what, "an integer of 32 bits"))
    }

    pub(super) fn time(&mut self, what: &str) -> Result<Timestamp> {
        let millis = mp::read_int(&mut self.0).map_err(|_| expected(what, "an integer"))?;
        Ok(Timestamp::from_millis(millis))
    }

    pub(super) fn float(&mut self, what: &str) -> Result<f64> {
        mp::read_f64(&mut self.0).map_err(|_| expected(what, "a 64-bit float"))
    }

    pub(super) fn text(&mut self, what: &str) -> Result<&'a str> {
        let (text, rest) = mp::read_str_from_slice(self.0).map_err(|_| expected(what, "a text"))?;
        self.0 = rest;
        Ok(text)
    }

    pub(super) fn bytes(&mut self, what: &str) -> Result<&'a [u8]> {
        let length = mp::read_bin_len(&mut self.0).map_err(|_| expected(what, "bytes"))?;
        self.take(length, what)
    }

    /// The length of an array that follows. Bounded by what is left: each element has at least one byte.
    pub(super) fn array(&mut self, what: &str) -> Result<usize> {
        let length = mp::read_array_len(&mut self.0).map_err(|_| expected(what, "an array"))?;
        self.plausible(length, what)
    }

    /// The number of pairs of a map that follows.
    pub(super) fn map(&mut self, what: &str) -> Result<usize> {
        let length = mp::read_map_len(&mut self.0).map_err(|_| expected(what, "a map"))?;
        self.plausible(length, what)
    }

    /// Whether a text comes next.
    pub(super) fn is_text(&self) -> bool {
        let marker = self.0.first().map(|byte| Marker::from_u8(*byte));
        matches!(marker, Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32))
    }

    /// The bytes of one whole value, whatever it is.
    pub(super) fn raw(&mut self) -> Result<&'a [u8]> {
        let start = self.0;
        let mut pending = 1_u64;
        while pending > 0 {
            pending = pending - 1 + self.skip_one()?;
        }
        Ok(&start[..start.len() - self.0.len()])
    }

    /// Steps over one value and says how many values are nested directly in it.
    fn skip_one(&mut self) -> Result<u64> {
        let marker = Marker::from_u8(self.take(1, "value")?[0]);
        let (bytes, nested): (u64, u64) = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(length) => (length.into(), 0),
            Marker::Str8 | Marker::Bin8 => (self.length(1)?, 0),
            Marker::Str16 | Marker::Bin16 => (self.length(2)?, 0),
            Marker::Str32 | Marker::Bin32 => (self.length(4)?, 0),
            Marker::FixArray(length) => (0, length.into()),
            Marker::Array16 => (0, self.length(2)?),
            Marker::Array32 => (0, self.length(4)?),
            Marker::FixMap(length) => (0, u64::from(length) * 2),
            Marker::Map16 => (0, self.length(2)? * 2),
            Marker::Map32 => (0, self.length(4)? * 2),
            // Extensions have a type byte before their content.
            Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::FixExt4 => (5, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => (self.length(1)? + 1, 0),
            Marker::Ext16 => (self.length(2)? + 1, 0),
            Marker::Ext32 => (self.length(4)? + 1, 0),
            Marker::Reserved => return Err(expected("value", "MessagePack")),
        };
        let bytes = u32::try_from(bytes).map_err(|_| expected("value", "a length of 32 bits"))?;
        self.take(bytes, "value")?;
        Ok(nested)
    }

    fn length(&mut self, bytes: u32) -> Result<u64> {
        let digits = self.take(bytes, "length")?;
        Ok(digits.iter().fold(0, |value, digit| (value << 8) | u64::from(*digit)))
    }

    fn take(&mut self, length: u32, what: &str) -> Result<&'a [u8]> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match self.0.split_at_checked(length) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => Err(expected(what, "more bytes than there are")),
        }
    }

    fn plausible(&self, length: u32, what: &str) -> Result<usize> {
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.0.len())
            .ok_or_else(|| expected(what, "more elements than there are"))
    }
}

pub(super) fn expected(what: &str, expectation: &str) -> Error {
    Error::new(ErrorKind::Decode, format!("the envelope is damaged: expected {expectation} as {what}"))
}
