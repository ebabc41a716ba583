//! The model tests follow.
