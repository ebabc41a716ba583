//! Bad input: peers that send nonsense, lie about lengths, never read, vanish or come by the thousand.
//!
//! Each attack ends in the right AMQP error or a closed socket, in one log line, without a panic and without
//! memory that stays; and a client that does nothing wrong works after it. `wire` is the client that says
//! anything, `target` the broker and what must hold of it.
//! Run one with `cargo test --test hostile <name>`; `LEVERET_TEST_SEED=n` repeats what a seed did.

mod alarm;
mod consumers;
mod frames;
mod handshake;
mod memory;
mod pending;
mod process;
mod random;
mod routing;
mod storms;
#[path = "../support/mod.rs"]
mod support;
mod target;
mod wire;
