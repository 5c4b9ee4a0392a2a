//! Making an item ours.

use bytes::Bytes;
use quorate_client::{Error, Result};
use rand::RngCore;

use super::Shared;
use super::name::Name;
use crate::hold::Hold;

/// What came of an attempt to take an item.
pub(super) enum Claimed {
    Ours(Box<Raw>),
    /// Another has it, or had it.
    Another,
}

/// An item that is ours, as it stands in its znode.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) name: Name,
    pub(super) data: Bytes,
    pub(super) version: i32,
    /// The lock; none if the item is deleted already.
    pub(super) hold: Option<Hold>,
}

impl Shared {
    pub(super) async fn claim(&self, name: Name) -> Result<Claimed> {
        match self.settings.is_at_most_once {
            true => self.delete(name).await,
            false => self.lock_and_read(name).await,
        }
    }

    /// At most once: whoever deletes it, has it.
    async fn delete(&self, name: Name) -> Result<Claimed> {
        let path = self.item(&name.name);
        let node = match self.client.get(&path).await {
            Ok(node) => node,
            Err(error) if error.is_no_node() => return Ok(Claimed::Another),
            Err(error) => return Err(error),
        };
        match self.client.delete(&path).version(node.stat.version).await {
            Ok(()) => Ok(Claimed::Ours(Box::new(Raw {
                name,
                data: node.data,
                version: node.stat.version,
                hold: None,
            }))),
            Err(error) if is_anothers(&error) => Ok(Claimed::Another),
            Err(error) => Err(error),
        }
    }

    /// At least once: whoever makes the lock's znode, has it for as long as the session lives.
    async fn lock_and_read(&self, name: Name) -> Result<Claimed> {
        let (lock, path) = (self.lock(&name.name), self.item(&name.name));
        let taken = Hold::take(&self.client, &lock, new_holder(), Some(&path)).await?;
        let (Some(hold), Some(read)) = taken else {
            return Ok(Claimed::Another);
        };
        match read {
            Ok(node) => Ok(Claimed::Ours(Box::new(Raw {
                name,
                data: node.data,
                version: node.stat.version,
                hold: Some(hold),
            }))),
            // It was done when we came; the hold is dropped.
            Err(error) if error.is_no_node() => Ok(Claimed::Another),
            Err(error) => Err(error),
        }
    }

    /// Removes an item that nobody works on.
    pub(super) async fn remove(&self, name: &Name) -> Result<bool> {
        let path = self.item(&name.name);
        let hold = match self.settings.is_at_most_once {
            true => None,
            false => {
                let lock = self.lock(&name.name);
                match Hold::take(&self.client, &lock, new_holder(), None).await? {
                    (Some(hold), _) => Some(hold),
                    (None, _) => return Ok(false),
                }
            }
        };
        let client = hold.as_ref().map_or(&self.client, Hold::client);
        match client.delete(&path).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_no_node() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_anothers(error: &Error) -> bool {
    error.is_no_node() || error.is_bad_version()
}

/// Who holds a lock, as kazoo says it; another one for each lock, so that a lock whose answer was
/// lost is known for ours.
fn new_holder() -> Bytes {
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    format!("{:032x}", u128::from_be_bytes(id)).into()
}
