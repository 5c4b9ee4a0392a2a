//! Records about watches: what clients ask for, and what they are told.

use std::borrow::Cow;

use crate::jute::{DecodeError, Reader, Writer};
use crate::{EventType, KeeperState, Zxid};

/// A notification. Its header carries [`Xid::NOTIFICATION`](crate::Xid::NOTIFICATION).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatcherEvent<'a> {
    /// What happened.
    pub event: EventType,
    /// Always `SyncConnected` from servers of 3.9.
    pub state: KeeperState,
    /// The full path, whatever the client's chroot.
    pub path: Cow<'a, str>,
}

impl<'a> WatcherEvent<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// `BadValue` for an event or state that no server sends.
    pub fn decode(body: &'a [u8]) -> Result<WatcherEvent<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let event = reader.i32("type")?;
        let state = reader.i32("state")?;
        Ok(WatcherEvent {
            event: EventType::from_code(event).ok_or(DecodeError::BadValue {
                field: "type",
                value: event.into(),
            })?,
            state: KeeperState::from_code(state).ok_or(DecodeError::BadValue {
                field: "state",
                value: state.into(),
            })?,
            path: reader.required_string("path")?,
        })
    }

    /// Writes the body.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.i32(self.event.code());
        writer.i32(self.state.code());
        writer.string(&self.path);
    }
}

/// What `addWatch` adds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AddWatchMode {
    /// Data and children of the znode, until removed.
    Persistent = 0,
    /// Data of the znode and of all its descendants, until removed.
    PersistentRecursive = 1,
}

impl AddWatchMode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The mode with this number.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<AddWatchMode> {
        match code {
            0 => Some(AddWatchMode::Persistent),
            1 => Some(AddWatchMode::PersistentRecursive),
            _ => None,
        }
    }
}

/// Which watches `checkWatches` and `removeWatches` mean.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum WatcherType {
    /// One-shot child watches.
    Children = 1,
    /// One-shot data watches, those of `exists` included.
    Data = 2,
    /// Every watch at exactly this path.
    Any = 3,
    /// Persistent ones.
    Persistent = 4,
    /// Persistent recursive ones.
    PersistentRecursive = 5,
}

impl WatcherType {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The type with this number.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<WatcherType> {
        match code {
            1 => Some(WatcherType::Children),
            2 => Some(WatcherType::Data),
            3 => Some(WatcherType::Any),
            4 => Some(WatcherType::Persistent),
            5 => Some(WatcherType::PersistentRecursive),
            _ => None,
        }
    }
}

/// Takes one-shot watches up again. The paths are not judged, only null ones are refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetWatches<'a> {
    /// The last zxid that the client saw: what changed later is reported at once.
    pub relative_zxid: Zxid,
    /// Where data was watched.
    pub data: Vec<Cow<'a, str>>,
    /// Where a missing znode was watched.
    pub exist: Vec<Cow<'a, str>>,
    /// Where children were watched.
    pub child: Vec<Cow<'a, str>>,
}

impl<'a> SetWatches<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<SetWatches<'a>, DecodeError> {
        Ok(SetWatches {
            relative_zxid: Zxid(reader.i64("relativeZxid")?),
            data: reader.required_strings("dataWatches")?,
            exist: reader.required_strings("existWatches")?,
            child: reader.required_strings("childWatches")?,
        })
    }

    pub(crate) fn encode(&self, writer: &mut Writer<'_>) {
        writer.i64(self.relative_zxid.0);
        writer.strings(&self.data);
        writer.strings(&self.exist);
        writer.strings(&self.child);
    }
}

/// As [`SetWatches`], with the persistent ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetWatches2<'a> {
    /// The one-shot watches.
    pub one_shot: SetWatches<'a>,
    /// Persistent ones.
    pub persistent: Vec<Cow<'a, str>>,
    /// Persistent recursive ones.
    pub persistent_recursive: Vec<Cow<'a, str>>,
}

impl<'a> SetWatches2<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<SetWatches2<'a>, DecodeError> {
        Ok(SetWatches2 {
            one_shot: SetWatches::read(reader)?,
            persistent: paths_for_good(reader, "persistentWatches")?,
            persistent_recursive: paths_for_good(reader, "persistentRecursiveWatches")?,
        })
    }

    pub(crate) fn encode(&self, writer: &mut Writer<'_>) {
        self.one_shot.encode(writer);
        writer.strings(&self.persistent);
        writer.strings(&self.persistent_recursive);
    }
}

/// ZooKeeper takes a null path for a persistent watch, though not for a one-shot one. Such a
/// watch never fires, no more than one at the empty path does, so that is how we read it.
fn paths_for_good<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
) -> Result<Vec<Cow<'a, str>>, DecodeError> {
    reader
        .vector(field, 4, |reader| reader.string_or_empty(field))?
        .ok_or(DecodeError::Null { field })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_types_are_those_of_the_table() {
        for code in -2..10 {
            assert_eq!(
                AddWatchMode::from_code(code).map(AddWatchMode::code),
                (0..=1).contains(&code).then_some(code)
            );
            assert_eq!(
                WatcherType::from_code(code).map(WatcherType::code),
                (1..=5).contains(&code).then_some(code)
            );
        }
    }

    #[test]
    fn an_event_that_no_server_sends_is_an_error() {
        for event in [-1, 0, 5, 6, 7] {
            let mut out = bytes::BytesMut::new();
            let mut writer = Writer::new(&mut out);
            writer.i32(event);
            writer.i32(3);
            writer.string("/a");
            assert_eq!(
                WatcherEvent::decode(&out),
                Err(DecodeError::BadValue {
                    field: "type",
                    value: event.into()
                })
            );
        }
    }
}
