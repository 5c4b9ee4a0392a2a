use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

pub(super) async fn listener() -> (TcpListener, HostPort) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = "127.0.0.1".to_owned();
    (listener, HostPort { host, port })
}

fn tcp(socket: &Socket) -> &TcpStream {
    match socket {
        Socket::Tcp(stream) => stream,
        #[cfg(feature = "tls")]
        Socket::Tls(_) => panic!("{socket:?}"),
    }
}

#[tokio::test]
async fn a_connection_carries_bytes_both_ways_and_does_not_hold_them_back() {
    let (listener, server) = listener().await;
    let connector = Connector::plain();
    let (dialled, accepted) = tokio::join!(connector.connect(&server), listener.accept());
    let ((mut socket, address), (mut peer, _)) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!(address, listener.local_addr().unwrap());
    assert!(socket.is_write_vectored());
    let stream = tcp(&socket);
    assert!(stream.nodelay().unwrap());
    assert!(SockRef::from(stream).keepalive().unwrap());

    socket.write_all(b"ruok").await.unwrap();
    socket.flush().await.unwrap();
    let mut told = [0; 4];
    peer.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"ruok");
    peer.write_all(b"imok").await.unwrap();
    socket.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"imok");
    socket.shutdown().await.unwrap();
    assert_eq!(peer.read(&mut told).await.unwrap(), 0);
}

#[tokio::test]
async fn names_are_resolved() {
    let (listener, server) = listener().await;
    let named = HostPort {
        host: "localhost".to_owned(),
        port: server.port,
    };
    // The name may have an IPv6 address, too, where nobody listens: the next one is tried.
    let connector = Connector::plain();
    let (dialled, _peer) = tokio::join!(connector.connect(&named), listener.accept());
    assert_eq!(dialled.unwrap().1, listener.local_addr().unwrap());
}

#[tokio::test]
async fn a_refused_connection_names_server_and_address() {
    let (listener, server) = listener().await;
    drop(listener);
    let error = Connector::plain().connect(&server).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let text = error.to_string();
    let expected = format!("cannot connect to {server}: {server}: ");
    assert!(text.starts_with(&expected), "{text}");
}

#[test]
fn a_failed_dial_tells_all_it_tried() {
    let failed = |failures| DialError {
        server: HostPort {
            host: "h1".into(),
            port: 2181,
        },
        failures,
    };
    let text = failed(Vec::new()).to_string();
    assert_eq!(text, "cannot connect to h1:2181: the name has no address");
    let failure = |address: &str, text| (address.parse().unwrap(), io::Error::other(text));
    let both = vec![
        failure("[::1]:2181", "no"),
        failure("127.0.0.1:2181", "neither"),
    ];
    let text = failed(both).to_string();
    let expected = "cannot connect to h1:2181: [::1]:2181: no; 127.0.0.1:2181: neither";
    assert_eq!(text, expected);
}

#[test]
fn a_dial_can_run_on_any_thread() {
    fn sent<T: Send>(_: T) {}
    let server = HostPort {
        host: "h1".into(),
        port: 2181,
    };
    let connector = Connector::plain();
    sent(connector.connect(&server));
}
