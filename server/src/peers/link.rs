//! Frames over a stream: `[length: u32][crc32 of the body: u32][body]`, big-endian.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::codec::{Decoder, Encoder, FramedRead, FramedWrite};

use super::net::Stream;

/// Bytes of the largest body. Above the largest log entry (R26): one request of the largest
/// frame that a configuration may allow, with what stands around it.
pub(crate) const FRAME_BYTES_MAX: usize = 520 * 1024 * 1024;
const HEAD: usize = 8;
/// What is written together.
const BUFFER: usize = 64 * 1024;

/// Both directions of one connection between servers.
pub(crate) struct Link {
    /// What comes in.
    pub(crate) reader: LinkReader,
    /// What goes out.
    pub(crate) writer: LinkWriter,
}

/// What comes in.
pub(crate) struct LinkReader(FramedRead<ReadHalf<Stream>, Codec>);

/// What goes out.
pub(crate) struct LinkWriter(FramedWrite<WriteHalf<Stream>, Codec>);

impl Link {
    /// Frames over this stream, of which `read` was read already.
    pub(crate) fn new(stream: Stream, read: BytesMut) -> Link {
        let (reader, writer) = tokio::io::split(stream);
        let mut reader = FramedRead::with_capacity(reader, Codec, BUFFER);
        reader.read_buffer_mut().unsplit(read);
        let mut writer = FramedWrite::new(writer, Codec);
        writer.set_backpressure_boundary(BUFFER);
        Link {
            reader: LinkReader(reader),
            writer: LinkWriter(writer),
        }
    }

    /// Two ends of a pipe.
    #[cfg(test)]
    pub(crate) fn pair() -> (Link, Link) {
        let (one, other) = tokio::io::duplex(BUFFER);
        (
            Link::new(Box::new(one), BytesMut::new()),
            Link::new(Box::new(other), BytesMut::new()),
        )
    }
}

impl LinkReader {
    /// The next frame; `None` when the other end closed between two frames.
    ///
    /// # Errors
    /// The connection broke, or what came is no frame: the link is over.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn recv(&mut self) -> io::Result<Option<Bytes>> {
        self.0.next().await.transpose()
    }
}

impl LinkWriter {
    /// Sends one frame and waits until the system has it.
    ///
    /// # Errors
    /// The connection broke, or the body is too large.
    ///
    /// # Cancel safety
    /// None: a dropped send may have cut a frame in two, and the link must be dropped.
    pub(crate) async fn send(&mut self, body: &[u8]) -> io::Result<()> {
        self.0.send(body).await
    }

    /// Queues one frame; [`LinkWriter::flush`] sends what is queued. Waits when much is queued.
    ///
    /// # Errors
    /// As [`LinkWriter::send`].
    ///
    /// # Cancel safety
    /// None.
    pub(crate) async fn feed(&mut self, body: &[u8]) -> io::Result<()> {
        self.0.feed(body).await
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// As [`LinkWriter::send`].
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        SinkExt::<&[u8]>::flush(&mut self.0).await
    }
}

struct Codec;

impl Decoder for Codec {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<Bytes>> {
        let Some(head) = from.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let mut head = head.as_slice();
        let len = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
        let crc = head.get_u32();
        if len > FRAME_BYTES_MAX {
            return Err(invalid(format!(
                "a frame of {len} bytes, at most {FRAME_BYTES_MAX} are allowed"
            )));
        }
        if from.len() < HEAD + len {
            // Room for what surely comes, but not for what a length alone claims.
            from.reserve((HEAD + len - from.len()).min(BUFFER * 16));
            return Ok(None);
        }
        from.advance(HEAD);
        let body = from.split_to(len).freeze();
        if crc32fast::hash(&body) != crc {
            return Err(invalid(format!(
                "a frame of {len} bytes has a wrong checksum"
            )));
        }
        Ok(Some(body))
    }
}

impl Encoder<&[u8]> for Codec {
    type Error = io::Error;

    fn encode(&mut self, body: &[u8], to: &mut BytesMut) -> io::Result<()> {
        let len = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= FRAME_BYTES_MAX)
            .ok_or_else(|| invalid(format!("a frame of {} bytes cannot be sent", body.len())))?;
        to.reserve(HEAD + body.len());
        to.put_u32(len);
        to.put_u32(crc32fast::hash(body));
        to.put_slice(body);
        Ok(())
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order() {
        let (mut one, mut other) = Link::pair();
        let large = vec![7; 3 * BUFFER];
        let sending = async {
            one.writer.feed(b"first").await.unwrap();
            one.writer.send(b"").await.unwrap();
            one.writer.send(&large).await.unwrap();
            drop(one);
        };
        let receiving = async {
            let mut bodies = Vec::new();
            while let Some(body) = other.reader.recv().await.unwrap() {
                bodies.push(body);
            }
            bodies
        };
        let ((), bodies) = tokio::join!(sending, receiving);
        assert_eq!(bodies, [&b"first"[..], b"", &large]);
    }

    #[test]
    fn a_flipped_bit_ends_the_link() {
        let mut bytes = BytesMut::new();
        Codec.encode(b"body", &mut bytes).unwrap();
        for bit in 32..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            if let Some(byte) = damaged.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            assert!(Codec.decode(&mut damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_read() {
        let mut bytes = BytesMut::from(&[0xff; 8][..]);
        assert!(Codec.decode(&mut bytes).is_err());
    }
}
