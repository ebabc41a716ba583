//! Logins: what responses say, and who is let in.

use std::future::Future as _;

use leveret_broker::access::password::PasswordHash;
use leveret_broker::store::MemoryStore;
use leveret_broker::{Actor, Broker};

use super::*;

const BY: Actor<'_> = Actor { user: "admin", from: "test" };

fn broker() -> Broker {
    let broker = Broker::new(Arc::new(MemoryStore::default()));
    let password = Some(PasswordHash::new(b"guest").unwrap());
    broker.access().put_user(BY, User { password, ..User::new("guest") }).unwrap();
    broker
}

async fn log_in(
    broker: &Broker,
    mechanism: &str,
    response: &[u8],
    peer: &str,
) -> Result<String, LoginRefusal> {
    let claim = claim(mechanism, response, None)?;
    let (authenticator, peer) = (Authenticator::new(), SocketAddr::new(peer.parse().unwrap(), 1));
    let bound = ["guest".to_owned()];
    let user = authenticator.log_in(broker.access(), &claim, peer, &bound).await;
    user.map(|user| user.name.to_string())
}

#[tokio::test]
async fn guest_gets_in_from_this_machine_alone() {
    let broker = broker();
    for peer in ["127.0.0.1", "::ffff:127.0.0.1", "::1"] {
        assert_eq!(log_in(&broker, "PLAIN", b"\0guest\0guest", peer).await, Ok("guest".to_owned()));
    }
    let refused = log_in(&broker, "PLAIN", b"\0guest\0guest", "192.0.2.1").await;
    assert_eq!(refused, Err(LoginRefusal::NotFromHere));
}

#[tokio::test]
async fn wrong_and_malformed_logins_are_refused() {
    let (broker, here) = (broker(), "127.0.0.1");
    let wrong = Err(LoginRefusal::WrongCredentials);
    assert_eq!(log_in(&broker, "PLAIN", b"\0guest\0wrong", here).await, wrong);
    assert_eq!(log_in(&broker, "PLAIN", b"\0other\0guest", here).await, wrong);
    assert_eq!(log_in(&broker, "PLAIN", b"\0guest\0", here).await, wrong);
    let malformed = Err(LoginRefusal::MalformedResponse);
    assert_eq!(log_in(&broker, "PLAIN", b"id\0guest\0guest", here).await, malformed);
    assert_eq!(log_in(&broker, "PLAIN", b"guest", here).await, malformed);
    assert_eq!(log_in(&broker, "AMQPLAIN", b"\x05LOGIN", here).await, malformed);
    assert_eq!(log_in(&broker, "plain", b"\0guest\0guest", here).await, Err(LoginRefusal::UnknownMechanism));
    assert_eq!(log_in(&broker, "EXTERNAL", b"guest", here).await, Err(LoginRefusal::UnknownMechanism));
}

#[tokio::test]
async fn amqplain_reads_a_table() {
    let table = FieldTable::new().with("LOGIN", "guest").with("PASSWORD", "guest");
    let user = log_in(&broker(), "AMQPLAIN", &table.encoded(), "127.0.0.1").await;
    assert_eq!(user, Ok("guest".to_owned()));
}

#[tokio::test]
async fn a_certificate_opens_for_the_user_it_stands_for_if_there_is_one() {
    assert!(mechanisms(Some("guest")).contains("EXTERNAL") && !mechanisms(None).contains("EXTERNAL"));
    let (broker, authenticator) = (broker(), Authenticator::new());
    let peer = SocketAddr::new([192, 0, 2, 1].into(), 1);
    let known = claim("EXTERNAL", b"root", Some("guest")).unwrap();
    let user = authenticator.log_in(broker.access(), &known, peer, &[]).await;
    assert_eq!(user.unwrap().name.as_str(), "guest");
    let unknown = claim("EXTERNAL", b"", Some("nobody")).unwrap();
    let user = authenticator.log_in(broker.access(), &unknown, peer, &[]).await;
    assert_eq!(user, Err(LoginRefusal::WrongCredentials));
}

#[tokio::test]
async fn a_changed_password_opens_at_once_and_the_old_one_no_more() {
    let (broker, authenticator) = (broker(), Authenticator::new());
    let peer = IpAddr::from([127, 0, 0, 1]);
    let verify = |password: &str| {
        let credentials = Credentials { user: "guest".to_owned(), password: password.as_bytes().to_vec() };
        let (authenticator, access) = (&authenticator, broker.access());
        async move { authenticator.verify(access, &credentials, peer).await.is_ok() }
    };
    assert!(verify("guest").await && verify("guest").await);
    broker.access().set_password(BY, "guest", Some(PasswordHash::new(b"other").unwrap())).unwrap();
    assert!(!verify("guest").await && verify("other").await);
    broker.access().set_password(BY, "guest", None).unwrap();
    assert!(!verify("other").await && !verify("").await);
}

#[tokio::test]
async fn a_storm_of_right_passwords_is_let_in_as_a_whole() {
    let (broker, authenticator) = (Arc::new(broker()), Arc::new(Authenticator::new()));
    let peer = IpAddr::from([192, 0, 2, 1]);
    let logins: Vec<_> = (0..300)
        .map(|_| {
            let (broker, authenticator) = (Arc::clone(&broker), Arc::clone(&authenticator));
            tokio::spawn(async move {
                let credentials = Credentials { user: "guest".to_owned(), password: b"guest".to_vec() };
                authenticator.verify(broker.access(), &credentials, peer).await.is_ok()
            })
        })
        .collect();
    for login in logins {
        assert!(login.await.unwrap());
    }
}

#[tokio::test]
async fn who_hangs_up_has_failed_and_gives_its_place_back_only_when_the_work_is_done() {
    let (broker, authenticator) = (broker(), Authenticator::new());
    let peer = IpAddr::from([192, 0, 2, 1]);
    let places = authenticator.places.available_permits();
    let credentials = Credentials { user: "guest".to_owned(), password: b"wrong".to_vec() };
    for _ in 0..5 {
        // Looked at once: the work has begun, or waits for a place.
        let mut login = Box::pin(authenticator.verify(broker.access(), &credentials, peer));
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(login.as_mut().poll(context))).await;
        assert!(polled.is_pending());
        drop(login);
        assert!(authenticator.places.available_permits() < places, "it is still worked on");
    }
    let all = Arc::clone(&authenticator.places).acquire_many_owned(u32::try_from(places).unwrap()).await;
    drop(all.unwrap());
    let now = Instant::now();
    let mut delays = authenticator.delays.lock();
    assert!(delays.take_turn("guest", peer, now, now + delays::WAIT_MAX).is_some());
    delays.failed("guest", peer, now);
    let slowed = delays.take_turn("guest", peer, now, now + delays::WAIT_MAX).unwrap();
    assert!(!slowed.is_zero(), "those that hung up were counted");
}
