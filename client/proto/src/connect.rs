//! The handshake: the first frame in each direction. It has no header.

use std::fmt;

use bytes::BytesMut;

use crate::frame::{self, FrameError};
use crate::jute::{DecodeError, Reader, Writer};
use crate::limits::PASSWORD_LEN;
use crate::{SessionId, Zxid};

/// Asks for a session, new or known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// 0; servers do not look at it.
    pub protocol_version: i32,
    /// The highest zxid that the client saw in a reply. A server that is behind it has to close
    /// without an answer.
    pub last_zxid_seen: Zxid,
    /// The session timeout that the client wishes, in milliseconds. Any number may arrive.
    pub timeout_ms: i32,
    /// The session, or [`SessionId::NONE`] for a new one.
    pub session: SessionId,
    /// The session's password. Of any length, and with a new session without meaning.
    pub password: Option<&'a [u8]>,
    /// Whether a read-only server will do; `None` where the client does not know the field. The
    /// response has the field if and only if the request had it.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// Reads a payload. Bytes behind the record are ignored.
    ///
    /// # Errors
    /// `Truncated` or `BadLength`: the connection has to close.
    pub fn decode(payload: &'a [u8]) -> Result<ConnectRequest<'a>, DecodeError> {
        let mut reader = Reader::new(payload);
        Ok(ConnectRequest {
            protocol_version: reader.i32("protocolVersion")?,
            last_zxid_seen: Zxid(reader.i64("lastZxidSeen")?),
            timeout_ms: reader.i32("timeOut")?,
            session: SessionId(reader.i64("sessionId")?),
            password: reader.buffer("passwd")?,
            read_only: optional_bool(&mut reader)?,
        })
    }

    /// Writes the payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.i32(self.protocol_version);
        writer.i64(self.last_zxid_seen.0);
        writer.i32(self.timeout_ms);
        writer.i64(self.session.0);
        writer.buffer(self.password);
        if let Some(read_only) = self.read_only {
            writer.bool(read_only);
        }
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    /// `TooLarge` for a password of 2 GiB.
    pub fn write_frame(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        frame::write(out, |writer| self.encode(writer))
    }
}

/// Hides the password: who has it has the session.
impl fmt::Debug for ConnectRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("protocol_version", &self.protocol_version)
            .field("last_zxid_seen", &self.last_zxid_seen)
            .field("timeout_ms", &self.timeout_ms)
            .field("session", &self.session)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// The answer to a [`ConnectRequest`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The timeout that was agreed on, in milliseconds; 0 refuses.
    pub timeout_ms: i32,
    /// The session.
    pub session: SessionId,
    /// Its password. The C client reads exactly 16 bytes.
    pub password: [u8; PASSWORD_LEN],
    /// Whether this server is read-only; `None` if the request did not have the field.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// There is no such session, or the password is not its.
    ///
    /// Both the timeout and the id are 0, because clients differ in which of them they look at.
    #[must_use]
    pub const fn refused(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse {
            timeout_ms: 0,
            session: SessionId::NONE,
            password: [0; PASSWORD_LEN],
            read_only,
        }
    }

    /// Reads a payload. Bytes behind the record are ignored.
    ///
    /// # Errors
    /// `Truncated`; `Null` or `BadLength` for a password that has not 16 bytes.
    pub fn decode(payload: &[u8]) -> Result<ConnectResponse, DecodeError> {
        let mut reader = Reader::new(payload);
        // The version: always 0.
        reader.i32("protocolVersion")?;
        Ok(ConnectResponse {
            timeout_ms: reader.i32("timeOut")?,
            session: SessionId(reader.i64("sessionId")?),
            password: password(&mut reader)?,
            read_only: optional_bool(&mut reader)?,
        })
    }

    /// Writes the payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.i32(0);
        writer.i32(self.timeout_ms);
        writer.i64(self.session.0);
        writer.buffer(Some(&self.password));
        if let Some(read_only) = self.read_only {
            writer.bool(read_only);
        }
    }

    /// Appends the whole frame.
    #[expect(clippy::missing_panics_doc, reason = "its size is fixed")]
    pub fn write_frame(&self, out: &mut BytesMut) {
        frame::write(out, |writer| self.encode(writer)).expect("37 bytes fit into a frame");
    }
}

/// Hides the password: who has it has the session.
impl fmt::Debug for ConnectResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectResponse")
            .field("timeout_ms", &self.timeout_ms)
            .field("session", &self.session)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

fn password(reader: &mut Reader<'_>) -> Result<[u8; PASSWORD_LEN], DecodeError> {
    let field = "passwd";
    let bytes = reader.buffer(field)?.ok_or(DecodeError::Null { field })?;
    bytes.try_into().map_err(|_| DecodeError::BadLength {
        field,
        declared: i32::try_from(bytes.len()).unwrap_or(i32::MAX),
    })
}

fn optional_bool(reader: &mut Reader<'_>) -> Result<Option<bool>, DecodeError> {
    if reader.rest().is_empty() {
        return Ok(None);
    }
    reader.bool("readOnly").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(password: Option<&[u8]>, read_only: Option<bool>) -> ConnectRequest<'_> {
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 4_000,
            session: SessionId::NONE,
            password,
            read_only,
        }
    }

    fn encoded(request: &ConnectRequest<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        request.encode(&mut Writer::new(&mut out));
        out
    }

    #[test]
    fn the_read_only_byte_is_there_or_not() {
        for (read_only, request_len, response_len) in
            [(None, 44, 36), (Some(false), 45, 37), (Some(true), 45, 37)]
        {
            let request = request(Some(&[0; 16]), read_only);
            let bytes = encoded(&request);
            assert_eq!(bytes.len(), request_len);
            assert_eq!(ConnectRequest::decode(&bytes), Ok(request));

            let response = ConnectResponse::refused(read_only);
            let mut out = BytesMut::new();
            response.write_frame(&mut out);
            assert_eq!(out.len(), 4 + response_len);
            assert_eq!(ConnectResponse::decode(&out[4..]), Ok(response));
        }
    }

    #[test]
    fn a_requests_password_has_any_length() {
        for password in [None, Some(&b""[..]), Some(b"abc"), Some(&[7; 40])] {
            let request = request(password, Some(true));
            assert_eq!(ConnectRequest::decode(&encoded(&request)), Ok(request));
        }
    }

    #[test]
    fn a_request_without_its_fixed_part_is_refused() {
        let bytes = encoded(&request(Some(&[0; 16]), None));
        for end in 0..bytes.len() {
            assert!(ConnectRequest::decode(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn bytes_behind_the_record_are_ignored() {
        let mut bytes = encoded(&request(Some(&[0; 16]), Some(true)));
        bytes.extend_from_slice(b"more");
        assert!(ConnectRequest::decode(&bytes).is_ok());
    }

    #[test]
    fn passwords_are_not_printed() {
        let text = format!("{:?}", request(Some(b"secret"), None));
        assert!(!text.contains("password"), "{text}");
    }
}
