//! Leveret: codec.
