//! Why a handshake failed, in words that help an operator: which side has to change what.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum TlsFailure {
    /// The socket was closed or failed.
    Io(io::Error),
    /// One side did not accept the other, for this reason.
    Refused(String),
}

/// What a peer that was refused has done, `first` being the first octets that it sent.
pub(crate) fn plain_reason(error: &Error, first: &[u8]) -> String {
    match error {
        Error::InvalidMessage(_) if first.starts_with(b"AMQP") => {
            "the client speaks AMQP without TLS, which has a port of its own".to_owned()
        }
        Error::InvalidMessage(_) if !first.starts_with(&[0x16]) => {
            format!("the client does not speak TLS: it began with \"{}\"", first.escape_ascii())
        }
        Error::PeerIncompatible(incompatible) => match incompatible {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired => {
                "the client speaks neither TLS 1.2 nor 1.3".to_owned()
            }
            // Whoever speaks 1.2 says that; rustls asks for it before it looks at the version.
            PeerIncompatible::SignatureAlgorithmsExtensionRequired => {
                "the client speaks neither TLS 1.2 nor 1.3, or does not say what signatures it can verify"
                    .to_owned()
            }
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon => {
                "the client offers no cipher suite or key exchange that is spoken here".to_owned()
            }
            PeerIncompatible::NoSignatureSchemesInCommon => {
                "the client cannot verify signatures by the kind of key that the certificate has".to_owned()
            }
            other => format!("the client cannot be spoken to: {other:?}"),
        },
        Error::NoCertificatesPresented => "the client has shown no certificate".to_owned(),
        Error::InvalidCertificate(fault) => format!("the client's certificate {}", fault_of(fault)),
        Error::AlertReceived(alert) => format!("the client ended the handshake: {}", said_by(*alert)),
        other => other.to_string(),
    }
}

fn fault_of(fault: &CertificateError) -> String {
    match fault {
        CertificateError::UnknownIssuer => "comes from none of the authorities in tls_ca_file".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for clients".to_owned()
        }
        CertificateError::BadEncoding => "is malformed".to_owned(),
        CertificateError::BadSignature => "has a wrong signature".to_owned(),
        other => format!("is refused: {other}"),
    }
}

fn said_by(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => {
            "it does not trust the authority of the server's certificate".to_owned()
        }
        AlertDescription::CertificateExpired => "the server's certificate has expired".to_owned(),
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it does not accept the server's certificate (its authority, host name or time)".to_owned()
        }
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use rustls::InvalidMessage;

    use super::*;

    #[test]
    fn who_does_not_speak_tls_is_told_apart() {
        let error = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(plain_reason(&error, b"AMQP\0\0\x09\x01").contains("AMQP without TLS"));
        assert_eq!(
            plain_reason(&error, b"GET / HT"),
            "the client does not speak TLS: it began with \"GET / HT\""
        );
        assert!(!plain_reason(&error, b"\x16\x03\x01").contains("does not speak TLS"));
    }
}
