//! What servers say to each other before they are members, and besides.
//!
//! `[version][kind][fields]`, numbers big-endian. What comes in was written by anybody: it is
//! bounded by the limits here and judged by whoever reads it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u8 = 1;
/// Bytes of the words in a refusal; more is cut.
const WORDS_BYTES_MAX: usize = 1024;

/// One message of a boot link. Each question has one answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// Anybody asks anybody: what are you?
    Ask,
    /// Answer of a server without an identity.
    Empty(Empty),
    /// Answer of a server with one.
    Member(Member),
    /// A server without an identity asks the leader for one.
    Join,
    /// It has one from now on; the identity is in the log.
    Admitted(Admitted),
    /// The server so named runs: send it what it needs, make it vote.
    Ready {
        /// Its id.
        node: u64,
    },
    /// It belongs to the ensemble as it is in force.
    InForce,
    /// Not now; ask again.
    Later(String),
    /// Not ever, until an operator changes something.
    Refused(String),
    /// Another server claims the number of the server that hears this.
    Twin,
    /// The leader of this term does not listen any more where it did: do you see the same?
    Gone {
        /// Its term.
        term: u64,
        /// Its id.
        leader: u64,
    },
    /// Answer to that.
    Seen(Seen),
}

/// A server without an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Empty {
    /// Stands for the list of servers, see [`super::digest`].
    pub(super) list: u64,
    /// The last zxid of the ZooKeeper data in its dataDir; -1 without any.
    pub(super) history: i64,
    /// The operator says that it never held anything: there is a file `initialize`.
    pub(super) marked: bool,
}

/// A server with an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// Of which ensemble.
    pub(super) cluster: [u8; 16],
    /// Its id.
    pub(super) node: u64,
    /// The number of the leader; 0 = it knows none.
    pub(super) leader: u8,
    /// The id under which it knows whoever asks; 0 = none.
    pub(super) yours: u64,
}

/// What a new member needs to know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) cluster: [u8; 16],
    pub(super) key: [u8; 32],
    pub(super) node: u64,
}

/// What another server thinks of a leader that is said to be gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// It followed the same leader in the same term, and its own dial is refused.
    pub(super) gone: bool,
    /// Term and index of the end of its log.
    pub(super) last: (u64, u64),
}

/// Bytes that are no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadMessage {
    /// A newer version wrote it.
    #[error(
        "boot messages of version {version}, which this version does not know: upgrade this server"
    )]
    Version {
        /// Its version.
        version: u8,
    },
    /// It is not what any version writes.
    #[error("a boot message that cannot be read")]
    Malformed,
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match self {
            Message::Ask => out.put_u8(1),
            Message::Empty(empty) => {
                out.put_u8(2);
                out.put_u64(empty.list);
                out.put_i64(empty.history);
                out.put_u8(u8::from(empty.marked));
            }
            Message::Member(member) => {
                out.put_u8(3);
                out.put_slice(&member.cluster);
                out.put_u64(member.node);
                out.put_u8(member.leader);
                out.put_u64(member.yours);
            }
            Message::Join => out.put_u8(4),
            Message::Admitted(admitted) => {
                out.put_u8(5);
                out.put_slice(&admitted.cluster);
                out.put_slice(&admitted.key);
                out.put_u64(admitted.node);
            }
            Message::Ready { node } => {
                out.put_u8(6);
                out.put_u64(*node);
            }
            Message::InForce => out.put_u8(7),
            Message::Later(words) => put_words(&mut out, 8, words),
            Message::Refused(words) => put_words(&mut out, 9, words),
            Message::Twin => out.put_u8(10),
            Message::Gone { term, leader } => {
                out.put_u8(11);
                out.put_u64(*term);
                out.put_u64(*leader);
            }
            Message::Seen(seen) => {
                out.put_u8(12);
                out.put_u8(u8::from(seen.gone));
                out.put_u64(seen.last.0);
                out.put_u64(seen.last.1);
            }
        }
        out.freeze()
    }

    pub(super) fn decode(mut from: &[u8]) -> Result<Message, BadMessage> {
        let version = from.try_get_u8().map_err(malformed)?;
        if version != VERSION {
            return Err(BadMessage::Version { version });
        }
        let message = match from.try_get_u8().map_err(malformed)? {
            1 => Message::Ask,
            2 => Message::Empty(Empty {
                list: from.try_get_u64().map_err(malformed)?,
                history: from.try_get_i64().map_err(malformed)?,
                marked: from.try_get_u8().map_err(malformed)? != 0,
            }),
            3 => Message::Member(Member {
                cluster: array(&mut from)?,
                node: from.try_get_u64().map_err(malformed)?,
                leader: from.try_get_u8().map_err(malformed)?,
                yours: from.try_get_u64().map_err(malformed)?,
            }),
            4 => Message::Join,
            5 => Message::Admitted(Admitted {
                cluster: array(&mut from)?,
                key: array(&mut from)?,
                node: from.try_get_u64().map_err(malformed)?,
            }),
            6 => Message::Ready {
                node: from.try_get_u64().map_err(malformed)?,
            },
            7 => Message::InForce,
            8 => Message::Later(words(&mut from)?),
            9 => Message::Refused(words(&mut from)?),
            10 => Message::Twin,
            11 => Message::Gone {
                term: from.try_get_u64().map_err(malformed)?,
                leader: from.try_get_u64().map_err(malformed)?,
            },
            12 => Message::Seen(Seen {
                gone: from.try_get_u8().map_err(malformed)? != 0,
                last: (
                    from.try_get_u64().map_err(malformed)?,
                    from.try_get_u64().map_err(malformed)?,
                ),
            }),
            _ => return Err(BadMessage::Malformed),
        };
        if from.is_empty() {
            Ok(message)
        } else {
            Err(BadMessage::Malformed)
        }
    }
}

/// Never the key.
impl std::fmt::Debug for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitted")
            .field("node", &format_args!("{:#x}", self.node))
            .finish_non_exhaustive()
    }
}

fn malformed<E>(_: E) -> BadMessage {
    BadMessage::Malformed
}

fn array<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], BadMessage> {
    let (taken, rest) = from.split_first_chunk().ok_or(BadMessage::Malformed)?;
    *from = rest;
    Ok(*taken)
}

fn put_words(out: &mut BytesMut, kind: u8, words: &str) {
    let words = words.get(..words.floor_char_boundary(WORDS_BYTES_MAX));
    out.put_u8(kind);
    out.put_slice(words.unwrap_or_default().as_bytes());
}

/// The rest of the message. It goes into this server's log, so it must stay on its line.
fn words(from: &mut &[u8]) -> Result<String, BadMessage> {
    let bytes = std::mem::take(from);
    if bytes.len() > WORDS_BYTES_MAX {
        return Err(BadMessage::Malformed);
    }
    let text = std::str::from_utf8(bytes).map_err(malformed)?;
    Ok(text.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Message> {
        vec![
            Message::Ask,
            Message::Empty(Empty {
                list: 7,
                history: -1,
                marked: true,
            }),
            Message::Member(Member {
                cluster: [3; 16],
                node: 0x1_0000_0001,
                leader: 1,
                yours: 0,
            }),
            Message::Join,
            Message::Admitted(Admitted {
                cluster: [3; 16],
                key: [4; 32],
                node: 0x2_0000_0007,
            }),
            Message::Ready { node: 9 },
            Message::InForce,
            Message::Later("no leader".into()),
            Message::Refused("no room".into()),
            Message::Twin,
            Message::Gone { term: 5, leader: 6 },
            Message::Seen(Seen {
                gone: true,
                last: (5, 77),
            }),
        ]
    }

    #[test]
    fn every_message_comes_back_as_it_was_sent() {
        for message in one_of_each() {
            assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }
    }

    #[test]
    fn a_message_that_is_cut_or_too_long_is_refused() {
        for message in one_of_each() {
            let bytes = message.encode();
            let has_words = matches!(message, Message::Later(_) | Message::Refused(_));
            for len in (0..bytes.len()).filter(|&len| len < 2 || !has_words) {
                let cut = bytes.get(..len).unwrap();
                assert!(Message::decode(cut).is_err(), "{message:?} cut to {len}");
            }
            let longer = [&bytes[..], &[0; WORDS_BYTES_MAX + 1]].concat();
            assert!(Message::decode(&longer).is_err(), "{message:?} and more");
        }
    }

    #[test]
    fn words_stay_on_their_line_and_within_their_bound() {
        let long = Message::Refused("ä\n".repeat(WORDS_BYTES_MAX));
        let Message::Refused(words) = Message::decode(&long.encode()).unwrap() else {
            panic!("another message");
        };
        assert!(words.len() <= WORDS_BYTES_MAX);
        assert!(!words.contains('\n'));
    }
}
