//! Compressed data in znodes.
//!
//! Job: data to gzip and back, as Curator does. Not here: which znodes are compressed; nothing in
//! a znode says so, and readers must know.
//!
//! Invariant: inflating stops at the caller's limit, so a small znode cannot fill the memory.

use std::fmt;
use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::{Compression as Level, GzBuilder};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a gzip stream starts: the magic number, and the only method there is.
const GZIP_START: &[u8] = &[0x1f, 0x8b, 8];
/// In the header: nobody says which system wrote it.
const UNKNOWN_SYSTEM: u8 = 0xff;

/// How data is compressed. Curator's `CompressionProvider`.
pub trait Compression: Send + Sync + fmt::Debug {
    /// What to store for `data` at `path`.
    ///
    /// # Errors
    /// [`CompressionError::Failed`] if there is no way to store it.
    fn compress(&self, path: &str, data: &[u8]) -> Result<Bytes, CompressionError>;

    /// What was given to [`compress`](Self::compress). `data` may come from anybody who may
    /// write the znode; no more than `limit_bytes` are made of it.
    ///
    /// # Errors
    /// Any [`CompressionError`].
    fn decompress(
        &self,
        path: &str,
        data: &[u8],
        limit_bytes: usize,
    ) -> Result<Bytes, CompressionError>;

    /// Whether `data` looks as if it was compressed. A guess: other data may look the same.
    fn sniff(&self, _data: &[u8]) -> bool {
        false
    }
}

/// Why data cannot be compressed or read. Trying again does not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// The data was not compressed, or in another way.
    #[error("the data is not compressed in this way ({data_bytes} bytes)")]
    NotCompressed {
        /// How long it is.
        data_bytes: usize,
    },
    /// It starts well, and is cut off or damaged.
    #[error("the compressed data is damaged")]
    Damaged {
        /// What is wrong.
        source: BoxError,
    },
    /// It would become larger than the caller takes.
    #[error("the data would inflate from {data_bytes} bytes to more than {limit_bytes}")]
    TooLarge {
        /// How long it is compressed.
        data_bytes: usize,
        /// The caller's limit.
        limit_bytes: usize,
    },
    /// The provider cannot do its work.
    #[error("compression failed")]
    Failed {
        /// Why.
        source: BoxError,
    },
}

/// gzip, what Curator's `compressed()` writes and reads.
///
/// The same data always gives the same bytes, with Curator's header: no time, no name, unknown
/// system. Streams of other writers are read, whatever their header says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Gzip;

impl Compression for Gzip {
    fn compress(&self, _path: &str, data: &[u8]) -> Result<Bytes, CompressionError> {
        let mut encoder = GzBuilder::new()
            .operating_system(UNKNOWN_SYSTEM)
            .write(Vec::new(), Level::default());
        let written = encoder.write_all(data).and_then(|()| encoder.finish());
        let failed = |source: io::Error| CompressionError::Failed {
            source: source.into(),
        };
        written.map(Bytes::from).map_err(failed)
    }

    fn decompress(
        &self,
        _path: &str,
        data: &[u8],
        limit_bytes: usize,
    ) -> Result<Bytes, CompressionError> {
        if !self.sniff(data) {
            return Err(CompressionError::NotCompressed {
                data_bytes: data.len(),
            });
        }
        let damaged = |source: io::Error| CompressionError::Damaged {
            source: source.into(),
        };
        let inflated = read_at_most(MultiGzDecoder::new(data), limit_bytes).map_err(damaged)?;
        inflated.map(Bytes::from).ok_or(CompressionError::TooLarge {
            data_bytes: data.len(),
            limit_bytes,
        })
    }

    fn sniff(&self, data: &[u8]) -> bool {
        data.starts_with(GZIP_START)
    }
}

/// Reads to the end; `None` if that is more than `limit_bytes`, of which no more than one byte
/// beyond is ever read.
fn read_at_most(source: impl io::Read, limit_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let ceiling = u64::try_from(limit_bytes).map_or(u64::MAX, |limit| limit.saturating_add(1));
    let mut read = Vec::new();
    let outcome = source.take(ceiling).read_to_end(&mut read);
    // Too much is too much, wherever the damage stands that may follow.
    if read.len() > limit_bytes {
        return Ok(None);
    }
    outcome.map(|_| Some(read))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(data: &[u8]) -> String {
        data.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What Curator wrote for `aaaa`.
    const CURATOR_AAAA: &[u8] =
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x4b\x4c\x4c\x4c\x04\0\x45\xe5\x98\xad\x04\0\0\0";

    fn inflate(data: &[u8], limit_bytes: usize) -> Result<Bytes, CompressionError> {
        Gzip.decompress("/a", data, limit_bytes)
    }

    #[test]
    fn what_curator_wrote_is_read() {
        assert_eq!(inflate(CURATOR_AAAA, 4).unwrap(), "aaaa");
        // Java before 16 wrote another system into the header.
        let mut older = CURATOR_AAAA.to_vec();
        older[9] = 0;
        assert_eq!(inflate(&older, 4).unwrap(), "aaaa");
    }

    #[test]
    fn we_write_the_bytes_that_curator_writes() {
        assert_eq!(
            hex(&Gzip.compress("/a", b"aaaa").unwrap()),
            hex(CURATOR_AAAA)
        );
        let empty = Gzip.compress("/a", b"").unwrap();
        assert_eq!(hex(&empty), "1f8b08000000000000ff03000000000000000000");
    }

    #[test]
    fn data_that_was_not_compressed_is_named_so() {
        for data in [&b""[..], b"\x1f\x8b", b"plain", b"{}"] {
            assert!(!Gzip.sniff(data));
            let refused = inflate(data, 100);
            assert!(matches!(
                refused,
                Err(CompressionError::NotCompressed { .. })
            ));
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = Gzip.compress("/a", &vec![0; 10_000_000]).unwrap();
        assert!(bomb.len() < 20_000);
        let error = inflate(&bomb, 1_000_000).unwrap_err();
        let expected = format!(
            "the data would inflate from {} bytes to more than 1000000",
            bomb.len()
        );
        assert_eq!(error.to_string(), expected);
    }

    /// Gives zeros for ever, and minds when too many are taken.
    struct Endless {
        left: usize,
    }

    impl io::Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let left = self.left.checked_sub(buf.len());
            self.left = left.expect("no more is read than allowed");
            buf.fill(0);
            Ok(buf.len())
        }
    }

    #[test]
    fn nothing_is_inflated_beyond_the_limit() {
        for limit in [0, 1, 1_000, 1_000_000] {
            let endless = Endless { left: limit + 1 };
            assert_eq!(read_at_most(endless, limit).unwrap(), None);
        }
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let data = Gzip.compress("/a", &[7; 100]).unwrap();
        assert_eq!(inflate(&data, 100).unwrap().len(), 100);
        assert!(matches!(
            inflate(&data, 99),
            Err(CompressionError::TooLarge { .. })
        ));
        assert_eq!(inflate(&data, usize::MAX).unwrap().len(), 100);
    }

    #[test]
    fn members_that_were_joined_are_one_value() {
        let joined = [CURATOR_AAAA, CURATOR_AAAA].concat();
        assert_eq!(inflate(&joined, 8).unwrap(), "aaaaaaaa");
        assert!(matches!(
            inflate(&joined, 7),
            Err(CompressionError::TooLarge { .. })
        ));
    }

    #[test]
    fn cut_off_and_damaged_data_is_refused() {
        for cut in GZIP_START.len()..CURATOR_AAAA.len() {
            let refused = inflate(&CURATOR_AAAA[..cut], 100);
            assert!(
                matches!(refused, Err(CompressionError::Damaged { .. })),
                "{cut}"
            );
        }
        let mut wrong_sum = CURATOR_AAAA.to_vec();
        wrong_sum[17] ^= 1;
        assert!(matches!(
            inflate(&wrong_sum, 100),
            Err(CompressionError::Damaged { .. })
        ));
    }

    proptest! {
        #[test]
        fn data_comes_back_as_it_was(data in proptest::collection::vec(0_u8..4, 0..2000)) {
            let compressed = Gzip.compress("/a", &data).unwrap();
            prop_assert!(Gzip.sniff(&compressed));
            prop_assert_eq!(inflate(&compressed, data.len()).unwrap(), data);
        }

        #[test]
        fn no_data_breaks_the_reader(
            mut data in proptest::collection::vec(any::<u8>(), 0..200),
            limit in 0_usize..1000,
        ) {
            data.splice(0..0, GZIP_START.iter().copied());
            if let Ok(inflated) = inflate(&data, limit) {
                prop_assert!(inflated.len() <= limit);
            }
        }
    }
}
