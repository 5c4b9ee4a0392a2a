//! Values as JSON.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, CodecError};

/// A value that is stored as JSON, without blanks. Needs the feature `json`.
///
/// ```
/// use quorate_client::{Codec, Json};
///
/// let ports = Json(vec![2181, 2182]);
/// let data = ports.encode().unwrap();
/// assert_eq!(data, "[2181,2182]");
/// assert_eq!(Json::<Vec<u16>>::decode(&data).unwrap().len(), 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Json<T>(pub T);

impl<T> Json<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Json<T> {
    fn from(value: T) -> Json<T> {
        Json(value)
    }
}

impl<T: Serialize + DeserializeOwned> Codec for Json<T> {
    fn encode(&self) -> Result<Bytes, CodecError> {
        serde_json::to_vec(&self.0)
            .map(Bytes::from)
            .map_err(CodecError::encode)
    }

    fn decode(data: &Bytes) -> Result<Json<T>, CodecError> {
        serde_json::from_slice(data)
            .map(Json)
            .map_err(CodecError::decode)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::error::Error as _;

    use serde::Deserialize;

    use super::*;

    #[derive(PartialEq, Debug, Serialize, Deserialize)]
    struct Worker {
        host: String,
        weight: Option<u8>,
    }

    #[test]
    fn a_struct_comes_back_as_it_was() {
        let worker = Json(Worker {
            host: "h\"1".into(),
            weight: None,
        });
        let data = worker.encode().unwrap();
        assert_eq!(data, r#"{"host":"h\"1","weight":null}"#);
        assert_eq!(Json::<Worker>::decode(&data).unwrap(), worker);
    }

    #[test]
    fn other_json_is_refused_with_the_reason() {
        let error = Json::<Worker>::decode(&Bytes::from_static(b"{}")).unwrap_err();
        assert!(matches!(error, CodecError::Decode { .. }));
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains("missing field `host`"), "{cause}");
    }

    #[test]
    fn empty_data_and_text_behind_the_value_are_refused() {
        for data in ["", "1 2", "1}"] {
            let decoded = Json::<u8>::decode(&Bytes::from_static(data.as_bytes()));
            assert!(matches!(decoded, Err(CodecError::Decode { .. })), "{data}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
        let data = Bytes::from("[".repeat(1_000_000));
        assert!(Json::<serde_json::Value>::decode(&data).is_err());
    }

    #[test]
    fn a_value_without_json_is_refused() {
        let map = Json(HashMap::from([(vec![1], 2)]));
        assert!(matches!(map.encode(), Err(CodecError::Encode { .. })));
    }
}
