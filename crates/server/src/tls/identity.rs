//! Who a certificate says its holder is, in the words in which RabbitMQ says it: operators give rights to these texts.
//! The octets come from a peer, so nothing here may fail but by saying that they are malformed.

use std::fmt::Write as _;

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The subject of the certificate that a peer has shown, and that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    /// Its distinguished name, most specific part first: `CN=shop,O=Example\, Inc.`; ASCII alone.
    pub(crate) subject: String,
    /// Its common names, with commas between where there are several. None without one, or if one is not text.
    pub(crate) common_name: Option<String>,
    /// The distinguished name of who signed the certificate.
    pub(crate) issuer: String,
    /// From when until when it holds, in UTC.
    pub(crate) validity: String,
}

impl PeerIdentity {
    /// Reads a certificate in DER form.
    pub(crate) fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            subject: distinguished_name(certificate.subject()),
            common_name: common_name(certificate.subject()),
            issuer: distinguished_name(certificate.issuer()),
            validity: validity(&certificate),
        })
    }
}

/// Object identifiers and the names that are written for them. COMPAT: just these; others are written as numbers.
const ATTRIBUTES: [(&str, &str); 16] = [
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.43", "INITIALS"),
    ("2.5.4.44", "GENERATIONQUALIFIER"),
    (COMMON_NAME, "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "TITLE"),
    ("2.5.4.6", "C"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.65", "PSEUDONYM"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

const COMMON_NAME: &str = "2.5.4.3";

/// COMPAT: the reverse of the order in the certificate; parts of one level with plus signs between.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let levels: Vec<String> =
        name.iter_rdn().map(|level| level.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    levels.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let id = attribute.attr_type().to_id_string();
    let name = ATTRIBUTES.iter().find(|(known, _)| *known == id).map_or(id.as_str(), |(_, name)| name);
    format!("{name}={}", escaped(&octets_of(attribute.attr_value())))
}

/// COMPAT: several are joined.
fn common_name(name: &X509Name<'_>) -> Option<String> {
    let names: Option<Vec<String>> = name
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == COMMON_NAME)
        .map(|attribute| String::from_utf8(octets_of(attribute.attr_value())).ok())
        .collect();
    names.filter(|names| !names.is_empty()).map(|names| names.join(","))
}

/// The text of a value as UTF-8; of kinds that are no text, the octets as they are.
fn octets_of(value: &Any<'_>) -> Vec<u8> {
    let characters = match value.tag() {
        Tag::BmpString => {
            let units = value
                .data
                .chunks(2)
                .map(|unit| unit.iter().fold(0, |sum, &octet| sum << 8 | u16::from(octet)));
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        Tag::UniversalString => {
            let units = value
                .data
                .chunks(4)
                .map(|unit| unit.iter().fold(0, |sum, &octet| sum << 8 | u32::from(octet)));
            units.map(char::from_u32).collect()
        }
        _ => None,
    };
    characters.map_or_else(|| value.data.to_vec(), String::into_bytes)
}

/// COMPAT: as RFC 4514 asks for, and whatever is not printable ASCII as octets in hexadecimal digits.
fn escaped(octets: &[u8]) -> String {
    let mut written = String::with_capacity(octets.len());
    for (index, &octet) in octets.iter().enumerate() {
        let is_special = match octet {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => true,
            b'#' => index == 0,
            b' ' => index == 0 || index + 1 == octets.len(),
            _ => false,
        };
        if is_special {
            written.push('\\');
            written.push(char::from(octet));
        } else if (32..126).contains(&octet) {
            written.push(char::from(octet));
        } else {
            // INVARIANT: writing to a String does not fail.
            let _ = write!(written, "\\{octet:02X}");
        }
    }
    written
}

/// COMPAT: two times with a dash between.
fn validity(certificate: &X509Certificate<'_>) -> String {
    let time = |time: x509_parser::time::ASN1Time| {
        let time = time.to_datetime();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second()
        )
    };
    let validity = certificate.validity();
    format!("{} - {}", time(validity.not_before), time(validity.not_after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    fn identity(parts: &[(DnType, DnValue)]) -> PeerIdentity {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            parameters.distinguished_name.push(kind.clone(), value.clone());
        }
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 2);
        parameters.not_after = rcgen::date_time_ymd(2027, 3, 4);
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        PeerIdentity::of_certificate(certificate.der()).unwrap()
    }

    fn text(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn names_are_written_as_rabbitmq_writes_them() {
        let widgets = identity(&[
            (DnType::CountryName, text("DE")),
            (DnType::LocalityName, text("München")),
            (DnType::OrganizationName, text("Widgets, Inc.")),
            (DnType::OrganizationalUnitName, text("R+D")),
            (DnType::CommonName, text(" #lead and trail ")),
        ]);
        assert_eq!(widgets.subject, r"CN=\ #lead and trail\ ,OU=R\+D,O=Widgets\, Inc.,L=M\C3\BCnchen,C=DE");
        assert_eq!(widgets.issuer, widgets.subject);
        assert_eq!(widgets.common_name.as_deref(), Some(" #lead and trail "));
        assert_eq!(widgets.validity, "2026-01-02T00:00:00Z - 2027-03-04T00:00:00Z");
        let odd = identity(&[
            (DnType::CustomDnType(vec![2, 5, 4, 13]), text("d~")),
            (DnType::OrganizationName, text("a=b")),
            (DnType::CommonName, text("#x\"y<z>;\\")),
        ]);
        assert_eq!(odd.subject, r#"CN=\#x\"y\<z\>\;\\,O=a=b,2.5.4.13=d\7E"#);
    }

    #[test]
    fn texts_of_wide_characters_are_read() {
        let wide = DnValue::BmpString("日本".try_into().unwrap());
        let identity = identity(&[(DnType::CommonName, wide)]);
        assert_eq!(identity.common_name.as_deref(), Some("日本"));
        assert_eq!(identity.subject, r"CN=\E6\97\A5\E6\9C\AC");
    }

    #[test]
    fn a_subject_without_a_common_name_has_none() {
        let identity = identity(&[(DnType::OrganizationName, text("x"))]);
        assert_eq!((identity.subject.as_str(), identity.common_name), ("O=x", None));
    }

    proptest! {
        #[test]
        fn no_octets_are_too_odd(octets in prop::collection::vec(any::<u8>(), 0..40), at in 0_usize..400) {
            let _ = PeerIdentity::of_certificate(&octets);
            let key = KeyPair::generate().unwrap();
            let mut der = CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
            let end = (at + octets.len()).min(der.len());
            let begin = at.min(end);
            der.splice(begin..end, octets);
            let _ = PeerIdentity::of_certificate(&der);
        }
    }
}
