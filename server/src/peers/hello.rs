//! The first bytes of a link: who calls whom, in which ensemble and what for; and the answer.
//!
//! ```text
//! hello:  F5 "QUORATE" version purpose known cluster[16] node[8] from to crc[4]
//! answer: F5 "QUORATE" version verdict known cluster[16] node[8] from crc[4] length[2] words
//! ```
//!
//! Both have a fixed length, the words of a refusal aside, so that nothing is read that belongs to
//! the first frame. No client of ours or of ZooKeeper can begin with this byte: it would be a
//! negative length.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Purpose;
use super::net::Stream;

/// What a link between servers begins with, and nothing else does.
pub(crate) const FIRST_BYTE: u8 = 0xF5;

const MAGIC: [u8; 8] = *b"\xF5QUORATE";
/// The version of the hello and of all that follows it.
const VERSION: u8 = 1;
/// What stands behind the version.
const HELLO: usize = 1 + 1 + 16 + 8 + 1 + 1 + 4;
const ANSWER: usize = 1 + 1 + 16 + 8 + 1 + 4;
const HEAD: usize = MAGIC.len() + 1;
/// Longest words of a refusal.
const WORDS: usize = 512;

const WELCOME: u8 = 0;
const REFUSED: u8 = 1;

/// A member of an ensemble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// The ensemble.
    pub(super) cluster: [u8; 16],
    /// The server's id in the consensus group.
    pub(super) node: u64,
}

/// Who calls whom and what for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hello {
    pub(super) purpose: Purpose,
    pub(super) from: u8,
    pub(super) to: u8,
    /// What the caller is a member of, if it is.
    pub(super) member: Option<Member>,
}

/// What the called server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) from: u8,
    pub(super) member: Option<Member>,
    /// Why not.
    pub(super) refused: Option<String>,
}

/// What came in place of a hello.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BadHello {
    /// Somebody else's protocol.
    #[error("what called is no Quorate server")]
    Foreign,
    /// A newer or older Quorate.
    #[error(
        "the caller speaks version {0} of the protocol between servers, this server version {VERSION}: \
         run the same version on all servers"
    )]
    Version(u8),
    /// A purpose of a newer version.
    #[error("this server does not know what link {0} is for: upgrade it")]
    Purpose(u8),
    /// It does not add up.
    #[error("the greeting arrived damaged")]
    Damaged,
}

impl Hello {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + HELLO);
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(self.purpose as u8);
        put_member(&mut out, self.member);
        out.put_u8(self.from);
        out.put_u8(self.to);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out
    }

    fn decode(head: &[u8; HEAD], body: &[u8; HELLO]) -> Result<Hello, BadHello> {
        let mut body = checked(head, body)?;
        let purpose = body.get_u8();
        let member = take_member(&mut body);
        Ok(Hello {
            purpose: Purpose::of(purpose).ok_or(BadHello::Purpose(purpose))?,
            member,
            from: body.get_u8(),
            to: body.get_u8(),
        })
    }

    /// Reads a hello, of which `read` came already. What of it is no hello stays there.
    ///
    /// The outer error is the connection's, the inner one deserves an answer.
    pub(super) async fn read(
        stream: &mut Stream,
        read: &mut BytesMut,
    ) -> io::Result<Result<Hello, BadHello>> {
        let head = match head(stream, read).await? {
            Ok(head) => head,
            Err(bad) => return Ok(Err(bad)),
        };
        let body = take::<HELLO>(stream, read).await?;
        Ok(Hello::decode(&head, &body))
    }

    /// Says hello and hears the answer.
    pub(super) async fn say(&self, stream: &mut Stream) -> io::Result<Answer> {
        stream.write_all(&self.encode()).await?;
        stream.flush().await?;
        let mut read = BytesMut::new();
        let head = head(stream, &mut read).await?.map_err(invalid)?;
        let body = take::<ANSWER>(stream, &mut read).await?;
        let mut body = checked(&head, &body).map_err(invalid)?;
        let verdict = body.get_u8();
        let member = take_member(&mut body);
        let from = body.get_u8();
        let refused = match verdict {
            WELCOME => None,
            _ => Some(words(stream, &mut read).await?),
        };
        if read.is_empty() {
            return Ok(Answer {
                from,
                member,
                refused,
            });
        }
        Err(invalid(BadHello::Damaged))
    }
}

impl Answer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + ANSWER);
        out.put_slice(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(if self.refused.is_some() {
            REFUSED
        } else {
            WELCOME
        });
        put_member(&mut out, self.member);
        out.put_u8(self.from);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        if let Some(words) = &self.refused {
            let words = words.as_bytes();
            let words = words.get(..WORDS).unwrap_or(words);
            out.put_u16(u16::try_from(words.len()).unwrap_or(0));
            out.put_slice(words);
        }
        out
    }

    /// Answers a hello.
    pub(super) async fn say(&self, stream: &mut Stream) -> io::Result<()> {
        stream.write_all(&self.encode()).await?;
        stream.flush().await
    }
}

fn put_member(out: &mut Vec<u8>, member: Option<Member>) {
    let known = member.is_some();
    let member = member.unwrap_or(Member {
        cluster: [0; 16],
        node: 0,
    });
    out.put_u8(u8::from(known));
    out.put_slice(&member.cluster);
    out.put_u64(member.node);
}

/// Of a part whose length was checked.
fn take_member(from: &mut &[u8]) -> Option<Member> {
    let known = from.get_u8() != 0;
    let mut cluster = [0; 16];
    from.copy_to_slice(&mut cluster);
    let node = from.get_u64();
    known.then_some(Member { cluster, node })
}

/// The body without its checksum.
fn checked<'a>(head: &[u8; HEAD], body: &'a [u8]) -> Result<&'a [u8], BadHello> {
    let (body, crc) = body.split_last_chunk::<4>().ok_or(BadHello::Damaged)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    if hasher.finalize() != u32::from_be_bytes(*crc) {
        return Err(BadHello::Damaged);
    }
    Ok(body)
}

/// The magic and the version. Reads byte by byte no further than a foreigner agrees with it: who
/// sends four bytes and waits must not be waited for.
async fn head(
    stream: &mut Stream,
    read: &mut BytesMut,
) -> io::Result<Result<[u8; HEAD], BadHello>> {
    loop {
        let compared = read.len().min(MAGIC.len());
        if read.get(..compared) != MAGIC.get(..compared) {
            return Ok(Err(BadHello::Foreign));
        }
        if let Some(head) = read.first_chunk::<HEAD>().copied() {
            read.advance(HEAD);
            return Ok(match head.last() {
                Some(&VERSION) => Ok(head),
                Some(&other) => Err(BadHello::Version(other)),
                None => Err(BadHello::Foreign),
            });
        }
        more(stream, read, HEAD - read.len()).await?;
    }
}

async fn take<const N: usize>(stream: &mut Stream, read: &mut BytesMut) -> io::Result<[u8; N]> {
    loop {
        if let Some(taken) = read.first_chunk::<N>().copied() {
            read.advance(N);
            return Ok(taken);
        }
        more(stream, read, N - read.len()).await?;
    }
}

async fn words(stream: &mut Stream, read: &mut BytesMut) -> io::Result<String> {
    let len = usize::from(u16::from_be_bytes(take(stream, read).await?));
    if len > WORDS {
        return Err(invalid(BadHello::Damaged));
    }
    while read.len() < len {
        more(stream, read, len - read.len()).await?;
    }
    let words = String::from_utf8_lossy(&read.split_to(len)).into_owned();
    Ok(words)
}

/// Reads up to `at_most` more bytes.
async fn more(stream: &mut Stream, read: &mut BytesMut, at_most: usize) -> io::Result<()> {
    let mut limited = stream.take(u64::try_from(at_most).unwrap_or(u64::MAX));
    match limited.read_buf(read).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn invalid(bad: BadHello) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, bad)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> Hello {
        Hello {
            purpose: Purpose::Raft,
            from: 3,
            to: 1,
            member: Some(Member {
                cluster: [9; 16],
                node: 3 << 32 | 1,
            }),
        }
    }

    /// Reads a hello off a connection that brings these bytes and ends, `ahead` of them read
    /// before.
    async fn read(bytes: &[u8], ahead: usize) -> (io::Result<Result<Hello, BadHello>>, usize) {
        let (mut one, other) = tokio::io::duplex(1 << 16);
        let mut other: Stream = Box::new(other);
        let (first, rest) = bytes.split_at(ahead.min(bytes.len()));
        one.write_all(rest).await.unwrap();
        drop(one);
        let mut ahead = BytesMut::from(first);
        let hello = Hello::read(&mut other, &mut ahead).await;
        let mut left = Vec::new();
        other.read_to_end(&mut left).await.unwrap();
        (hello, ahead.len() + left.len())
    }

    #[tokio::test]
    async fn a_hello_arrives_and_what_stands_behind_it_stays() {
        let mut bytes = hello().encode();
        bytes.extend_from_slice(b"frame");
        for ahead in 0..=bytes.len() {
            let (read, left) = read(&bytes, ahead).await;
            assert_eq!((read.unwrap().unwrap(), left), (hello(), 5), "{ahead}");
        }
    }

    #[tokio::test]
    async fn every_flipped_bit_is_noticed() {
        let bytes = hello().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (read, _) = read(&damaged, 0).await;
            assert!(!matches!(read, Ok(Ok(_))), "bit {bit}");
        }
    }

    #[tokio::test]
    async fn another_version_is_told_so_before_the_rest_is_read() {
        let mut bytes = hello().encode();
        bytes.truncate(HEAD);
        bytes[MAGIC.len()] = 7;
        let (read, _) = read(&bytes, 0).await;
        assert_eq!(read.unwrap(), Err(BadHello::Version(7)));
    }

    #[tokio::test]
    async fn an_answer_returns_as_said() {
        for refused in [None, Some("because".to_owned()), Some("x".repeat(WORDS))] {
            let (mine, theirs) = tokio::io::duplex(16);
            let (mut mine, mut theirs): (Stream, Stream) = (Box::new(mine), Box::new(theirs));
            let answer = Answer {
                from: 1,
                member: hello().member,
                refused,
            };
            let answering = async {
                let mut read = BytesMut::new();
                let heard = Hello::read(&mut theirs, &mut read).await.unwrap();
                assert_eq!(heard, Ok(hello()));
                answer.say(&mut theirs).await.unwrap();
            };
            let call = hello();
            let (heard, ()) = tokio::join!(call.say(&mut mine), answering);
            assert_eq!(heard.unwrap(), answer);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes: Vec<u8>, keep in 0usize..60) {
            let mut mixed = hello().encode();
            mixed.truncate(keep);
            mixed.extend_from_slice(&bytes);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read(&mixed, keep / 2));
        }
    }
}
