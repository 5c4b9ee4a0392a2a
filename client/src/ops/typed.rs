//! Values of a type at a path.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use quorate_proto::Stat;

use super::{Create, Node};
use crate::call::{Operation, Repeat, Retries};
use crate::client::Client;
use crate::codec::Codec;
use crate::compress::{Compression, CompressionError};
use crate::error::{Error, Reason, Result};
use crate::path::PathArg;

impl Client {
    /// The values of type `T` that stand at a path.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// let greeting = client.node::<String>("/greeting");
    /// greeting.create(&"hello".to_owned()).await?;
    /// greeting.update(|text| text.to_uppercase()).await?;
    /// assert_eq!(greeting.get().await?.value, "HELLO");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Source: Curator `ModeledFramework`.
    pub fn node<T: Codec>(&self, path: impl Into<PathArg>) -> TypedNode<T> {
        TypedNode {
            client: self.clone(),
            path: path.into(),
            compression: None,
            value: PhantomData,
        }
    }
}

/// A value, and the `Stat` of the znode that it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Of the same moment; `version` is what a later [`TypedNode::set_version`] compares.
    pub stat: Stat,
}

/// A path whose data is of one type; see [`Client::node`].
///
/// A value that cannot be encoded is [`Error::BadArgument`]: nothing was sent. Data that is no
/// such value is [`Error::Happened`]: it was read.
#[derive(Debug)]
pub struct TypedNode<T> {
    client: Client,
    path: PathArg,
    compression: Option<Arc<dyn Compression>>,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for TypedNode<T> {
    fn clone(&self) -> TypedNode<T> {
        TypedNode {
            client: self.client.clone(),
            path: self.path.clone(),
            compression: self.compression.clone(),
            value: PhantomData,
        }
    }
}

impl<T: Codec> TypedNode<T> {
    /// Stores values compressed, and reads them so.
    #[must_use]
    pub fn compressed(mut self, compression: impl Compression + 'static) -> TypedNode<T> {
        self.compression = Some(Arc::new(compression));
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// Reads the value.
    ///
    /// # Errors
    /// As [`Client::get`], and [`Error::Happened`] for data that is no such value.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn get(&self) -> Result<Versioned<T>> {
        let read = self.client.get(&self.path);
        let node = match &self.compression {
            Some(compression) => read.decompressed(Shared(Arc::clone(compression))).await?,
            None => read.await?,
        };
        self.decode(node)
    }

    /// Reads the value; `None` if there is no such znode.
    ///
    /// # Errors
    /// As [`get`](TypedNode::get).
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn find(&self) -> Result<Option<Versioned<T>>> {
        match self.get().await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_no_node() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a value, whatever is there.
    ///
    /// # Errors
    /// As [`Client::set`].
    ///
    /// # Cancel safety
    /// Dropped later than its request left, it may have taken effect.
    pub async fn set(&self, value: &T) -> Result<Stat> {
        self.set_version(value, -1).await
    }

    /// Writes a value if the znode has this version.
    ///
    /// # Errors
    /// As [`Client::set`].
    ///
    /// # Cancel safety
    /// As [`set`](TypedNode::set).
    pub async fn set_version(&self, value: &T, version: i32) -> Result<Stat> {
        let data = self.encode("setData", value)?;
        let write = self.client.set(&self.path, data).version(version);
        match &self.compression {
            Some(compression) => write.compressed(Shared(Arc::clone(compression))).await,
            None => write.await,
        }
    }

    /// Changes the value: reads it, applies `change`, and writes it if nobody has written in
    /// between; otherwise again, within the client's retry policy and time limit.
    ///
    /// `change` may be called more than once.
    ///
    /// # Errors
    /// As [`get`](TypedNode::get) and [`set`](TypedNode::set);
    /// [`Error::is_bad_version`] if others were faster all the time.
    ///
    /// # Cancel safety
    /// As [`set`](TypedNode::set).
    ///
    /// Source: Curator `ModeledFramework.versioned`; kazoo `Counter` has the same loop.
    pub async fn update(&self, mut change: impl FnMut(T) -> T) -> Result<Versioned<T>> {
        let operation = self.operation("setData");
        let mut retries = Retries::default();
        loop {
            let Versioned { value, stat } = self.get().await?;
            let value = change(value);
            match self.set_version(&value, stat.version).await {
                Ok(stat) => return Ok(Versioned { value, stat }),
                Err(error) if error.is_bad_version() => retries.pause(&operation, error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Creates the znode with this value. Give it options before it is sent.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a value that cannot be encoded; the call's own as
    /// [`Client::create`].
    pub fn creating(&self, value: &T) -> Result<Create> {
        let data = self.encode("create", value)?;
        let create = self.client.create(&self.path, data);
        Ok(match &self.compression {
            Some(compression) => create.compressed(Shared(Arc::clone(compression))),
            None => create,
        })
    }

    /// Creates a persistent znode with this value; [`creating`](TypedNode::creating) is for those
    /// of another kind.
    ///
    /// # Errors
    /// As [`Client::create`].
    ///
    /// # Cancel safety
    /// Dropped later than its request left, it may have taken effect.
    pub async fn create(&self, value: &T) -> Result<Stat> {
        Ok(self.creating(value)?.await?.stat)
    }

    fn operation(&self, op: &'static str) -> Operation {
        Operation::new(&self.client, op, &self.path, Repeat::OnlyIfItDidNotHappen)
    }

    fn encode(&self, op: &'static str, value: &T) -> Result<Bytes> {
        value.encode().map_err(|error| {
            let reason = Reason::Codec(describe(&error));
            Error::bad_argument(reason, self.operation(op).context(""))
        })
    }

    fn decode(&self, node: Node) -> Result<Versioned<T>> {
        match T::decode(&node.data) {
            Ok(value) => Ok(Versioned {
                value,
                stat: node.stat,
            }),
            Err(error) => {
                let reason = Reason::Codec(describe(&error));
                Err(Error::happened(
                    reason,
                    self.operation("getData").context(""),
                ))
            }
        }
    }
}

/// The error with its cause: a [`Reason`] keeps no source.
fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A compression that many calls share.
#[derive(Debug)]
struct Shared(Arc<dyn Compression>);

impl Compression for Shared {
    fn compress(&self, path: &str, data: &[u8]) -> Result<Bytes, CompressionError> {
        self.0.compress(path, data)
    }

    fn decompress(
        &self,
        path: &str,
        data: &[u8],
        limit_bytes: usize,
    ) -> Result<Bytes, CompressionError> {
        self.0.decompress(path, data, limit_bytes)
    }

    fn sniff(&self, data: &[u8]) -> bool {
        self.0.sniff(data)
    }
}
