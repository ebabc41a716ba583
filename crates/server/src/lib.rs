//! Leveret: server.
