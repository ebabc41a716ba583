//! Class connection (10): opening, tuning and closing a connection.
//!
//! One struct per method, its arguments named as in the specification; reserved ones are read, ignored and
//! written as zero or empty. [`Method`](super::Method) finds the struct by the ids before the arguments.

use nom::combinator::success;

use crate::error::DecodeError;
use crate::table::{FieldTable, table};
use crate::wire::{
    be_u8, be_u16, be_u32, bits, decode_all, long_octets, put_bits, put_long_octets, put_short_str, put_u8,
    put_u16, put_u32, short_octets, short_str,
};

/// `connection.start`: The server's first word: what it is and how one can log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start<'a> {
    /// Major protocol version.
    pub version_major: u8,
    /// Minor protocol version.
    pub version_minor: u8,
    /// What the server is and can do.
    pub server_properties: FieldTable,
    /// SASL mechanisms, separated by spaces.
    pub mechanisms: &'a [u8],
    /// Locales, separated by spaces.
    pub locales: &'a [u8],
}

impl<'a> Start<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u8, be_u8, table, long_octets, long_octets);
        let (version_major, version_minor, server_properties, mechanisms, locales) =
            decode_all(args, parser)?;
        Ok(Self { version_major, version_minor, server_properties, mechanisms, locales })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u8(out, self.version_major);
        put_u8(out, self.version_minor);
        self.server_properties.encode(out);
        put_long_octets(out, self.mechanisms);
        put_long_octets(out, self.locales);
    }
}

/// `connection.start-ok`: The client's choice of mechanism, with its first response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartOk<'a> {
    /// What the client is and can do.
    pub client_properties: FieldTable,
    /// The SASL mechanism chosen.
    pub mechanism: &'a str,
    /// What the mechanism asks for first.
    pub response: &'a [u8],
    /// The locale chosen.
    pub locale: &'a str,
}

impl<'a> StartOk<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (table, short_str, long_octets, short_str);
        let (client_properties, mechanism, response, locale) = decode_all(args, parser)?;
        Ok(Self { client_properties, mechanism, response, locale })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.client_properties.encode(out);
        put_short_str(out, self.mechanism);
        put_long_octets(out, self.response);
        put_short_str(out, self.locale);
    }
}

/// `connection.secure`: A further SASL challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secure<'a> {
    /// What the mechanism says.
    pub challenge: &'a [u8],
}

impl<'a> Secure<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let challenge = decode_all(args, long_octets)?;
        Ok(Self { challenge })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_long_octets(out, self.challenge);
    }
}

/// `connection.secure-ok`: The response to a SASL challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecureOk<'a> {
    /// What the mechanism asks for.
    pub response: &'a [u8],
}

impl<'a> SecureOk<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let response = decode_all(args, long_octets)?;
        Ok(Self { response })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_long_octets(out, self.response);
    }
}

/// `connection.tune`: The limits the server proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tune {
    /// Highest channel number; 0 is no limit.
    pub channel_max: u16,
    /// Largest frame with its overhead; 0 is no limit.
    pub frame_max: u32,
    /// Seconds; 0 is none.
    pub heartbeat: u16,
}

impl Tune {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, be_u32, be_u16);
        let (channel_max, frame_max, heartbeat) = decode_all(args, parser)?;
        Ok(Self { channel_max, frame_max, heartbeat })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.channel_max);
        put_u32(out, self.frame_max);
        put_u16(out, self.heartbeat);
    }
}

/// `connection.tune-ok`: The limits the client settles on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuneOk {
    /// Highest channel number; 0 is no limit.
    pub channel_max: u16,
    /// Largest frame with its overhead; 0 is no limit.
    pub frame_max: u32,
    /// Seconds; 0 is none.
    pub heartbeat: u16,
}

impl TuneOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, be_u32, be_u16);
        let (channel_max, frame_max, heartbeat) = decode_all(args, parser)?;
        Ok(Self { channel_max, frame_max, heartbeat })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.channel_max);
        put_u32(out, self.frame_max);
        put_u16(out, self.heartbeat);
    }
}

/// `connection.open`: Chooses the virtual host to work in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// Its name.
    pub virtual_host: &'a str,
}

impl<'a> Open<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (short_str, short_octets, bits::<1>);
        let (virtual_host, _, _) = decode_all(args, parser)?;
        Ok(Self { virtual_host })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, self.virtual_host);
        put_short_str(out, "");
        put_bits(out, [false]);
    }
}

/// `connection.open-ok`: The virtual host is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOk;

impl OpenOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, short_octets)?;
        Ok(Self)
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, "");
    }
}

/// `connection.close`: Ends the connection, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// Why, as a number.
    pub reply_code: u16,
    /// Why, in words.
    pub reply_text: &'a str,
    /// Class of the method that failed, or 0.
    pub class_id: u16,
    /// Id of the method that failed, or 0.
    pub method_id: u16,
}

impl<'a> Close<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, be_u16, be_u16);
        let (reply_code, reply_text, class_id, method_id) = decode_all(args, parser)?;
        Ok(Self { reply_code, reply_text, class_id, method_id })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.reply_code);
        put_short_str(out, self.reply_text);
        put_u16(out, self.class_id);
        put_u16(out, self.method_id);
    }
}

/// `connection.close-ok`: The connection is ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloseOk;

impl CloseOk {
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

/// `connection.blocked`: The server reads no more publishes for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked<'a> {
    /// Which resource is short.
    pub reason: &'a str,
}

impl<'a> Blocked<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let reason = decode_all(args, short_str)?;
        Ok(Self { reason })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, self.reason);
    }
}

/// `connection.unblocked`: The server reads publishes again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unblocked;

impl Unblocked {
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

/// `connection.update-secret`: A fresh secret for a login that is about to expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateSecret<'a> {
    /// The secret.
    pub new_secret: &'a [u8],
    /// Why it changes.
    pub reason: &'a str,
}

impl<'a> UpdateSecret<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (long_octets, short_str);
        let (new_secret, reason) = decode_all(args, parser)?;
        Ok(Self { new_secret, reason })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_long_octets(out, self.new_secret);
        put_short_str(out, self.reason);
    }
}

/// `connection.update-secret-ok`: The fresh secret was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpdateSecretOk;

impl UpdateSecretOk {
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
