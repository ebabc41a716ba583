//! Certificates, keys and authorities from PEM files, and what to tell the operator where one cannot be used. Whoever
//! loads them gets all or an error; which certificate a client is shown is decided here as well.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leveret_management::node::CertificateFile;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use thiserror::Error;
use tracing::{info, warn};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::identity::PeerIdentity;
use crate::config::{ClientAuth, Config};

/// A certificate that expires within this time is warned of, in seconds: 14 days.
const EXPIRY_WARNING_S: i64 = 14 * 24 * 60 * 60;

/// Why there is no TLS as configured.
#[derive(Debug, Error)]
pub(crate) enum TlsError {
    /// A file or folder cannot be read.
    #[error("{option}: cannot read {}: {error}", path.display())]
    Unreadable {
        /// Who names it.
        option: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A file has no certificates.
    #[error("{option}: no certificate in PEM form in {}{hint}", path.display())]
    NoCertificate {
        /// Who names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What it seems to be instead.
        hint: &'static str,
    },
    /// A file has something that says it were a certificate.
    #[error("{option}: a certificate in {} is malformed: {reason}", path.display())]
    MalformedCertificate {
        /// Who names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file has no private key.
    #[error("{option}: no private key in PEM form in {}{hint}", path.display())]
    NoKey {
        /// Who names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What it seems to be instead.
        hint: &'static str,
    },
    /// A private key is locked by a passphrase.
    #[error(
        "{option}: the private key in {0} is encrypted; decrypt it: openssl pkey -in {0} -out KEY.pem",
        path.display()
    )]
    EncryptedKey {
        /// Who names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A private key is broken, or of a kind that is not known.
    #[error(
        "{option}: the private key in {} cannot be used ({reason}); RSA of 2048 to 8192 bits, ECDSA on P-256 or P-384, \
         and Ed25519 can",
        path.display()
    )]
    UnusableKey {
        /// Who names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate and a key that do not belong together.
    #[error("the private key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The parts do not make up a server.
    #[error("TLS cannot be set up: {0}")]
    Unusable(String),
}

/// All certificates of a server, by the host names in them.
#[derive(Debug)]
pub(super) struct Certificates {
    /// For clients that name no host, or one that is not known.
    default: Arc<CertifiedKey>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// The files they are from.
    files: Vec<CertificateFile>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = client_hello.server_name().and_then(|name| self.of_host(&name.to_ascii_lowercase()));
        Some(Arc::clone(named.unwrap_or(&self.default)))
    }
}

impl Certificates {
    /// Reads a certificate and its key, and the further ones of a folder.
    pub(super) fn load(
        provider: &CryptoProvider,
        (certificate, key): (&Path, &Path),
        further: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let option = "tls_certificate";
        let (default, _) = certified(provider, (option, certificate), ("tls_key", key))?;
        let mut files = vec![file_of(certificate, &default.cert)];
        let mut by_name = HashMap::new();
        for certificate in further.map(certificates_of).transpose()?.unwrap_or_default() {
            let option = "tls_sni_dir";
            let key = certificate.with_extension("key");
            let (further, names) = certified(provider, (option, &certificate), (option, &key))?;
            files.push(file_of(&certificate, &further.cert));
            if names.is_empty() {
                warn!(path = %certificate.display(), "a certificate without host names: no client will see it");
            }
            for name in names {
                if by_name.insert(name.clone(), Arc::clone(&further)).is_some() {
                    warn!(path = %certificate.display(), name, "a host name of two certificates: this one is used");
                }
            }
        }
        Ok(Self { default, by_name, files })
    }

    /// The files they are from, the one for all first.
    pub(super) fn files(&self) -> &[CertificateFile] {
        &self.files
    }

    /// The certificate for a host: its own, or that for all hosts of its domain.
    fn of_host(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let any_of_domain = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(name).or_else(any_of_domain)
    }
}

/// The certificates `NAME.crt` in a folder, in the order of their names.
fn certificates_of(folder: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { option: "tls_sni_dir", path: folder.to_owned(), error };
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
    paths.sort();
    Ok(paths)
}

/// A certificate with its key, each from a file that an option names; and the host names in it.
fn certified(
    provider: &CryptoProvider,
    certificate: (&'static str, &Path),
    key: (&'static str, &Path),
) -> Result<(Arc<CertifiedKey>, Vec<String>), TlsError> {
    let chain = read_certificates(certificate)?;
    let names = chain.first().map(|own| inspect(own, certificate)).transpose()?.unwrap_or_default();
    let signing = read_key(key)?;
    let signing = provider.key_provider.load_private_key(signing);
    let signing = signing.map_err(|error| unusable_key(key, error.to_string()))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok((Arc::new(certified), names))
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::KeyMismatch { key: key.1.to_owned(), certificate: certificate.1.to_owned() })
        }
        Err(error) => Err(malformed(certificate, error.to_string())),
    }
}

/// Tells of a server's certificate, warns if it is not valid now, and gives the host names in it, in small letters.
fn inspect(der: &CertificateDer<'_>, source: (&'static str, &Path)) -> Result<Vec<String>, TlsError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| malformed(source, error.to_string()))?;
    let identity = PeerIdentity::of_certificate(der);
    let subject = identity.as_ref().map_or("", |identity| identity.subject.as_str());
    let validity = identity.as_ref().map_or("", |identity| identity.validity.as_str());
    let path = source.1.display();
    let now = now_s();
    let left_s = certificate.validity().not_after.timestamp().saturating_sub(now);
    if left_s < 0 {
        warn!(%path, subject, validity, "the certificate has expired: clients will refuse it");
    } else if certificate.validity().not_before.timestamp() > now {
        warn!(%path, subject, validity, "the certificate is not valid yet: clients will refuse it");
    } else if left_s < EXPIRY_WARNING_S {
        warn!(%path, subject, validity, "the certificate expires soon");
    } else {
        info!(%path, subject, validity, "certificate");
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let names = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Ok(names.collect())
}

/// When the certificates of a file end.
pub(super) fn file_of(path: &Path, certificates: &[CertificateDer<'_>]) -> CertificateFile {
    let end_of = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        u64::try_from(certificate.validity().not_after.timestamp()).ok()
    };
    // One that ended before 1970, or cannot be read, has ended.
    let expires_s = certificates.iter().map(|der| end_of(der).unwrap_or_default()).collect();
    CertificateFile { path: path.display().to_string(), expires_s }
}

/// Seconds since 1970.
pub(super) fn now_s() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// The authorities that clients' certificates may come from, if clients are asked for any.
pub(super) fn authorities(
    config: &Config,
    path: Option<&Path>,
) -> Result<Option<(RootCertStore, CertificateFile)>, TlsError> {
    let Some(path) = path.filter(|_| config.tls_client_auth != ClientAuth::None) else { return Ok(None) };
    let source = ("tls_ca_file", path);
    let mut authorities = RootCertStore::empty();
    let certificates = read_certificates(source)?;
    let file = file_of(path, &certificates);
    for certificate in certificates {
        authorities.add(certificate).map_err(|error| malformed(source, error.to_string()))?;
    }
    Ok(Some((authorities, file)))
}

fn malformed((option, path): (&'static str, &Path), reason: String) -> TlsError {
    TlsError::MalformedCertificate { option, path: path.to_owned(), reason }
}

fn unusable_key((option, path): (&'static str, &Path), reason: String) -> TlsError {
    TlsError::UnusableKey { option, path: path.to_owned(), reason }
}

fn read((option, path): (&'static str, &Path)) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Unreadable { option, path: path.to_owned(), error })
}

fn read_certificates(source: (&'static str, &Path)) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let octets = read(source)?;
    let certificates = CertificateDer::pem_slice_iter(&octets).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| malformed(source, error.to_string()))?;
    if certificates.is_empty() {
        let hint = if contains(&octets, b"PRIVATE KEY-----") {
            ": there is a private key"
        } else if is_der(&octets) {
            ": it may be in DER form, which openssl x509 -inform DER turns into PEM"
        } else {
            ""
        };
        return Err(TlsError::NoCertificate { option: source.0, path: source.1.to_owned(), hint });
    }
    Ok(certificates)
}

fn read_key(source: (&'static str, &Path)) -> Result<PrivateKeyDer<'static>, TlsError> {
    let octets = read(source)?;
    let (option, path) = (source.0, source.1.to_owned());
    if contains(&octets, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&octets, b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::EncryptedKey { option, path });
    }
    match PrivateKeyDer::pem_slice_iter(&octets).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(unusable_key(source, error.to_string())),
        None => {
            let hint = if contains(&octets, b"BEGIN CERTIFICATE-----") {
                ": there is a certificate"
            } else if is_der(&octets) {
                ": it may be in DER form, which openssl pkey -inform DER turns into PEM"
            } else {
                ""
            };
            Err(TlsError::NoKey { option, path, hint })
        }
    }
}

fn contains(octets: &[u8], text: &[u8]) -> bool {
    octets.windows(text.len()).any(|window| window == text)
}

/// Whether octets begin like a sequence whose length follows.
fn is_der(octets: &[u8]) -> bool {
    matches!(octets, [0x30, 0x80..=0x84, ..])
}
