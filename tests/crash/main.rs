//! Crashes of the real binary, and what must be there after them: everything that was confirmed, once, whole
//! and in order; every definition that was answered; nothing else.
//!
//! `rounds` loads a broker (`load`), kills it, starts it again and compares what its queues hold with the
//! `ledger`; `definitions` restarts brokers that were set up in every way there is; `lock` is about the data
//! directory itself, `delayed` about messages whose time has not come, `deduplication` about those published again,
//! `check` about `leveret check`, `disk_full` about a small file system,
//! `open_files` about a low limit of open files. `wire` is the client, `node` a broker on a
//! directory. `LEVERET_CRASH_ROUNDS=n` and `LEVERET_CRASH_SEED=n` say how long and from where; the seed is always
//! printed.

mod access;
mod check;
mod deduplication;
mod definitions;
mod delayed;
mod disk_full;
mod ledger;
mod load;
mod lock;
mod message;
mod node;
mod open_files;
mod random;
mod redelivery;
mod rounds;
#[path = "../support/mod.rs"]
mod support;
mod survey;
mod wire;
