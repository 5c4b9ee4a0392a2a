//! From a server's name to a connection with a session: dial, handshake, SASL.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quorate_proto::request::SaslToken;
use quorate_proto::{
    ConnectRequest, ConnectResponse, ErrorCode, OpCode, Reply, ReplyHeader, Request, SessionId,
    Xid, Zxid, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::{SaslLogin, SessionInfo, Settings};
use crate::hosts::HostPort;
use crate::sasl::{DigestMd5, SaslError};
use crate::transport::{Socket, is_untrusted};

/// The shortest session timeout that is believed: a shorter one would be spent on pings.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// The longest, if no longer one was asked for: nothing could be done about a dead server before.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A server that answered the handshake.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) socket: Socket,
    /// What arrived behind the answers.
    pub(super) input: BytesMut,
    pub(super) server: Arc<str>,
    pub(super) info: SessionInfo,
    pub(super) is_read_only: bool,
    /// When the request for the session left.
    pub(super) asked: Instant,
    /// The number that the next request may have.
    pub(super) next_xid: i32,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// Another server, or another time, may do better.
    Failed(String),
    /// Its certificate is none that we trust, or ours is none for it: another server may have
    /// another.
    Untrusted(String),
    /// The server says that the session is over.
    Expired,
    /// No server will take these credentials.
    AuthFailed(String),
}

/// Dials one server and asks it for the session, or for a new one.
///
/// A server that is behind what we have seen closes without an answer, as one does that serves
/// nobody: another may do better.
///
/// # Cancel safety
/// Dropping it closes the connection. A new session that the server had just opened expires.
pub(super) async fn dial(
    settings: &Settings,
    server: &HostPort,
    session: Option<&SessionInfo>,
    last_zxid: Zxid,
) -> Result<Connected, DialError> {
    let failed = |error: std::io::Error| {
        let text = format!("{server}: {error}");
        match is_untrusted(&error) {
            true => DialError::Untrusted(text),
            false => DialError::Failed(text),
        }
    };
    let (mut socket, address) = settings.connector.connect(server).await.map_err(failed)?;
    tracing::debug!(%server, %address, "connected, asking for a session");

    let mut out = BytesMut::new();
    let wished = session.map_or(settings.session_timeout, |session| session.timeout);
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: last_zxid,
        timeout_ms: i32::try_from(wished.as_millis()).unwrap_or(i32::MAX),
        session: session.map_or(SessionId::NONE, |session| session.id),
        password: Some(session.map_or(&[0; 16], |session| &session.password)),
        read_only: Some(settings.may_be_read_only),
    };
    request
        .write_frame(&mut out)
        .map_err(|error| DialError::Failed(error.to_string()))?;
    let asked = Instant::now();
    socket.write_all(&out).await.map_err(failed)?;

    let mut input = BytesMut::with_capacity(4096);
    let payload = read_frame(&mut socket, &mut input, 4096)
        .await
        .map_err(failed)?;
    let response = ConnectResponse::decode(&payload)
        .map_err(|error| DialError::Failed(format!("{server} is no ZooKeeper server: {error}")))?;
    let longest = wished.max(TIMEOUT_MAX);
    let timeout = u64::try_from(response.timeout_ms).map(Duration::from_millis);
    let timeout = timeout
        .ok()
        .filter(|time| time.is_zero() || (TIMEOUT_MIN..=longest).contains(time));
    let Some(timeout) = timeout else {
        return Err(DialError::Failed(format!(
            "{server} does not keep the protocol: a session timeout of {} ms",
            response.timeout_ms
        )));
    };
    if timeout.is_zero() {
        return match session {
            Some(_) => Err(DialError::Expired),
            None => Err(DialError::Failed(format!(
                "{server} refused to open a session"
            ))),
        };
    }
    let is_read_only = response.read_only == Some(true);
    match session {
        _ if is_read_only => {}
        // The C client's sign of an expired session.
        Some(session) if session.id != response.session => return Err(DialError::Expired),
        None if response.session == SessionId::NONE => {
            let text = format!("{server} opened a session without an id");
            return Err(DialError::Failed(text));
        }
        _ => {}
    }
    let mut connected = Connected {
        socket,
        input,
        server: server.to_string().into(),
        info: SessionInfo {
            id: response.session,
            password: response.password,
            timeout,
            last_zxid,
        },
        is_read_only,
        asked,
        next_xid: 1,
    };
    if let Some(login) = &settings.sasl {
        authenticate(&mut connected, login).await?;
    }
    Ok(connected)
}

/// SASL before anything else: a server that demands it answers nothing before.
async fn authenticate(connected: &mut Connected, login: &SaslLogin) -> Result<(), DialError> {
    let refused = |text: String| DialError::AuthFailed(format!("SASL: {text}"));
    let failed = |error: std::io::Error| DialError::Failed(format!("SASL: {error}"));
    // One that speaks it badly, or does not know the password itself, says nothing about the others.
    let odd = |text: String| DialError::Failed(format!("SASL: {text}"));
    let mut mechanism = DigestMd5::new(login.user.as_str(), login.password.as_str());
    let mut token = DigestMd5::FIRST_TOKEN.to_vec();
    loop {
        let xid = Xid(connected.next_xid);
        connected.next_xid += 1;
        let mut out = BytesMut::new();
        Request::Sasl(SaslToken(Some(&token)))
            .write_frame(&mut out, xid)
            .map_err(|error| refused(error.to_string()))?;
        connected.socket.write_all(&out).await.map_err(failed)?;
        let payload = read_frame(&mut connected.socket, &mut connected.input, 65536)
            .await
            .map_err(failed)?;
        let (header, body) =
            ReplyHeader::decode(&payload).map_err(|error| odd(error.to_string()))?;
        if header.err != 0 {
            let code = ErrorCode::from_code(header.err).map_or("refused", ErrorCode::name);
            return Err(refused(format!("{code} at {}", connected.server)));
        }
        let Ok(Reply::Sasl(SaslToken(challenge))) = Reply::decode(OpCode::Sasl, body) else {
            return Err(odd("the answer cannot be read".to_owned()));
        };
        match mechanism.step(challenge.unwrap_or_default()) {
            Ok(Some(next)) => token = next,
            Ok(None) => return Ok(()),
            Err(error @ SaslError::NotOffered) => return Err(refused(error.to_string())),
            Err(error) => return Err(odd(error.to_string())),
        }
    }
}

/// Asks `isro`: whether a server takes writes now.
pub(super) async fn takes_writes(settings: &Settings, server: &HostPort) -> std::io::Result<bool> {
    let (mut socket, _) = settings.connector.connect(server).await?;
    socket.write_all(b"isro").await?;
    let mut answer = [0; 2];
    socket.read_exact(&mut answer).await?;
    Ok(&answer == b"rw")
}

/// Reads one frame of a handshake; what follows it stays in `input`.
async fn read_frame(
    socket: &mut Socket,
    input: &mut BytesMut,
    limit: usize,
) -> std::io::Result<Bytes> {
    loop {
        match frame::split(input, limit) {
            Ok(Some((_, len))) => {
                let mut payload = input.split_to(len).freeze();
                payload.advance(frame::PREFIX_LEN);
                return Ok(payload);
            }
            Ok(None) => {}
            Err(error) => return Err(std::io::Error::other(error)),
        }
        if socket.read_buf(input).await? == 0 {
            let text = "the server closed the connection without an answer";
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text));
        }
    }
}
