//! ZooKeeper's record encoding, read from a stream under a running Adler-32.

use std::io::{self, Read};

use simd_adler32::Adler32;

use super::super::fault::Fault;

/// The largest string or buffer of a file. Above every `jute.maxbuffer` that is in use, and a
/// bound on what one damaged length can make us read.
pub(super) const FIELD_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A stream, how far it was read, and the checksum of what was read.
pub(super) struct Source<R> {
    inner: R,
    adler: Adler32,
    offset: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R) -> Source<R> {
        Source {
            inner,
            adler: Adler32::new(),
            offset: 0,
        }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The checksum of all bytes read so far.
    pub(super) fn adler(&self) -> Adler32 {
        self.adler.clone()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(ended)?;
        self.adler.write(&bytes);
        self.offset += N as u64;
        Ok(bytes)
    }

    pub(super) fn int(&mut self) -> Result<i32, Fault> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        self.array().map(i64::from_be_bytes)
    }

    /// A count, which tells nothing about memory: reserve by what was read, not by this.
    pub(super) fn count(&mut self, field: &'static str) -> Result<u32, Fault> {
        let declared = self.int()?;
        u32::try_from(declared).map_err(|_| Fault::BadLength {
            field,
            declared: declared.into(),
            limit: u64::from(u32::MAX / 2),
        })
    }

    /// Reads a buffer into `into`; false if it is null.
    pub(super) fn buffer(
        &mut self,
        field: &'static str,
        into: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        into.clear();
        let declared = self.int()?;
        if declared == -1 {
            return Ok(false);
        }
        let len = u64::try_from(declared)
            .ok()
            .filter(|&len| len <= FIELD_BYTES_MAX)
            .ok_or(Fault::BadLength {
                field,
                declared: declared.into(),
                limit: FIELD_BYTES_MAX,
            })?;
        // `read_to_end` grows with what really comes, so a wrong length costs no memory.
        let read = (&mut self.inner).take(len).read_to_end(into)? as u64;
        self.adler.write(into);
        self.offset += read;
        if read == len {
            Ok(true)
        } else {
            Err(Fault::Truncated)
        }
    }

    /// What is left, which may be at most `limit` bytes. Not under the checksum.
    pub(super) fn rest(&mut self, limit: u64) -> Result<Vec<u8>, Fault> {
        let mut rest = Vec::new();
        (&mut self.inner).take(limit + 1).read_to_end(&mut rest)?;
        if rest.len() as u64 > limit {
            return Err(Fault::Malformed("bytes behind the end of the snapshot"));
        }
        Ok(rest)
    }
}

fn ended(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::Truncated,
        _ => Fault::Io(error),
    }
}
