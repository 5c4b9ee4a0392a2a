//! What kind of znode a create asks for, and how that is said on the wire.

use std::borrow::Cow;
use std::time::Duration;

use quorate_proto::{Acl, AclRef, CreateMode, OpCode, Request, is_valid_ttl, path, request};

use crate::call::Operation;
use crate::error::{Error, Reason, Result};
use crate::path::PathArg;

/// The options of a create, as they were called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Kind {
    pub(crate) is_ephemeral: bool,
    pub(crate) is_sequential: bool,
    pub(crate) is_container: bool,
    pub(crate) ttl: Option<Duration>,
}

/// The options as the server takes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WireKind {
    pub(crate) mode: CreateMode,
    pub(crate) ttl_ms: i64,
}

impl Kind {
    /// Says which options exclude each other.
    pub(crate) fn check(self) -> std::result::Result<WireKind, &'static str> {
        let mode = match (self.is_ephemeral, self.is_sequential) {
            (false, false) => CreateMode::Persistent,
            (true, false) => CreateMode::Ephemeral,
            (false, true) => CreateMode::PersistentSequential,
            (true, true) => CreateMode::EphemeralSequential,
        };
        if self.is_container {
            return match (mode, self.ttl) {
                (CreateMode::Persistent, None) => Ok(WireKind {
                    mode: CreateMode::Container,
                    ttl_ms: 0,
                }),
                _ => Err("a container is neither ephemeral nor sequential and has no TTL"),
            };
        }
        let Some(ttl) = self.ttl else {
            return Ok(WireKind { mode, ttl_ms: 0 });
        };
        let mode = match mode {
            CreateMode::Persistent => CreateMode::PersistentWithTtl,
            CreateMode::PersistentSequential => CreateMode::PersistentSequentialWithTtl,
            _ => return Err("an ephemeral znode goes with its session and has no TTL"),
        };
        match i64::try_from(ttl.as_millis()) {
            Ok(ttl_ms) if is_valid_ttl(ttl_ms) => Ok(WireKind { mode, ttl_ms }),
            _ => Err("a TTL is at least one millisecond, and at most some 34 years"),
        }
    }
}

impl WireKind {
    pub(crate) const PERSISTENT: WireKind = WireKind {
        mode: CreateMode::Persistent,
        ttl_ms: 0,
    };

    pub(crate) const fn op(self) -> OpCode {
        match self.mode {
            CreateMode::Container => OpCode::CreateContainer,
            CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl => {
                OpCode::CreateTtl
            }
            _ => OpCode::Create2,
        }
    }

    pub(crate) fn body<'a>(
        self,
        path: &'a str,
        data: &'a [u8],
        acl: &'a [Acl],
    ) -> request::Create<'a> {
        request::Create {
            path: Cow::Borrowed(path),
            data: Some(data),
            acl: Some(acl.iter().map(AclRef::from).collect()),
            flags: self.mode.flags(),
        }
    }

    pub(crate) fn request<'a>(self, path: &'a str, data: &'a [u8], acl: &'a [Acl]) -> Request<'a> {
        let create = self.body(path, data, acl);
        match self.op() {
            OpCode::CreateContainer => Request::CreateContainer(create),
            OpCode::CreateTtl => Request::CreateTtl(request::CreateTtl {
                create,
                ttl_ms: self.ttl_ms,
            }),
            _ => Request::Create2(create),
        }
    }
}

/// The server's path of a create: a sequential one may end with a slash, and its name is then
/// nothing but the number.
pub(crate) fn full_path(operation: &Operation, path: &PathArg, kind: Kind) -> Result<String> {
    let root = &operation.client.root;
    let is_prefix = kind.is_sequential && path.as_str().ends_with('/');
    let checked = match is_prefix {
        true => path::validate(&format!("{path}0")),
        false => path.check(),
    };
    checked.map_err(|error| Error::bad_argument(Reason::Path(error), operation.context("")))?;
    Ok(match (is_prefix, root.as_path()) {
        (true, path::ROOT) => path.to_string(),
        (true, root) => format!("{root}{path}"),
        (false, _) => root.full(path.as_str()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Kind = Kind {
        is_ephemeral: false,
        is_sequential: false,
        is_container: false,
        ttl: None,
    };

    #[test]
    fn every_mode_has_one_combination_of_options() {
        let mut seen = Vec::new();
        for bits in 0..16_u8 {
            let kind = Kind {
                is_ephemeral: bits & 1 != 0,
                is_sequential: bits & 2 != 0,
                is_container: bits & 4 != 0,
                ttl: (bits & 8 != 0).then_some(Duration::from_secs(1)),
            };
            if let Ok(wire) = kind.check() {
                assert!(!seen.contains(&wire.mode));
                seen.push(wire.mode);
            }
        }
        assert_eq!(seen.len(), CreateMode::ALL.len());
    }

    #[test]
    fn a_ttl_has_a_range() {
        for (ttl, is_legal) in [
            (Duration::ZERO, false),
            (Duration::from_micros(999), false),
            (Duration::from_millis(1), true),
            (Duration::MAX, false),
        ] {
            let kind = Kind {
                ttl: Some(ttl),
                ..PLAIN
            };
            assert_eq!(kind.check().is_ok(), is_legal, "{ttl:?}");
        }
    }
}
