//! Certificates as a test needs them, in files for the broker and in memory for clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::client::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, SupportedProtocolVersion};

use crate::support::{Broker, unique_dir};

/// The versions of a client that speaks all that are spoken.
pub(crate) const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Who signs.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Signed {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut parameters = named(name, &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { certificate, issuer: Issuer::new(parameters, key) }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for these hosts.
    pub(crate) fn sign(&self, name: &str, hosts: &[&str]) -> Signed {
        self.sign_parameters(&named(name, hosts))
    }

    /// A certificate that has expired.
    pub(crate) fn sign_expired(&self, name: &str, hosts: &[&str]) -> Signed {
        let mut parameters = named(name, hosts);
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
        self.sign_parameters(&parameters)
    }

    /// A certificate that ends at the beginning of a year.
    pub(crate) fn sign_until(&self, name: &str, hosts: &[&str], year: i32) -> Signed {
        let mut parameters = named(name, hosts);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        self.sign_parameters(&parameters)
    }

    fn sign_parameters(&self, parameters: &CertificateParams) -> Signed {
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        Signed { certificate, key }
    }

    /// A client that trusts this authority and shows no certificate.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        Arc::new(self.builder(versions).with_no_client_auth())
    }

    /// A client that trusts this authority and shows a certificate.
    pub(crate) fn client_with(
        &self,
        signed: &Signed,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let chain = vec![signed.certificate.der().clone()];
        let key = PrivateKeyDer::try_from(signed.key.serialize_der()).expect("a key");
        Arc::new(self.builder(versions).with_client_auth_cert(chain, key).expect("a key that belongs to it"))
    }

    fn builder(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.certificate.der().to_vec())).expect("an authority");
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that are known")
            .with_root_certificates(roots)
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut parameters = CertificateParams::new(hosts).expect("host names");
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

/// A folder for the files of one broker, gone with this value.
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    pub(crate) fn new() -> Self {
        Self(unique_dir("tls"))
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder can be made");
        fs::write(&path, text).expect("a file can be written");
        path.to_str().expect("paths of tests are text").to_owned()
    }

    /// Writes a certificate and its key as the broker is told of them by [`Self::start`].
    pub(crate) fn put(&self, signed: &Signed) {
        self.write("server.pem", &signed.certificate.pem());
        self.write("server-key.pem", &signed.key.serialize_pem());
    }

    /// Starts a broker with the certificate that was put here.
    pub(crate) fn start(&self, more: &[&str]) -> Broker {
        let path = |name: &str| self.0.join(name).to_str().expect("paths of tests are text").to_owned();
        let (certificate, key) = (path("server.pem"), path("server-key.pem"));
        let listen = ["--amqps-listen", "127.0.0.1:0", "--tls-certificate", &certificate, "--tls-key", &key];
        Broker::start_with(&[&listen[..], more].concat())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all::<&Path>(&self.0);
    }
}
