//! The primitives that every record is made of: big-endian integers, and strings, buffers and
//! vectors behind a signed length in which -1 stands for null.
//!
//! The reader borrows from its input, and its allocations are bounded by it: a declared count is
//! held against the bytes that are there before anything is reserved. The writer appends to a
//! `BytesMut`. What a record consists of is said elsewhere; nothing here knows about any.
//!
//! Records have no tags, lengths or padding, so a reader that stops early leaves bytes behind.
//! Both sides ignore them: it is the protocol's only way to grow.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

/// Why bytes are not the record that they should be.
///
/// The peer's fault, always. Nothing has happened, and the next frame can still be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A length below -1, which is neither a length nor null.
    #[error("{field}: {declared} is no length")]
    BadLength {
        /// Which part of the record.
        field: &'static str,
        /// What was read.
        declared: i32,
    },
    /// The bytes end before the record does.
    #[error("{field}: {needed} more bytes needed, {left} left")]
    Truncated {
        /// Which part of the record.
        field: &'static str,
        /// What the rest of the field takes; for a vector, what its elements take at least.
        needed: usize,
        /// What there was.
        left: usize,
    },
    /// Null, where the record has to have a value.
    #[error("{field}: null")]
    Null {
        /// Which part of the record.
        field: &'static str,
    },
    /// A number that is none of those that have a meaning here.
    #[error("{field}: {value} has no meaning")]
    BadValue {
        /// Which part of the record.
        field: &'static str,
        /// What was read.
        value: i64,
    },
}

/// Reads primitives off the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// `Truncated` if there are fewer.
    pub fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated {
                field,
                needed: len,
                left: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated {
                field,
                needed: N,
                left: self.rest.len(),
            })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte; whatever is not 0 is true.
    ///
    /// # Errors
    /// `Truncated` at the end of the input.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte != 0)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// `Truncated` if there are fewer.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// `Truncated` if there are fewer.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// A buffer, or null.
    ///
    /// # Errors
    /// `BadLength` below -1, `Truncated` if it is longer than the input.
    pub fn buffer(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.i32(field)? {
            -1 => Ok(None),
            declared => {
                let len = usize::try_from(declared)
                    .map_err(|_| DecodeError::BadLength { field, declared })?;
                self.take(field, len).map(Some)
            }
        }
    }

    /// A string, or null. Malformed UTF-8 turns into U+FFFD, as in ZooKeeper: a path with one is
    /// then refused as a path.
    ///
    /// # Errors
    /// As for [`Reader::buffer`].
    pub fn string(&mut self, field: &'static str) -> Result<Option<Cow<'a, str>>, DecodeError> {
        Ok(self
            .buffer(field)?
            .map(|bytes| match std::str::from_utf8(bytes) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => String::from_utf8_lossy(bytes),
            }))
    }

    /// A string that has to be there.
    ///
    /// # Errors
    /// `Null` if it is null, else as for [`Reader::buffer`].
    pub fn required_string(&mut self, field: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        self.string(field)?.ok_or(DecodeError::Null { field })
    }

    /// A string, with null read as the empty one.
    ///
    /// # Errors
    /// As for [`Reader::buffer`].
    pub fn string_or_empty(&mut self, field: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        self.string(field).map(Option::unwrap_or_default)
    }

    /// A vector, or null. A count below -1 means no elements, as in ZooKeeper.
    ///
    /// `element_bytes_min` is what the smallest element takes on the wire: memory is reserved
    /// only for elements that can be in the input.
    ///
    /// # Errors
    /// `Truncated` if the input is too short for so many elements, and what `element` fails with.
    pub fn vector<T>(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let declared = self.i32(field)?;
        if declared == -1 {
            return Ok(None);
        }
        let count = usize::try_from(declared).unwrap_or(0);
        let needed = count.saturating_mul(element_bytes_min.max(1));
        if needed > self.rest.len() {
            return Err(DecodeError::Truncated {
                field,
                needed,
                left: self.rest.len(),
            });
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// A vector of strings that all have to be there, and so has the vector.
    ///
    /// # Errors
    /// `Null` for a null vector or element, else as for [`Reader::vector`].
    pub fn required_strings(
        &mut self,
        field: &'static str,
    ) -> Result<Vec<Cow<'a, str>>, DecodeError> {
        self.vector(field, 4, |reader| reader.required_string(field))?
            .ok_or(DecodeError::Null { field })
    }
}

/// Appends primitives to a `BytesMut`.
///
/// Nothing here fails. What no length prefix can hold (2 GiB and more) is left out and
/// remembered: a frame with such a field in it is never sent, see [`crate::frame::write`].
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut BytesMut,
    overflowed: bool,
}

impl<'b> Writer<'b> {
    /// A writer that appends to `out`.
    pub const fn new(out: &'b mut BytesMut) -> Writer<'b> {
        Writer {
            out,
            overflowed: false,
        }
    }

    /// Whether something did not fit behind its length prefix.
    #[must_use]
    pub const fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Makes room for `additional` bytes at once.
    pub fn reserve(&mut self, additional: usize) {
        self.out.reserve(additional);
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.out.put_u8(u8::from(value));
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    /// A buffer, or null.
    pub fn buffer(&mut self, value: Option<&[u8]>) {
        let Some(bytes) = value else {
            return self.i32(-1);
        };
        let Ok(len) = i32::try_from(bytes.len()) else {
            self.overflowed = true;
            return;
        };
        self.out.reserve(4 + bytes.len());
        self.out.put_i32(len);
        self.out.put_slice(bytes);
    }

    /// A string.
    pub fn string(&mut self, value: &str) {
        self.buffer(Some(value.as_bytes()));
    }

    /// A string, or null.
    pub fn optional_string(&mut self, value: Option<&str>) {
        self.buffer(value.map(str::as_bytes));
    }

    /// A vector of whatever `items` yields, each written by `element`.
    ///
    /// The count is filled in afterwards, so the items need not be counted before.
    pub fn vector<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut element: impl FnMut(&mut Writer<'_>, T),
    ) {
        let at = self.out.len();
        self.out.put_i32(0);
        let mut count = 0_i32;
        for item in items {
            element(self, item);
            match count.checked_add(1) {
                Some(next) => count = next,
                None => self.overflowed = true,
            }
        }
        self.patch_i32(at, count);
    }

    /// A vector of strings.
    pub fn strings<T: AsRef<str>>(&mut self, items: impl IntoIterator<Item = T>) {
        self.vector(items, |writer, item| writer.string(item.as_ref()));
    }

    fn patch_i32(&mut self, at: usize, value: i32) {
        if let Some(slot) = self
            .out
            .get_mut(at..)
            .and_then(|s| s.first_chunk_mut::<4>())
        {
            *slot = value.to_be_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut Writer::new(&mut out));
        out
    }

    #[test]
    fn null_and_empty_buffers_differ() {
        let bytes = written(|w| {
            w.buffer(None);
            w.buffer(Some(b""));
        });
        assert_eq!(&bytes[..], b"\xff\xff\xff\xff\0\0\0\0");
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.buffer("data"), Ok(None));
        assert_eq!(reader.buffer("data"), Ok(Some(&b""[..])));
    }

    #[test]
    fn any_byte_but_zero_is_true() {
        let mut reader = Reader::new(&[0, 1, 7, 255]);
        let read: Vec<_> = (0..4).map(|_| reader.bool("watch").unwrap()).collect();
        assert_eq!(read, [false, true, true, true]);
    }

    #[test]
    fn a_length_below_minus_one_is_an_error() {
        let declared = -2;
        assert_eq!(
            Reader::new(&(-2_i32).to_be_bytes()).buffer("path"),
            Err(DecodeError::BadLength {
                field: "path",
                declared
            })
        );
    }

    #[test]
    fn a_count_below_minus_one_means_no_elements() {
        let bytes = i32::MIN.to_be_bytes();
        assert_eq!(
            Reader::new(&bytes).vector("acl", 12, |r| r.i32("perms")),
            Ok(Some(Vec::new()))
        );
    }

    #[test]
    fn a_count_that_cannot_be_true_reserves_nothing() {
        let mut bytes = i32::MAX.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 64]);
        let result = Reader::new(&bytes).vector("acl", 12, |_| -> Result<(), DecodeError> {
            panic!("no element is read")
        });
        assert!(matches!(
            result,
            Err(DecodeError::Truncated { left: 64, .. })
        ));
    }

    #[test]
    fn malformed_utf8_becomes_the_replacement_character() {
        let bytes = written(|w| w.buffer(Some(b"/a\xffb")));
        assert_eq!(
            Reader::new(&bytes).required_string("path").unwrap(),
            "/a\u{fffd}b"
        );
    }

    #[test]
    fn well_formed_strings_are_borrowed() {
        let bytes = written(|w| w.string("/é"));
        assert!(matches!(
            Reader::new(&bytes).string("path"),
            Ok(Some(Cow::Borrowed("/é")))
        ));
    }

    #[test]
    fn a_null_element_is_no_path() {
        let bytes = written(|w| {
            w.i32(1);
            w.i32(-1);
        });
        assert_eq!(
            Reader::new(&bytes).required_strings("dataWatches"),
            Err(DecodeError::Null {
                field: "dataWatches"
            })
        );
    }

    #[test]
    fn the_count_of_a_vector_is_that_of_its_items() {
        let bytes = written(|w| w.strings(["a", "bc"].iter().filter(|_| true)));
        assert_eq!(&bytes[..], b"\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc");
    }
}
