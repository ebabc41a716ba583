//! What goes wrong before a verb gets to work: the command line, the settings, the connection.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use crate::stub::{Stub, assert_fails, assert_prints, run, run_with};

#[test]
fn usage_is_64() {
    let stub = Stub::new(&[]);
    assert_fails(&run(&stub, "rabbitmqctl nosuch"), 64, "unrecognized subcommand 'nosuch'");
    assert_fails(&run(&stub, "rabbitmqctl list_users --bogus"), 64, "unexpected argument '--bogus'");
    assert_fails(&run(&stub, "rabbitmqctl list_users extra"), 64, "unexpected argument 'extra'");
    assert_fails(&run(&stub, "rabbitmqctl list_users --formatter erlang"), 64, "invalid value 'erlang'");
    assert_fails(&run(&stub, "rabbitmqctl list_users -t soon"), 64, "--timeout soon");
    assert_eq!(run(&stub, "rabbitmqctl").code, 64);
    assert_eq!(run(&stub, "rabbitmqctl help list_queues").code, 0);
    assert_eq!(run(&stub, "leveretctl --version").code, 0);
}

#[test]
fn what_is_not_possible_here_is_refused_with_a_reason() {
    let stub = Stub::new(&[]);
    let ran = run(&stub, "rabbitmqctl join_cluster --ram rabbit@other");
    assert_fails(&ran, 64, "join_cluster is not possible here: a broker is one node");
    assert_fails(&run(&stub, "rabbitmqctl eval 1."), 64, "authenticate_user");
    assert_fails(&run(&stub, "rabbitmq-diagnostics erlang_cookie_hash"), 64, "not written in Erlang");
    assert_fails(&run(&stub, "rabbitmqctl -n x eval rabbit_alarm:start()."), 64, "not written in Erlang");
    assert_fails(&run(&stub, "rabbitmqctl stop_app"), 64, "systemd");
    assert_fails(&run(&stub, "rabbitmq-queues add_member q n"), 64, "no replicas");
}

#[test]
fn reasons_do_not_speak_to_the_terminal() {
    let reason = r#"{"error":"bad_request","reason":"one\u001b[2J\ntwo\r\u009b"}"#;
    let stub = Stub::new(&[("PUT /api/vhosts/v", 400, reason)]);
    let ran = run(&stub, "rabbitmqctl -q add_vhost v");
    assert_fails(&ran, 69, "one\\u{1b}[2J\ntwo\\r\\u{9b}");
}

#[test]
fn a_broker_that_is_not_there_is_69() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let ran = run_with(&["rabbitmqctl", "list_users"], &[("LEVERET_URL", &url)], None);
    assert_fails(&ran, 69, "unable to reach the broker at");
    let ran = run_with(&["rabbitmqctl", "await_startup", "-t", "0.1"], &[("LEVERET_URL", &url)], None);
    assert_fails(&ran, 75, "await_startup timed out");
}

#[test]
fn a_broker_that_does_not_answer_is_75() {
    // Connections wait in its backlog, where nobody answers them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let ran = run_with(&["rabbitmqctl", "-t", "0.2", "list_users"], &[("LEVERET_URL", &url)], None);
    assert_fails(&ran, 75, "did not answer within 0.2 seconds");
}

#[test]
fn an_answer_that_is_none_is_69() {
    let odd = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", odd.local_addr().unwrap());
    thread::spawn(move || {
        let mut stream = odd.accept().expect("the one call of this test").0;
        stream.write_all(b"AMQP\0\0\x09\x01")
    });
    let ran = run_with(&["rabbitmqctl", "list_users"], &[("LEVERET_URL", &url)], None);
    assert_fails(&ran, 69, &url);
    let page = Stub::new(&[("GET /api/users", 200, "<html>welcome</html>")]);
    assert_fails(&run(&page, "rabbitmqctl list_users"), 69, "is no broker: /api/users is not JSON");
    let object = Stub::new(&[("GET /api/users", 200, "{}")]);
    assert_fails(&run(&object, "rabbitmqctl list_users"), 69, "/api/users is no list");
}

#[test]
fn a_wrong_password_and_a_missing_permission_are_told_apart() {
    let denied = r#"{"error":"not_authorized","reason":"Not administrator user"}"#;
    let stub = Stub::new(&[("GET /api/users", 401, denied)]);
    let ran = run(&stub, "rabbitmqctl list_users");
    assert_fails(&ran, 77, "user 'guest' may not do this: Not administrator user");
    let ran = run(&stub, "rabbitmqctl list_users --password wrong");
    assert_fails(&ran, 77, "refuses the login of user 'guest': Login failed");
}

#[test]
fn addresses_have_to_make_sense() {
    for (url, expected) in [
        ("localhost:15672", "begins with http:// or https://"),
        ("http://guest:guest@localhost:15672", "--username"),
        ("http://", "begins with"),
    ] {
        assert_fails(&run_with(&["leveretctl", "list_users", "--url", url], &[], None), 64, expected);
    }
}

#[test]
fn settings_come_from_flags_before_the_environment_before_the_file() {
    let folder = std::env::temp_dir().join(format!("leveret-ctl-settings-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let stub = Stub::new(&[("GET /api/users", 200, r#"[{"name":"guest","tags":[]}]"#)]);
    let file = folder.join(".leveretctl.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    let home = ("HOME", folder.to_str().unwrap());
    let list = ["leveretctl", "-q", "list_users"];
    let listed = "user\ttags\nguest\t[]\n";

    write(&format!("url = '{}'\nuser = 'guest'\npassword = 'guest'\n", stub.url));
    assert_prints(&run_with(&list, &[home], None), listed);
    assert_fails(&run_with(&list, &[home, ("LEVERET_PASSWORD", "wrong")], None), 77, "Login failed");
    let flags = [list.as_slice(), &["--password", "guest", "-u", "guest"]].concat();
    assert_prints(
        &run_with(&flags, &[home, ("LEVERET_PASSWORD", "wrong"), ("LEVERET_USER", "x")], None),
        listed,
    );

    write("url = 'http://127.0.0.1:1'\nuser = 'app'\n");
    assert_fails(&run_with(&list, &[home], None), 64, "no password for user 'app'");
    write("ulr = 'http://127.0.0.1:1'\n");
    assert_fails(&run_with(&list, &[home], None), 78, "unknown field `ulr`");
    assert_fails(&run_with(&["leveretctl", "--config", "/no/such", "list_users"], &[], None), 78, "/no/such");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn in_the_brokers_own_environment_it_is_found_and_logged_in_to() {
    let stub = Stub::new(&[("GET /api/users", 200, r#"[{"name":"guest","tags":[]}]"#)]);
    let port = stub.url.rsplit(':').next().unwrap();
    let list = ["rabbitmqctl", "-q", "list_users"];
    let listed = "user\ttags\nguest\t[]\n";
    let anywhere = format!("0.0.0.0:{port},[::]:{port}");
    let listen = ("LEVERET_MANAGEMENT_LISTEN", anywhere.as_str());
    assert_prints(&run_with(&list, &[listen], None), listed);
    let user = [listen, ("RABBITMQ_DEFAULT_USER", "guest"), ("RABBITMQ_DEFAULT_PASS", "wrong")];
    assert_fails(&run_with(&list, &user, None), 77, "Login failed");
    // As the broker has it, its own variables go before those of RabbitMQ.
    let own = [&user[..], &[("LEVERET_DEFAULT_PASSWORD", "guest")]].concat();
    assert_prints(&run_with(&list, &own, None), listed);
    // That password is nobody else's.
    let another = [&own[..], &[("LEVERET_USER", "app")]].concat();
    assert_fails(&run_with(&list, &another, None), 64, "no password for user 'app'");
    let elsewhere = [listen, ("LEVERET_URL", "http://127.0.0.1:1")];
    assert_fails(&run_with(&list, &elsewhere, None), 69, "127.0.0.1:1");
}

#[test]
fn certificates_are_looked_at_before_they_are_used() {
    let folder = std::env::temp_dir().join(format!("leveret-ctl-ca-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("ca.pem");
    fs::write(&file, "no certificate").unwrap();
    let words =
        ["leveretctl", "--url", "https://127.0.0.1:1", "--ca-file", file.to_str().unwrap(), "list_users"];
    assert_fails(&run_with(&words, &[], None), 64, "no certificate in PEM");
    let words = ["leveretctl", "--ca-file", "/no/such", "list_users"];
    assert_fails(&run_with(&words, &[], None), 65, "/no/such");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn only_certificates_of_a_trusted_authority_for_this_host_will_do() {
    let folder = std::env::temp_dir().join(format!("leveret-ctl-tls-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let ca_file = folder.join("ca.pem");
    let listed = "user\ttags\nguest\t[]\n";
    for (host, is_good) in [("127.0.0.1", true), ("elsewhere.example", false)] {
        let (authority, config) = certified(host);
        fs::write(&ca_file, authority).unwrap();
        let stub = Stub::with_tls(&[("GET /api/users", 200, r#"[{"name":"guest","tags":[]}]"#)], config);
        let list = ["leveretctl", "-q", "list_users", "--url", &stub.url];
        let with = |more: &[&str]| run_with(&[list.as_slice(), more].concat(), &[], None);
        assert_fails(&with(&[]), 69, "no TLS connection with");
        assert_prints(&with(&["--insecure"]), listed);
        let trusting = with(&["--ca-file", ca_file.to_str().unwrap()]);
        if is_good {
            assert_prints(&trusting, listed)
        } else {
            assert_fails(&trusting, 69, "not valid for name")
        }
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// An authority, and a server with a certificate of its for a host.
fn certified(host: &str) -> (String, ServerConfig) {
    let mut parameters = CertificateParams::new(Vec::new()).expect("no names are good names");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key"));
    let authority = authority.expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new([host.to_owned()]).expect("a host is a good name");
    let certificate = parameters.signed_by(&key, &authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().expect("the provider has them");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key it has made itself");
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    (authority.pem(), config.expect("key and certificate belong together"))
}

#[test]
fn tls_that_meets_none_is_named() {
    let stub = Stub::new(&[]);
    let url = stub.url.replace("http://", "https://");
    let ran = run_with(&["leveretctl", "-t", "5", "list_users", "--url", &url], &[], None);
    assert_eq!(ran.code, 69, "{ran:?}");
    assert!(ran.errors.contains(&url), "{ran:?}");
}

#[test]
fn shells_get_a_script_for_every_verb() {
    let stub = Stub::new(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&stub, &format!("leveretctl completion {shell}"));
        assert_eq!(ran.code, 0);
        for verb in ["list_queues", "redrive", "check_local_alarms"] {
            assert!(ran.out.contains(verb), "{shell}: {verb}");
        }
    }
    assert_fails(&run(&stub, "leveretctl completion tcsh"), 64, "tcsh");
}

#[test]
fn a_hash_belongs_to_its_password() {
    let ran = run(&Stub::new(&[]), "leveretctl hash_password secret");
    assert_eq!((ran.code, ran.out.trim_end().len()), (0, 48), "{ran:?}");
    assert_ne!(ran.out, run(&Stub::new(&[]), "leveretctl hash_password secret").out);
}

#[test]
fn who_has_named_no_login_is_answered_by_a_refusal_as_well() {
    let stub =
        Stub::new(&[("GET /api/overview", 401, r#"{"error":"not_authorized","reason":"Login failed"}"#)]);
    let url = [("LEVERET_URL", stub.url.as_str())];
    assert_prints(&run_with(&["leveretctl", "-q", "ping"], &url, None), "Ping succeeded\n");
    let named = [&url[..], &[("LEVERET_USER", "guest")]].concat();
    assert_fails(&run_with(&["leveretctl", "-q", "ping"], &named, None), 77, "LEVERET_PASSWORD");
    assert_fails(&run_with(&["leveretctl", "-q", "check_running"], &url, None), 77, "Login failed");
    let nobody = [("LEVERET_URL", "http://127.0.0.1:1")];
    assert_fails(&run_with(&["leveretctl", "-q", "ping"], &nobody, None), 69, "127.0.0.1:1");
}

#[test]
fn a_broker_with_tls_alone_is_found_in_its_own_environment() {
    let (authority, config) = certified("elsewhere.example");
    let folder = std::env::temp_dir().join(format!("leveret-ctl-beside-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let ca_file = folder.join("ca.pem");
    fs::write(&ca_file, authority).unwrap();
    let stub = Stub::with_tls(&[("GET /api/overview", 200, r#"{"node":"rabbit@box"}"#)], config);
    let listen = format!("0.0.0.0:{}", stub.url.rsplit(':').next().unwrap());
    let ping = |more: &[(&str, &str)]| {
        let beside =
            [("LEVERET_MANAGEMENT_LISTEN", "none"), ("LEVERET_MANAGEMENT_TLS_LISTEN", listen.as_str())];
        run_with(&["leveretctl", "-q", "ping"], &[&beside[..], more].concat(), None)
    };
    assert_prints(&ping(&[]), "Ping succeeded\n");
    // Who names authorities, or the broker, wants its certificate looked at.
    assert_fails(&ping(&[("LEVERET_CA_FILE", ca_file.to_str().unwrap())]), 69, "not valid for name");
    assert_fails(&ping(&[("LEVERET_URL", &stub.url)]), 69, "--ca-file");
    let off = run_with(&["leveretctl", "ping"], &[("LEVERET_MANAGEMENT_LISTEN", "none")], None);
    assert_fails(&off, 69, "has no HTTP API");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn who_may_not_is_told_what_it_takes() {
    for (reason, expected) in [
        ("Not management user", "a tag"),
        ("Not administrator user", "the tag administrator"),
        ("Not monitor user", "the tag monitoring or administrator"),
        ("User not authorised to access virtual host", "set_permissions"),
    ] {
        let answer = format!(r#"{{"error":"not_authorized","reason":"{reason}"}}"#);
        let stub = Stub::new(&[("GET /api/users", 401, &answer)]);
        assert_fails(&run(&stub, "rabbitmqctl list_users"), 77, expected);
    }
}
