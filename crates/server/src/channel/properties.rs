//! What the broker reads in the properties of a message that is published, checks, and changes.

use leveret_broker::Access;
use leveret_broker::limits::{NAME_BYTES_MAX, TIME_MS_MAX};
use leveret_broker::queue::arguments::type_name;
use leveret_broker::reply_to::REPLY_TO;
use leveret_codec::method::MethodId;
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTableRef, FieldValueRef};

use super::Outcome;
use super::content::Content;
use crate::error::{AmqpError, ReplyCode};
use crate::limits::COPIES_MAX;

/// Properties of a message that has none: an empty flag word.
const NO_PROPERTIES: [u8; 2] = [0, 0];

/// Who publishes, as far as it matters to what a message may carry.
pub(crate) struct Publisher<'a> {
    pub(crate) access: &'a Access,
    pub(crate) user: &'a str,
    /// Octets of a body, at most.
    pub(crate) message_bytes_max: u64,
    /// The queue that direct replies are to go to, if there is one.
    pub(crate) reply_queue: Option<&'a str>,
}

impl Publisher<'_> {
    /// Whether a body may be that large.
    #[inline]
    pub(crate) fn check_size(&self, body_size: u64) -> Outcome {
        let limit = self.message_bytes_max;
        if body_size > limit {
            let text = format!("message size {body_size} is larger than configured max size {limit}");
            return Err(refused(text));
        }
        Ok(())
    }

    /// Puts properties into `content`: as they came, except where the broker has to change them, and what they say.
    // PERF: inlined as far as messages without properties go.
    #[inline]
    pub(crate) fn take(&self, octets: &[u8], content: &mut Content) -> Outcome {
        content.properties.clear();
        content.expiration_ms = None;
        content.persistent = false;
        if octets == NO_PROPERTIES {
            content.properties.extend_from_slice(&NO_PROPERTIES);
            return Ok(());
        }
        self.take_given(octets, content)
    }

    fn take_given(&self, octets: &[u8], content: &mut Content) -> Outcome {
        let properties = Properties::decode(octets)
            .map_err(|error| AmqpError::undecodable(&error, MethodId::BASIC_PUBLISH))?;
        self.check_user_id(&properties)?;
        content.persistent = properties.delivery_mode == Some(2);
        content.expiration_ms = properties.expiration.map(expiration_ms).transpose()?;
        if let Some(headers) = properties.headers {
            for header in ["CC", "BCC"] {
                copies(&headers, header, &mut content.copies)?;
            }
        }
        let asks_for_reply = properties.reply_to == Some(REPLY_TO.as_bytes());
        let strips_bcc = properties.headers.is_some_and(|headers| headers.get("BCC").is_some());
        if !asks_for_reply && !strips_bcc {
            content.properties.extend_from_slice(octets);
            return Ok(());
        }
        let mut changed = properties;
        let stripped;
        if let (true, Some(headers)) = (strips_bcc, properties.headers) {
            let mut table = headers.to_owned();
            table.remove("BCC");
            stripped = table.encoded();
            changed.headers = FieldTableRef::parse(&stripped).ok();
        }
        if asks_for_reply {
            let queue = self.reply_queue.ok_or_else(|| refused("fast reply consumer does not exist"))?;
            changed.reply_to = Some(queue.as_bytes());
        }
        changed.encode(&mut content.properties);
        Ok(())
    }

    fn check_user_id(&self, properties: &Properties<'_>) -> Outcome {
        let user = self.user;
        match properties.user_id {
            Some(named) if named != user.as_bytes() && !self.may_impersonate() => {
                let named = String::from_utf8_lossy(named);
                Err(refused(format!("user_id property set to '{named}' but authenticated user was '{user}'")))
            }
            _ => Ok(()),
        }
    }

    /// COMPAT: with this tag a user may publish in the name of others.
    fn may_impersonate(&self) -> bool {
        self.access.user(self.user).is_some_and(|user| user.has_tag("impersonator"))
    }
}

fn refused(text: impl Into<String>) -> AmqpError {
    AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::BASIC_PUBLISH)
}

/// COMPAT: CC and BCC are arrays; each long string in them is a routing key, the rest is passed over. What is longer
/// than a routing key can be is no key that anything is bound with, and matching it would take time all the same.
fn copies(headers: &FieldTableRef<'_>, header: &str, keys: &mut Vec<String>) -> Outcome {
    match headers.get(header) {
        None => Ok(()),
        Some(FieldValueRef::Array(array)) => {
            for value in array.iter() {
                let FieldValueRef::LongString(key) = value else { continue };
                if key.len() > NAME_BYTES_MAX {
                    let length = key.len();
                    let text =
                        format!("a routing key in the header '{header}' has {length} octets, more than 255");
                    return Err(refused(text));
                }
                if keys.len() >= COPIES_MAX {
                    let text = format!("the headers CC and BCC have more than {COPIES_MAX} routing keys");
                    return Err(refused(text));
                }
                keys.push(String::from_utf8_lossy(key).into_owned());
            }
            Ok(())
        }
        Some(value) => {
            let value_type = type_name(&value.to_owned());
            let text = format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{value_type}}}");
            Err(refused(text))
        }
    }
}

/// COMPAT: a string of milliseconds, at most ten years.
fn expiration_ms(expiration: &[u8]) -> Result<u64, AmqpError> {
    let text = String::from_utf8_lossy(expiration);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let number = digits.len() - digits.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let term = if number == 0 {
        "no_integer".to_owned()
    } else if number < digits.len() {
        format!("{{leftover_string,\"{}\"}}", &digits[number..])
    } else if text.starts_with('-') && digits.bytes().any(|digit| digit != b'0') {
        format!("{{value_negative,{text}}}")
    } else {
        match digits.parse::<u64>() {
            Ok(value) if value <= TIME_MS_MAX => return Ok(value),
            _ => format!("{{value_too_large,{digits}}}"),
        }
    };
    Err(refused(format!("invalid expiration '{text}': {term}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiration_is_a_number_of_milliseconds() {
        let term = |text: &str| expiration_ms(text.as_bytes()).err().map(|error| error.explanation);
        assert_eq!(term("0"), None);
        assert_eq!(term("60000"), None);
        assert_eq!(term("x").unwrap(), "invalid expiration 'x': no_integer");
        assert_eq!(term("").unwrap(), "invalid expiration '': no_integer");
        assert_eq!(term("10s").unwrap(), "invalid expiration '10s': {leftover_string,\"s\"}");
        assert_eq!(term("-1").unwrap(), "invalid expiration '-1': {value_negative,-1}");
        assert!(term("999999999999999999999").unwrap().contains("value_too_large"));
    }
}
