//! Stock clients over TLS: the same stories, each client verifying the broker's certificate and its host name, and
//! showing a certificate of its own where its way of being told by URI or property lets it.

use std::path::{Path, PathBuf};

use crate::support::{
    self, Broker, PROGRAM_MAX, Running, STORY_MAX, assert_story, python_installed, python_with_pika, root_dir,
};
use crate::{go, java};

/// A broker that asks for client certificates, and its folder of certificates for development.
fn broker(client_auth: &str) -> (Broker, PathBuf) {
    let flags = ["--tls-dev-certificate", "--amqps-listen", "127.0.0.1:0", "--tls-client-auth", client_auth];
    let broker = Broker::start_with(&flags);
    let certificates = broker.data_dir().join("tls-development");
    (broker, certificates)
}

/// The URI of the TLS listener, by the name that stands in the certificate.
fn uri(broker: &mut Broker, query: &str) -> String {
    format!("amqps://guest:guest@localhost:{}/%2F?{query}", broker.tls_port())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

#[test]
fn pika_goes_through_the_story_over_tls() {
    if !python_installed() {
        return;
    }
    let (mut broker, certificates) = broker("required");
    let file = |name: &str| text(&certificates.join(name)).replace('/', "%2F");
    let options = format!(
        "ssl_options=%7B'ca_certs':'{}','certfile':'{}','keyfile':'{}'%7D",
        file("ca.pem"),
        file("client.pem"),
        file("client-key.pem")
    );
    let mut story = broker.command(python_with_pika());
    story.arg("-B").arg(root_dir().join("tests/clients/pika/story.py"));
    story.env("AMQP_URI", uri(&mut broker, &options));
    assert_story(&Running::spawn(story).succeed(STORY_MAX), &[]);
}

#[test]
fn amqp091_go_runs_the_story_over_tls() {
    let Some(program) = go::compiled() else { return };
    let (mut broker, certificates) = broker("required");
    let file = |name: &str| text(&certificates.join(name)).to_owned();
    let query = format!(
        "cacertfile={}&certfile={}&keyfile={}",
        file("ca.pem"),
        file("client.pem"),
        file("client-key.pem")
    );
    let mut story = broker.command(program);
    story.env("AMQP_URI", uri(&mut broker, &query));
    assert_story(&Running::spawn(story).succeed(STORY_MAX), &[]);
}

#[test]
fn the_java_client_runs_the_story_over_tls() {
    let Some(target) = java::compiled() else { return };
    let (mut broker, certificates) = broker("optional");
    let store = certificates.join("trusted.p12");
    let mut import = support::tool("keytool");
    import.args([
        "-importcert",
        "-noprompt",
        "-alias",
        "ca",
        "-storetype",
        "PKCS12",
        "-storepass",
        "leveret",
    ]);
    import.arg("-file").arg(certificates.join("ca.pem")).arg("-keystore").arg(&store);
    Running::spawn(import).succeed(PROGRAM_MAX);
    let mut story = broker.command("java");
    story.arg(format!("-Djavax.net.ssl.trustStore={}", store.display()));
    story.arg("-Djavax.net.ssl.trustStorePassword=leveret");
    story.arg("-cp").arg(format!("{0}/classes:{0}/lib/*", target.display())).arg("story.Story");
    story.env("AMQP_URI", uri(&mut broker, ""));
    assert_story(&Running::spawn(story).succeed(STORY_MAX), &[]);
}
