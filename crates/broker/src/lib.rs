//! Leveret: broker.
