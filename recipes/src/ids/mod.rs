//! Names and numbers that nobody else has.
//!
//! Whatever the server counts, it counts in a znode, and a znode that is deleted and made anew
//! counts from 0 again: containers do that whenever they have been empty for a while. So an id here
//! is two numbers: which znode counted, by its `czxid`, and how far. zxids only grow, over leaders
//! and restarts, so the pair comes only once.
//!
//! | source | one id costs | numbers |
//! | --- | --- | --- |
//! | [`SequentialIds`] | a create, a read, and a delete in the background | dense, in the order of time |
//! | [`VersionIds`] | a write | dense, in the order of time |
//! | [`ZxidIds`] | a write | one number is enough; with gaps; in the order of time |
//! | [`BlockIds`] | a read and a write per block | dense in each process, with gaps |
//!
//! [`Slots`] gives a process the lowest free small number for as long as it lives, as for the worker
//! part of ids that are made locally; [`Names`] gives it a name.
//!
//! ```no_run
//! use quorate_recipes::{Client, ids::{BlockIds, IdSource, SequentialIds}};
//!
//! # async fn example(client: Client) -> quorate_recipes::Result<()> {
//! let orders = SequentialIds::new(&client, "/ids/orders").prefix("order-");
//! println!("{}", orders.next_name().await?);
//! let rows: Box<dyn IdSource> = Box::new(BlockIds::new(&client, "/ids/rows", 1_000));
//! println!("{}", rows.next_id().await?);
//! # Ok(())
//! # }
//! ```

mod names;
mod slots;
mod sources;

use std::fmt;

use async_trait::async_trait;
use quorate_client::Result;

pub use names::{Claim, Names};
pub use slots::{Slot, Slots};
pub use sources::{BlockIds, SequentialIds, VersionIds, ZxidIds};

/// An id: which znode counted, and how far.
///
/// It orders as it was given out, within one source.
///
/// ```
/// use quorate_recipes::ids::UniqueId;
///
/// let id = UniqueId { incarnation: 0x1_0000_0002, number: 7 };
/// assert_eq!(id.to_string(), "100000002-0000000007");
/// assert_eq!(id.to_u128(), (0x1_0000_0002 << 64) + 7);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(clippy::exhaustive_structs, reason = "two numbers, and never more")]
pub struct UniqueId {
    /// The `czxid` of the znode that counted; 0 where the number is enough.
    pub incarnation: i64,
    /// How far it had counted.
    pub number: i64,
}

impl UniqueId {
    /// Both numbers in one.
    #[must_use]
    pub const fn to_u128(self) -> u128 {
        #[expect(clippy::cast_sign_loss, reason = "the bits are kept as they are")]
        let (high, low) = (self.incarnation as u64, self.number as u64);
        ((high as u128) << 64) | low as u128
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            0 => write!(f, "{:x}", self.number),
            incarnation => write!(f, "{incarnation:x}-{:010}", self.number),
        }
    }
}

/// Something that gives out ids.
#[async_trait]
pub trait IdSource: Send + Sync {
    /// An id that was never given out before and never will be again.
    ///
    /// # Errors
    /// If none could be had. An answer that was lost is no error: that id is skipped.
    ///
    /// # Cancel safety
    /// May be dropped at any time; an id may be skipped then.
    async fn next_id(&self) -> Result<UniqueId>;
}
