//! What a watch reports.

/// The kinds of event that a server sends. Others on the wire kill clients' readers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum EventType {
    /// The znode came into being.
    NodeCreated = 1,
    /// The znode is gone.
    NodeDeleted = 2,
    /// The znode's data was set.
    NodeDataChanged = 3,
    /// A child was created or deleted.
    NodeChildrenChanged = 4,
}

impl EventType {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The event with this number.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<EventType> {
        match code {
            1 => Some(EventType::NodeCreated),
            2 => Some(EventType::NodeDeleted),
            3 => Some(EventType::NodeDataChanged),
            4 => Some(EventType::NodeChildrenChanged),
            _ => None,
        }
    }
}

/// The session state in a notification. A server only ever sends `SyncConnected`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
pub enum KeeperState {
    /// Not connected.
    Disconnected = 0,
    /// Connected to a server of the quorum.
    SyncConnected = 3,
    /// Credentials were refused.
    AuthFailed = 4,
    /// Connected to a read-only server.
    ConnectedReadOnly = 5,
    /// SASL is done.
    SaslAuthenticated = 6,
    /// Closed by the client.
    Closed = 7,
    /// The session expired.
    Expired = -112,
}

impl KeeperState {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The state with this number.
    #[must_use]
    pub const fn from_code(code: i32) -> Option<KeeperState> {
        match code {
            0 => Some(KeeperState::Disconnected),
            3 => Some(KeeperState::SyncConnected),
            4 => Some(KeeperState::AuthFailed),
            5 => Some(KeeperState::ConnectedReadOnly),
            6 => Some(KeeperState::SaslAuthenticated),
            7 => Some(KeeperState::Closed),
            -112 => Some(KeeperState::Expired),
            _ => None,
        }
    }
}
