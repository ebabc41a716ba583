//! What the operator reads when files are wrong: which one, and what is wrong with it.

use std::fs;
use std::process::Command;

use crate::authority::{Authority, Files};
use crate::support::{PROGRAM_MAX, Running, unique_dir};

/// The message with which a broker does not start.
fn refusal(flags: &[&str]) -> String {
    let data_dir = unique_dir("tls-start");
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["--amqp-listen", "127.0.0.1:0", "--amqps-listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(&data_dir).args(flags).env("NO_COLOR", "1");
    let ended = Running::spawn(command).wait(PROGRAM_MAX);
    let _ = fs::remove_dir_all(data_dir);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn each_mistake_is_told_with_its_file() {
    let authority = Authority::new("us");
    let (own, other) = (authority.sign("broker", &["localhost"]), authority.sign("other", &["localhost"]));
    let files = Files::new();
    let certificate = files.write("server.pem", &own.certificate.pem());
    let key = files.write("server-key.pem", &own.key.serialize_pem());
    let missing = files.0.join("missing.pem").to_str().unwrap().to_owned();
    let nonsense = files.write("nonsense.pem", "nothing of the kind\n");
    let broken = files.write("broken.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let broken_key =
        files.write("broken-key.pem", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
    let other_key = files.write("other-key.pem", &other.key.serialize_pem());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = files.write("encrypted.pem", encrypted);
    let der = files.0.join("server.der");
    fs::write(&der, own.certificate.der()).unwrap();
    let der = der.to_str().unwrap();
    let cases: [(&str, &str, &str); 10] = [
        (&missing, &key, "tls_certificate: cannot read"),
        (&certificate, &missing, "tls_key: cannot read"),
        (&nonsense, &key, "tls_certificate: no certificate in PEM form in"),
        (&key, &key, "there is a private key"),
        (der, &key, "openssl x509 -inform DER"),
        (&broken, &key, "tls_certificate: a certificate in"),
        (&certificate, &certificate, "there is a certificate"),
        (&certificate, &broken_key, "tls_key: the private key in"),
        (&certificate, &encrypted, "is encrypted; decrypt it"),
        (&certificate, &other_key, "does not belong to the certificate in"),
    ];
    for (certificate, key, expected) in cases {
        let message = refusal(&["--tls-certificate", certificate, "--tls-key", key]);
        assert!(message.contains(expected), "{message}");
    }
    let own = ["--tls-certificate", &certificate, "--tls-key", &key];
    let authorities = ["--tls-client-auth", "required", "--tls-ca-file", &nonsense];
    let message = refusal(&[&own[..], &authorities].concat());
    assert!(message.contains("tls_ca_file: no certificate in PEM form in"), "{message}");
    let message = refusal(&[&own[..], &["--tls-sni-dir", &missing]].concat());
    assert!(message.contains("tls_sni_dir: cannot read"), "{message}");
}
