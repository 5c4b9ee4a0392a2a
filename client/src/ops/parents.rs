//! Parents that are made on the way.

use quorate_proto::{ErrorCode, Request, path};

use super::kind::{Kind, WireKind};
use crate::call::Operation;
use crate::error::{Error, Result};

/// What parents are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parents {
    Persistent,
    /// Persistent where the server has no containers.
    Container,
}

impl Parents {
    fn kind(self) -> Kind {
        Kind {
            is_container: self == Parents::Container,
            ..Kind::default()
        }
    }
}

/// Makes the znode at `full`, a server's path, and whatever is missing above it. That one exists
/// is as good. Somebody who deletes them meanwhile may win: then the error is `NoNode`.
pub(crate) async fn make(operation: &Operation, full: &str, mut parents: Parents) -> Result<()> {
    let depth = full.split('/').count();
    let mut missing = vec![full];
    // Without anybody's interference each level is asked for twice at most; once more if the
    // server knows no containers.
    let mut steps_left = 2 * depth + 2;
    while let Some(&at) = missing.last() {
        let Some(left) = steps_left.checked_sub(1) else {
            return Err(Error::from_code(ErrorCode::NoNode, operation.context("")));
        };
        steps_left = left;
        let Err(error) = make_one(operation, at, parents).await else {
            missing.pop();
            continue;
        };
        match error.code() {
            Some(ErrorCode::NodeExists) => drop(missing.pop()),
            Some(ErrorCode::Unimplemented) if parents == Parents::Container => {
                parents = Parents::Persistent;
            }
            Some(ErrorCode::NoNode) => match path::parent(at) {
                Some(parent) if parent != path::ROOT => missing.push(parent),
                _ => return Err(error),
            },
            _ => return Err(error),
        }
    }
    Ok(())
}

async fn make_one(operation: &Operation, full: &str, parents: Parents) -> Result<()> {
    let client = &operation.client;
    // The provider knows paths below the root, and nothing about what stands above.
    let below = match client.root.as_path() {
        path::ROOT => full,
        root if full.len() > root.len() => client.root.strip(full),
        _ => path::ROOT,
    };
    let acl = client.inner.acl_for(below);
    let kind: WireKind = parents.kind().check().unwrap_or(WireKind::PERSISTENT);
    let request: Request<'_> = kind.request(full, &[], &acl);
    operation.write_freely(&request).await.map(drop)
}
