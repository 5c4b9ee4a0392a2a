//! Data that is stored compressed.

use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use crate::call::Operation;
use crate::compress::Compression;
use crate::error::{Error, Reason, Result};

/// How one call's data is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packing(Option<Arc<dyn Compression>>);

impl Packing {
    pub(crate) fn with(compression: impl Compression + 'static) -> Packing {
        Packing(Some(Arc::new(compression)))
    }

    pub(crate) fn pack(&self, operation: &Operation, data: Bytes) -> Result<Bytes> {
        let Some(compression) = &self.0 else {
            return Ok(data);
        };
        compression
            .compress(operation.path.as_str(), &data)
            .map_err(|error| {
                let reason = Reason::Codec(error.to_string());
                Error::bad_argument(reason, operation.context(""))
            })
    }

    pub(crate) fn unpack(&self, operation: &Operation, node: Node) -> Result<Node> {
        let Some(compression) = &self.0 else {
            return Ok(node);
        };
        let limit = operation.client.session().reply_bytes_max();
        let data = compression
            .decompress(operation.path.as_str(), &node.data, limit)
            .map_err(|error| {
                let reason = Reason::Codec(error.to_string());
                Error::happened(reason, operation.context(""))
            })?;
        Ok(Node { data, ..node })
    }
}
