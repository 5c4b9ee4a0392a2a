//! Small numbers that belong to one process at a time.

use bytes::Bytes;
use quorate_client::{Client, Result};

use super::names::{Claim, Names};

/// Gives each process the lowest free number, as for the worker part of ids that are made locally.
///
/// | | |
/// | --- | --- |
/// | guarantee | no number has two owners at a time |
/// | what can go wrong | a number goes to another when its owner's session ends: stop using it when the session is lost |
/// | znodes | `<directory>/<number>`, ephemeral; the directory is a container |
/// | cost | a listing and a create; another create for each race that was lost. No watches |
/// | Curator, kazoo | none |
///
/// ```no_run
/// use quorate_recipes::{Client, ids::Slots};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let worker = Slots::new(&client, "/workers", 1024).take("host-a").await?;
/// println!("{:?}", worker.map(|slot| slot.number()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Slots {
    names: Names,
    count: u32,
}

/// A number that is ours. Dropping it gives it back in the background.
#[derive(Debug)]
#[must_use = "a dropped slot gives the number back"]
pub struct Slot {
    number: u32,
    claim: Claim,
}

impl Slots {
    /// The numbers below `count`, in this directory. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, directory: &str, count: u32) -> Slots {
        Slots {
            names: Names::new(client, directory),
            count,
        }
    }

    /// Takes the lowest free number; `None` if all are taken.
    ///
    /// # Errors
    /// As [`Names::try_claim`].
    ///
    /// # Cancel safety
    /// May be dropped at any time: the number is given back in the background.
    pub async fn take(&self, owner: impl Into<Bytes>) -> Result<Option<Slot>> {
        let owner = owner.into();
        let taken = self.names.taken().await?;
        let is_taken = |number: &u32| taken.binary_search(&number.to_string()).is_ok();
        for number in (0..self.count).filter(|number| !is_taken(number)) {
            let name = number.to_string();
            if let Some(claim) = self.names.try_claim(&name, owner.clone()).await? {
                return Ok(Some(Slot { number, claim }));
            }
        }
        Ok(None)
    }
}

impl Slot {
    /// The number.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The claim that stands behind it.
    pub const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Gives the number back, and waits until it is free.
    ///
    /// # Errors
    /// As [`Claim::release`].
    ///
    /// # Cancel safety
    /// As [`Claim::release`].
    pub async fn release(self) -> Result<()> {
        self.claim.release().await
    }
}
