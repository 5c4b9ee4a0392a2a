//! Values of a type in znodes.
//!
//! Job: a value to bytes and back. Not here: reading and writing znodes, compression.
//!
//! Invariant: data is never changed to make it fit: what cannot be decoded is an error.

use bytes::Bytes;

#[cfg(feature = "json")]
pub use self::json::Json;

#[cfg(feature = "json")]
mod json;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A type whose values can stand in a znode.
///
/// ```
/// use bytes::Bytes;
/// use quorate_client::{Codec, CodecError};
///
/// struct Port(u16);
///
/// impl Codec for Port {
///     fn encode(&self) -> Result<Bytes, CodecError> {
///         Ok(self.0.to_string().into())
///     }
///
///     fn decode(data: &Bytes) -> Result<Port, CodecError> {
///         let text = String::decode(data)?;
///         text.parse().map(Port).map_err(CodecError::decode)
///     }
/// }
///
/// assert_eq!(Port(2181).encode().unwrap(), "2181");
/// let error = Port::decode(&Bytes::from_static(b"many")).err().unwrap();
/// assert_eq!(error.to_string(), "the data is no value of the type asked for");
/// ```
pub trait Codec: Sized {
    /// The bytes to store.
    ///
    /// # Errors
    /// [`CodecError::Encode`] for a value that has no bytes.
    fn encode(&self) -> Result<Bytes, CodecError>;

    /// The value that was stored. `data` may come from anybody who may write the znode.
    ///
    /// # Errors
    /// [`CodecError::Decode`] if the bytes are no such value.
    fn decode(data: &Bytes) -> Result<Self, CodecError>;
}

/// A value that cannot be stored, or data that is no such value. Trying again does not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Nothing was sent.
    #[error("the value cannot be encoded")]
    Encode {
        /// Why.
        source: BoxError,
    },
    /// The znode was read, and holds something else.
    #[error("the data is no value of the type asked for")]
    Decode {
        /// Why.
        source: BoxError,
    },
}

impl CodecError {
    /// For [`Codec::encode`].
    pub fn encode(source: impl Into<BoxError>) -> CodecError {
        CodecError::Encode {
            source: source.into(),
        }
    }

    /// For [`Codec::decode`].
    pub fn decode(source: impl Into<BoxError>) -> CodecError {
        CodecError::Decode {
            source: source.into(),
        }
    }
}

/// As they are, without a copy.
impl Codec for Bytes {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(self.clone())
    }

    fn decode(data: &Bytes) -> Result<Bytes, CodecError> {
        Ok(data.clone())
    }
}

/// As they are.
impl Codec for Vec<u8> {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(self))
    }

    fn decode(data: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(data.to_vec())
    }
}

/// As UTF-8.
impl Codec for String {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(Bytes::copy_from_slice(self.as_bytes()))
    }

    fn decode(data: &Bytes) -> Result<String, CodecError> {
        std::str::from_utf8(data)
            .map(str::to_owned)
            .map_err(CodecError::decode)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn bytes_and_text_come_back_as_they_were() {
        let bytes = Bytes::from_static(b"\0\xff");
        assert_eq!(Bytes::decode(&bytes.encode().unwrap()).unwrap(), bytes);
        let vec = bytes.to_vec();
        assert_eq!(Vec::<u8>::decode(&vec.encode().unwrap()).unwrap(), vec);
        let text = "née".to_owned();
        assert_eq!(String::decode(&text.encode().unwrap()).unwrap(), text);
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused_with_the_place() {
        let error = String::decode(&Bytes::from_static(b"ab\xff")).unwrap_err();
        assert!(matches!(error, CodecError::Decode { .. }));
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("index 2"), "{cause}");
    }
}
