//! Putting.

use bytes::Bytes;
use quorate_client::{Codec, CreateOp, Error, OpResult, Reason, Result};

use super::item::Item;
use super::{Queue, framing};
use crate::lock::{LockGuard, Mutex};

impl<T: Codec + Send + 'static> Queue<T> {
    /// Puts an item, and says which znode it is.
    ///
    /// # Errors
    /// As a create's. After an [`Error::Unknown`] the item may be in the queue: put again, it may
    /// be there twice, for its name has no place for a mark of ours. [`Error::BadArgument`] for
    /// wishes that the queue cannot grant.
    ///
    /// # Cancel safety
    /// When dropped the item may be in the queue, or be taken out again in the background.
    pub async fn put(&self, item: impl Into<Item<T>>) -> Result<String> {
        let (lead, data) = self.pack(&item.into())?;
        let _place = self.room().await?;
        self.create(&lead, data).await
    }

    /// Puts several items, each a znode of its own, all or none.
    ///
    /// # Errors
    /// As [`put`](Queue::put).
    ///
    /// # Cancel safety
    /// When dropped all of them may be in the queue, or none.
    pub async fn put_all<I: Into<Item<T>>>(
        &self,
        items: impl IntoIterator<Item = I>,
    ) -> Result<Vec<String>> {
        let items: Result<Vec<(String, Bytes)>> = items
            .into_iter()
            .map(|item| self.pack(&item.into()))
            .collect();
        let items = items?;
        let _place = self.room().await?;
        let put = || {
            let multi = self.shared.client.multi();
            items.iter().fold(multi, |multi, (lead, data)| {
                let op = CreateOp::new(self.shared.item(lead), data.clone());
                multi.create_with(op.sequential())
            })
        };
        let results = match put().await {
            Err(error) if error.is_no_node() => {
                self.shared.make(&self.shared.items()).await?;
                put().await?
            }
            results => results?,
        };
        let path = |result| match result {
            OpResult::Created(created) => Some(created.path),
            _ => None,
        };
        Ok(results.into_iter().filter_map(path).collect())
    }

    /// Puts several values as one item, in one znode: they are taken together.
    ///
    /// # Errors
    /// As [`put`](Queue::put); [`Error::BadArgument`] for none at all, and in other layouts than
    /// Curator's.
    ///
    /// # Cancel safety
    /// As [`put`](Queue::put).
    ///
    /// Source: Curator `putMulti`.
    pub async fn put_together(&self, values: impl IntoIterator<Item = T>) -> Result<String> {
        let namer = self.shared.settings.namer;
        if !namer.is_framed() {
            return Err(self.shared.bad("this layout has one value per znode"));
        }
        let parts: Result<Vec<Bytes>> = values
            .into_iter()
            .map(|value| self.encode(&value))
            .collect();
        let parts = parts?;
        if parts.is_empty() {
            return Err(self.shared.bad("an item has one value at least"));
        }
        let lead = namer.lead(&super::name::Wishes::default());
        let lead = lead.map_err(|text| self.shared.bad(text))?;
        let _place = self.room().await?;
        self.create(&lead, framing::encode(&parts, 0)).await
    }

    async fn create(&self, lead: &str, data: Bytes) -> Result<String> {
        let path = self.shared.item(lead);
        let create = self.shared.client.create(&path, data);
        Ok(create.sequential().parents().await?.path)
    }

    fn pack(&self, item: &Item<T>) -> Result<(String, Bytes)> {
        let namer = self.shared.settings.namer;
        let lead = namer.lead(&item.wishes);
        let lead = lead.map_err(|text| self.shared.bad(text))?;
        let body = self.encode(&item.body)?;
        let data = match namer.is_framed() {
            true => framing::encode(&[body], 0),
            false => body,
        };
        Ok((lead, data))
    }

    fn encode(&self, value: &T) -> Result<Bytes> {
        value.encode().map_err(|error| {
            let context = quorate_client::Context::of("put", self.path());
            Error::bad_argument(Reason::Codec(error.to_string()), context)
        })
    }

    /// Waits until there is room. Those who wait stand in line, until they have put: only the first
    /// watches the queue.
    async fn room(&self) -> Result<Option<LockGuard>> {
        let Some(limit) = self.shared.settings.max_items else {
            return Ok(None);
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if self.len().await? < limit {
            return Ok(None);
        }
        let client = &self.shared.client;
        let line = Mutex::new(client, &format!("{}-producers", self.path()));
        let place = line.acquire().await?;
        loop {
            match client.children(self.shared.items()).watch().await {
                Ok((names, _, watch)) if names.len() >= limit => drop(watch.await?),
                Ok(_) => break,
                Err(error) if error.is_no_node() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Some(place))
    }
}

impl super::Shared {
    /// Makes a directory of items, and what is above it. It stays when it is empty, so that the
    /// numbers of its items do not come again.
    pub(super) async fn make(&self, path: &str) -> Result<()> {
        match self.client.create(path, Bytes::new()).parents().await {
            Err(error) if !error.is_node_exists() => Err(error),
            _ => Ok(()),
        }
    }
}
