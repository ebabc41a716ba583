//! What survives a restart: definitions in sled, messages in a journal and in block files. Implements the
//! [`Store`](leveret_broker::store::Store) that the routing core asks for.
//!
//! - [`store`]: what the broker talks to
//! - [`journal`]: one log of everything that happens, synced in groups
//! - [`segments`]: blocks of messages that have left the journal or the memory
//! - [`catalog`]: definitions and where the blocks are, in sled; [`entries`] and [`definitions`] say what it holds
//! - `keeper`: checkpoints, paging, compaction; `loader`: messages on their way back
//! - [`recovery`]: what a restart finds; [`reindex`]: what it finds when the catalog is lost
//! - [`check`]: everything verified, while no broker runs
//! - [`disk`]: the file system as all of these see it

pub mod catalog;
pub mod check;
pub mod definitions;
pub mod disk;
pub mod entries;
pub mod journal;
mod keeper;
mod loader;
pub mod lock;
pub mod marks;
mod octets;
mod ranges;
mod records;
pub mod recovery;
pub mod reindex;
mod reserve;
pub mod segments;
pub mod store;
mod survey;

pub use recovery::Recovered;
pub use store::{DurableStore, OpenError, StoreOptions};
