//! Who the server is, and who we are: TLS, digest and SASL, end to end.

#![cfg(feature = "tls")]
#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "helpers of tests are tests"
)]

#[path = "support/certificates.rs"]
mod certificates;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use certificates::{Authority, ClientAuth, acceptor};
use quorate_client::{Client, CreatorAllAcl, Outcome, Reason, SessionState, TlsOptions};
use quorate_server::config::SaslUser;
use quorate_server::testing::TestServer;
use support::fake::FakeServer;
use support::proxy::Proxy;
use support::{builder, soon, state_is};
use tokio::net::{TcpListener, TcpStream};

/// Ends TLS in front of a server, and asks for a client's certificate.
async fn relay(authority: &Authority, to: SocketAddr) -> SocketAddr {
    let own = authority.sign("127.0.0.1");
    let acceptor = acceptor(&own, ClientAuth::SignedBy(authority));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await.unwrap();
                if let Ok(mut client) = acceptor.accept(client).await {
                    // An end on either side ends both.
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_session_runs_through_tls_with_certificates_on_both_sides() {
    let server = TestServer::start().await;
    let authority = Authority::new();
    // Between TLS and the server there is a network, too.
    let proxy = Proxy::start(server.addr()).await;
    let relay = relay(&authority, proxy.addr()).await.to_string();
    let me = authority.sign("client");
    let options = || TlsOptions::new().ca_pem(authority.pem.clone());
    let client = builder(&relay)
        .tls(options().client_pem(me.chain.clone(), me.key.clone()))
        .connect();
    let client = soon(client).await.unwrap();
    let id = client.session_id();
    let large = vec![7; 900 * 1024];
    client.create("/large", large.clone()).await.unwrap();
    assert_eq!(&client.get("/large").await.unwrap().data[..], &large[..]);
    let calls: Vec<_> = (0..200).map(|_| client.set("/large", "x").send()).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    proxy.cut();
    assert_eq!(soon(client.get("/large")).await.unwrap().text(), Ok("x"));
    assert_eq!(client.session_id(), id);
    soon(client.close()).await.unwrap();

    let refused = |tls: TlsOptions| {
        let connect = builder(&relay)
            .connect_timeout(Duration::from_millis(800))
            .tls(tls)
            .connect();
        async { soon(connect).await.unwrap_err() }
    };
    let stranger = Authority::new();
    let wrong_server = TlsOptions::new()
        .ca_pem(stranger.pem.clone())
        .client_pem(me.chain.clone(), me.key.clone());
    let error = refused(wrong_server).await;
    assert_eq!(error.outcome(), Outcome::DidNotHappen);
    let text = error.to_string();
    assert!(
        text.contains("certificate") && text.contains(&relay),
        "{text}"
    );
    // The server refuses us; TLS 1.3 tells so only after the handshake.
    let nameless = refused(options()).await;
    assert!(matches!(nameless.reason(), Reason::Tls(_)), "{nameless}");
    let them = stranger.sign("client");
    let foreign = refused(options().client_pem(them.chain, them.key)).await;
    assert!(matches!(foreign.reason(), Reason::Tls(_)), "{foreign}");
}

/// No patience makes a stranger's certificate good.
#[tokio::test]
async fn a_trust_that_no_server_meets_is_told_at_once() {
    let server = TestServer::start().await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let relays = [
        relay(&authority, server.addr()).await.to_string(),
        relay(&authority, server.addr()).await.to_string(),
    ];
    let me = authority.sign("client");
    let them = stranger.sign("client");
    let ours = || TlsOptions::new().ca_pem(authority.pem.clone());
    let refused = [
        ours(),
        ours().client_pem(them.chain, them.key),
        TlsOptions::new()
            .ca_pem(stranger.pem.clone())
            .client_pem(me.chain, me.key),
    ];
    for options in refused {
        let connect = builder(&relays.join(","))
            .connect_timeout(Duration::from_secs(60))
            .tls(options);
        let error = soon(connect.connect()).await.unwrap_err();
        assert!(matches!(error.reason(), Reason::Tls(_)), "{error}");
        assert_eq!(error.outcome(), Outcome::DidNotHappen);
        assert!(!error.is_retryable());
        let text = error.to_string();
        assert!(relays.iter().any(|relay| text.contains(relay)), "{text}");
        // Whose signature cannot be checked is told as such.
        let causes = ["certificate", "decrypt"];
        let text = text.to_lowercase();
        assert!(causes.iter().any(|cause| text.contains(cause)), "{text}");
    }
    // One that cannot be reached may be another.
    let connect = builder(&format!("{},127.0.0.1:1", relays[0]))
        .connect_timeout(Duration::from_millis(800))
        .tls(TlsOptions::new().ca_pem(stranger.pem));
    let error = soon(connect.connect()).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::NoServer(_)), "{error}");
}

/// What TLS keeps back must not be waited for: nothing would be read and no time would pass.
#[tokio::test]
async fn a_server_that_reads_nothing_through_tls_is_left_in_time() {
    let authority = Authority::new();
    let server = FakeServer::bind().await;
    let relay = relay(&authority, server.connect_string().parse().unwrap());
    let relay = relay.await.to_string();
    let me = authority.sign("client");
    let options = TlsOptions::new()
        .ca_pem(authority.pem.clone())
        .client_pem(me.chain, me.key);
    let client = builder(&relay).tls(options).connect();
    let (client, _peer) = tokio::join!(client, server.accept_session(7, 2_000));
    let client = client.unwrap();
    let mut calls = Vec::new();
    // Small, so that each fits into what TLS keeps when the socket takes nothing any more.
    for _ in 0..6_000 {
        calls.push(client.set("/a", vec![7; 8 * 1024]).send());
        tokio::task::yield_now().await;
    }
    state_is(&client, SessionState::Suspended).await;
}

#[tokio::test]
async fn credentials_are_shown_again_on_every_connection() {
    let server = TestServer::start().await;
    let proxy = Proxy::start(server.addr()).await;
    let client = builder(&proxy.connect_string())
        .digest("ann", "secret")
        .acl_provider(CreatorAllAcl)
        .connect()
        .await
        .unwrap();
    client.create("/mine", "1").await.unwrap();
    let other = Client::connect(server.connect_string()).await.unwrap();
    let error = other.get("/mine").await.unwrap_err();
    assert!(matches!(error, quorate_client::Error::NotAllowed { .. }));
    for _ in 0..3 {
        proxy.cut();
        assert_eq!(soon(client.get("/mine")).await.unwrap().text(), Ok("1"));
    }
    assert!(!format!("{client:?}").contains("secret"));
}

async fn sasl_server() -> TestServer {
    TestServer::builder()
        .config(|config| config.sasl_users = vec![SaslUser::new("ann", "secret")])
        .start()
        .await
}

#[tokio::test]
async fn sasl_comes_before_everything_else_on_every_connection() {
    let server = sasl_server().await;
    let proxy = Proxy::start(server.addr()).await;
    let client = builder(&proxy.connect_string())
        .sasl_digest_md5("ann", "secret")
        .acl_provider(CreatorAllAcl)
        .connect()
        .await
        .unwrap();
    client.create("/mine", "1").await.unwrap();
    proxy.cut();
    assert_eq!(soon(client.get("/mine")).await.unwrap().text(), Ok("1"));
    let other = Client::connect(server.connect_string()).await.unwrap();
    assert!(other.get("/mine").await.is_err());
}

#[tokio::test]
async fn refused_credentials_end_the_client_with_a_clear_error() {
    let server = sasl_server().await;
    let client = builder(&server.connect_string())
        .sasl_digest_md5("ann", "wrong")
        .start()
        .unwrap();
    let call = client.get("/").send();
    let status = state_is(&client, SessionState::Closed).await;
    assert!(
        matches!(status.reason, Some(Reason::AuthFailed(_))),
        "{status:?}"
    );
    let error = soon(call).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::DidNotHappen);
    assert!(
        error.to_string().contains("refused the credentials"),
        "{error}"
    );
    assert!(soon(client.connected()).await.is_err());

    // A scheme that the server does not know is refused behind the handshake.
    let client = builder(&server.connect_string())
        .credential(quorate_client::Credential::new("nonsense", "x"))
        .start()
        .unwrap();
    let status = state_is(&client, SessionState::Closed).await;
    assert!(
        matches!(status.reason, Some(Reason::AuthFailed(_))),
        "{status:?}"
    );
}
