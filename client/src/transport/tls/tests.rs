use std::error::Error as _;

use futures::FutureExt as _;
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::transport::tests::listener;
use crate::transport::{Connector, Socket};

#[allow(
    unreachable_pub,
    clippy::allow_attributes,
    reason = "shared with the tests of the whole"
)]
#[path = "../../../tests/support/certificates.rs"]
mod certificates;

use certificates::{Authority, ClientAuth, Identity, acceptor};

/// What each side says of a connection to 127.0.0.1 over which four bytes go there and back:
/// the server how many certificates the client showed.
async fn converse(
    options: &TlsOptions,
    acceptor: TlsAcceptor,
) -> (io::Result<()>, io::Result<usize>) {
    let (listener, server) = listener().await;
    let connector = Connector::with_tls(options.build().unwrap());
    let client = async {
        let (mut socket, _) = connector.connect(&server).await?;
        assert!(matches!(socket, Socket::Tls(_)));
        socket.write_all(b"ruok").await?;
        socket.flush().await?;
        let mut told = [0; 4];
        socket.read_exact(&mut told).await?;
        assert_eq!(&told, b"imok");
        Ok(())
    };
    let server = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        let mut told = [0; 4];
        stream.read_exact(&mut told).await?;
        stream.write_all(b"imok").await?;
        stream.flush().await?;
        let shown = stream.get_ref().1.peer_certificates();
        Ok(shown.map_or(0, <[_]>::len))
    };
    tokio::join!(client, server)
}

/// TLS takes more bytes than the kernel does, and would keep the rest until the next write.
#[tokio::test]
async fn what_was_written_leaves_while_the_answer_is_awaited() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.sign("127.0.0.1"), ClientAuth::Ignored);
    let options = TlsOptions::new().ca_pem(authority.pem);
    let (listener, server) = listener().await;
    let connector = Connector::with_tls(options.build().unwrap());
    let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await };
    let (socket, stream) = tokio::join!(connector.connect(&server), accept);
    let ((mut socket, _), mut stream) = (socket.unwrap(), stream.unwrap());
    let mut written = 0;
    while let Some(more) = socket.write(&[0; 10_000]).now_or_never() {
        written += more.unwrap();
    }
    let client = async {
        let mut answer = [0];
        socket.read_exact(&mut answer).await.unwrap();
    };
    let server = async {
        stream.read_exact(&mut vec![0; written]).await.unwrap();
        stream.write_all(b"!").await.unwrap();
        stream.flush().await.unwrap();
    };
    let both = async { tokio::join!(client, server) };
    let answered = tokio::time::timeout(std::time::Duration::from_secs(10), both).await;
    assert!(answered.is_ok(), "of {written} bytes some never left");
}

fn refusal(result: io::Result<()>) -> String {
    result.expect_err("refused").to_string()
}

#[tokio::test]
async fn a_server_with_a_certificate_of_the_authority_is_accepted() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.sign("127.0.0.1"), ClientAuth::Ignored);
    let options = TlsOptions::new().ca_pem(authority.pem);
    let (client, server) = converse(&options, acceptor).await;
    client.unwrap();
    assert_eq!(server.unwrap(), 0);
}

/// Both call themselves by the same name: only the signature tells them apart.
#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let acceptor = acceptor(&Authority::new().sign("127.0.0.1"), ClientAuth::Ignored);
    let options = TlsOptions::new().ca_pem(Authority::new().pem);
    let (client, server) = converse(&options, acceptor).await;
    let refusal = refusal(client);
    assert!(
        refusal.contains("invalid peer certificate: BadSignature"),
        "{refusal}"
    );
    assert!(server.is_err());
}

#[tokio::test]
async fn any_of_several_authorities_will_do() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.sign("127.0.0.1"), ClientAuth::Ignored);
    let both = Authority::new().pem + &authority.pem;
    let options = TlsOptions::new().ca_pem(both).ca_pem(Authority::new().pem);
    converse(&options, acceptor).await.0.unwrap();
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.sign("zk1.example"), ClientAuth::Ignored);
    let options = TlsOptions::new().ca_pem(authority.pem);
    let refusal = refusal(converse(&options, acceptor).await.0);
    assert!(refusal.contains("not valid for name"), "{refusal}");
}

#[tokio::test]
async fn the_expected_name_can_be_set() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority.sign("zk1.example"), ClientAuth::Ignored);
    let options = TlsOptions::new().ca_pem(authority.pem);
    let right = options.clone().server_name("zk1.example");
    converse(&right, acceptor.clone()).await.0.unwrap();
    let wrong = options.server_name("zk2.example");
    let refusal = refusal(converse(&wrong, acceptor).await.0);
    assert!(refusal.contains("not valid for name"), "{refusal}");
}

#[tokio::test]
async fn without_the_name_check_only_the_name_goes_unchecked() {
    let authority = Authority::new();
    let named = acceptor(&authority.sign("zk1.example"), ClientAuth::Ignored);
    let options = TlsOptions::new()
        .ca_pem(authority.pem)
        .without_hostname_check();
    converse(&options, named).await.0.unwrap();
    let foreign = acceptor(&Authority::new().sign("127.0.0.1"), ClientAuth::Ignored);
    let foreign = refusal(converse(&options, foreign).await.0);
    assert!(
        foreign.contains("invalid peer certificate: BadSignature"),
        "{foreign}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_even_without_the_name_check() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["zk1.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    let expired = Identity {
        chain: params.signed_by(&key, &authority.issuer).unwrap().pem(),
        key: key.serialize_pem(),
    };
    let options = TlsOptions::new()
        .ca_pem(authority.pem)
        .without_hostname_check();
    let acceptor = acceptor(&expired, ClientAuth::Ignored);
    let refusal = refusal(converse(&options, acceptor).await.0);
    assert!(refusal.contains("expired"), "{refusal}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let server = servers.sign("127.0.0.1");
    let asking = acceptor(&server, ClientAuth::SignedBy(&clients));
    let anonymous = TlsOptions::new().ca_pem(servers.pem.as_str());
    let Identity { chain, key } = clients.sign("app");
    let known = anonymous.clone().client_pem(chain, key);

    let (client, shown) = converse(&known, asking.clone()).await;
    client.unwrap();
    assert_eq!(shown.unwrap(), 1);
    let (client, shown) = converse(&anonymous, asking).await;
    assert!(client.is_err() && shown.is_err());
}

#[test]
fn options_from_files_are_those_from_text() {
    let directory = std::env::temp_dir().join(format!("quorate-tls-{:x}", rand::random::<u64>()));
    std::fs::create_dir(&directory).unwrap();
    let authority = Authority::new();
    let Identity { chain, key } = authority.sign("app");
    let (ca_file, chain_file, key_file) = (
        directory.join("ca.pem"),
        directory.join("app.pem"),
        directory.join("app.key"),
    );
    std::fs::write(&ca_file, &authority.pem).unwrap();
    std::fs::write(&chain_file, chain).unwrap();
    std::fs::write(&key_file, key).unwrap();
    let options = TlsOptions::new()
        .ca_file(&ca_file)
        .client_files(&chain_file, &key_file);
    options.build().unwrap();
    std::fs::remove_file(&key_file).unwrap();
    let error = options.build().unwrap_err();
    let expected = format!("cannot read {}", key_file.display());
    assert_eq!(error.to_string(), expected);
    assert!(error.source().is_some());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn each_mistake_is_told_with_its_origin() {
    let authority = Authority::new();
    let Identity { chain, key } = authority.sign("app");
    let other = authority.sign("app");
    let good = TlsOptions::new().ca_pem(authority.pem.as_str());
    let cut = &chain[..chain.len() / 2];
    for (options, expected) in [
        (TlsOptions::new(), "no certificate authority was given"),
        (
            TlsOptions::new().ca_pem(""),
            "no certificate in the PEM text given",
        ),
        (
            TlsOptions::new().ca_pem(key.as_str()),
            "no certificate in the PEM text given",
        ),
        (
            TlsOptions::new().ca_pem(cut),
            "the PEM text given is not PEM",
        ),
        (
            TlsOptions::new()
                .ca_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "bad certificate in the PEM text given",
        ),
        (
            good.clone().client_pem(chain.as_str(), chain.as_str()),
            "no unencrypted private key in the PEM text given",
        ),
        (
            good.clone().client_pem(chain.as_str(), other.key),
            "the private key in the PEM text given does not serve the client certificate",
        ),
        (
            good.clone().server_name("no name"),
            "\"no name\" is no server name",
        ),
    ] {
        assert_eq!(options.build().unwrap_err().to_string(), expected);
    }
}

#[test]
fn debug_shows_no_key() {
    let Identity { chain, key } = Authority::new().sign("app");
    let options = TlsOptions::new().client_pem(chain, key.as_str());
    let shown = format!("{options:?}");
    assert!(shown.contains("the PEM text given"), "{shown}");
    assert!(
        !shown.contains("PRIVATE") && !shown.contains("45, 45"),
        "{shown}"
    );
}

#[test]
fn the_zone_of_an_address_is_no_part_of_the_name() {
    assert_eq!(
        parse_name("fe80::1%eth0").unwrap(),
        parse_name("fe80::1").unwrap()
    );
}
