//! Class tx (90): transactions on a channel.
//!
//! One struct per method, its arguments named as in the specification; reserved ones are read, ignored and
//! written as zero or empty. [`Method`](super::Method) finds the struct by the ids before the arguments.

use nom::combinator::success;

use crate::error::DecodeError;
use crate::wire::decode_all;

/// `tx.select`: Turns on transactions for the channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Select;

impl Select {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, success(Self))
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, _out: &mut Vec<u8>) {}
}

/// `tx.select-ok`: Transactions are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelectOk;

impl SelectOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, success(Self))
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, _out: &mut Vec<u8>) {}
}

/// `tx.commit`: Makes what was published and settled since the last commit happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Commit;

impl Commit {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, success(Self))
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, _out: &mut Vec<u8>) {}
}

/// `tx.commit-ok`: It happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitOk;

impl CommitOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, success(Self))
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, _out: &mut Vec<u8>) {}
}

/// `tx.rollback`: Forgets what was published and settled since the last commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rollback;

impl Rollback {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, success(Self))
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, _out: &mut Vec<u8>) {}
}

/// `tx.rollback-ok`: It is forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RollbackOk;

impl RollbackOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, success(Self))
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, _out: &mut Vec<u8>) {}
}
