//! Certificates for development: an authority, and signed by it one certificate for the server on this machine and one
//! for a client. The authority's key is thrown away, so that trusting it means to trust these two and no more.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;
use tracing::info;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::certificates::now_s;

/// The folder in the data directory.
const FOLDER: &str = "tls-development";

/// How long they hold. Systems refuse server certificates that hold longer than some two years.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// They are made anew when they would hold no longer than this, in seconds: a day.
const RENEWED_S: i64 = 24 * 60 * 60;

/// A clock that is behind ours must not refuse what was just made.
const BEFORE: Duration = Duration::from_secs(24 * 60 * 60);

/// The files.
pub(super) struct DevelopmentFiles {
    /// The authority: what clients have to trust.
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    client_certificate: PathBuf,
    client_key: PathBuf,
}

/// Why they could not be made.
#[derive(Debug, Error)]
pub(super) enum DevelopmentError {
    /// The folder or a file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The folder or the file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A key or a certificate could not be made.
    #[error(transparent)]
    Generate(#[from] rcgen::Error),
}

/// The files in the data directory, made if they are not there, not whole, or about to expire.
pub(super) fn prepare(data_dir: &Path) -> Result<DevelopmentFiles, DevelopmentError> {
    let folder = data_dir.join(FOLDER);
    let files = DevelopmentFiles {
        authority: folder.join("ca.pem"),
        certificate: folder.join("server.pem"),
        key: folder.join("server-key.pem"),
        client_certificate: folder.join("client.pem"),
        client_key: folder.join("client-key.pem"),
    };
    if !is_usable(&files) {
        make(&folder, &files)?;
    }
    let (authority, client) = (files.authority.display(), files.client_certificate.display());
    info!(%authority, %client, "certificates for development: let clients trust the authority");
    Ok(files)
}

fn is_usable(files: &DevelopmentFiles) -> bool {
    let keys = [&files.key, &files.client_key];
    let certificates = [&files.authority, &files.certificate, &files.client_certificate];
    keys.into_iter().all(|path| path.is_file()) && certificates.into_iter().all(|path| is_valid(path))
}

fn is_valid(path: &Path) -> bool {
    let Ok(der) = CertificateDer::from_pem_file(path) else { return false };
    X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| {
        certificate.validity().not_after.timestamp() > now_s().saturating_add(RENEWED_S)
    })
}

fn make(folder: &Path, files: &DevelopmentFiles) -> Result<(), DevelopmentError> {
    fs::create_dir_all(folder).map_err(|error| DevelopmentError::Write { path: folder.to_owned(), error })?;
    // It comes last, since all are made anew as long as it is missing.
    remove(&files.authority)?;
    let key = KeyPair::generate()?;
    let mut authority = parameters("Leveret development authority", &[])?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = authority.self_signed(&key)?;
    let issuer = Issuer::new(authority, key);

    let mut server = parameters("localhost", &["localhost", "127.0.0.1", "::1"])?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(server, &issuer, &files.certificate, &files.key)?;
    let mut client = parameters("guest", &[])?;
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(client, &issuer, &files.client_certificate, &files.client_key)?;
    write(&files.authority, &certificate.pem(), 0o644)
}

fn parameters(name: &str, hosts: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut parameters = CertificateParams::new(hosts)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    parameters.not_before = now.checked_sub(BEFORE).unwrap_or(now).into();
    parameters.not_after = now.checked_add(VALIDITY).unwrap_or(now).into();
    Ok(parameters)
}

fn sign(
    mut parameters: CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
    certificate_path: &Path,
    key_path: &Path,
) -> Result<(), DevelopmentError> {
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer)?;
    write(key_path, &key.serialize_pem(), 0o600)?;
    write(certificate_path, &certificate.pem(), 0o644)
}

/// Writes a file that has these rights from its first octet on: one that is there already would keep its own.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), DevelopmentError> {
    remove(path)?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| DevelopmentError::Write { path: path.to_owned(), error })
}

fn remove(path: &Path) -> Result<(), DevelopmentError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DevelopmentError::Write { path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}
