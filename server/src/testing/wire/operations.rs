//! One method per operation: it sends the request, waits for the reply and takes it apart.
//!
//! Each panics as [`WireClient::call`] does, and returns the error code of the reply.

use std::borrow::Cow;

use quorate_proto::multi::{MultiOp, MultiRead, MultiReadOp, MultiRequest, MultiResult};
use quorate_proto::request::{
    AuthPacket, Create, CreateTtl, PathVersion, PathWatch, Reconfig, SaslToken, SetData,
};
use quorate_proto::{
    Acl, AclRef, AddWatchMode, CreateMode, ErrorCode, OpCode, Reply, Request, SetWatches,
    SetWatches2, Stat, Version, WatcherType,
};

use super::{Response, WireClient};

/// The result of one operation of a `multi` or `multiRead`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpOutcome {
    /// A znode was created; the Stat is missing from the answer to a plain `create`.
    Created {
        /// The full path.
        path: String,
        /// As of this operation.
        stat: Option<Stat>,
    },
    /// A znode was deleted.
    Deleted,
    /// Data was set; the Stat is as of this operation.
    Set(Stat),
    /// The version was as expected.
    Checked,
    /// What `getData` found.
    Data(Option<Vec<u8>>, Stat),
    /// What `getChildren` found.
    Children(Vec<String>),
    /// No effect, with the number that stands for why; 0 in front of the one that failed.
    Error(i32),
}

impl From<&MultiResult<'_>> for OpOutcome {
    fn from(result: &MultiResult<'_>) -> OpOutcome {
        match result {
            MultiResult::Create { path } => OpOutcome::Created {
                path: path.to_string(),
                stat: None,
            },
            MultiResult::Create2 { path, stat } => OpOutcome::Created {
                path: path.to_string(),
                stat: Some(*stat),
            },
            MultiResult::Delete => OpOutcome::Deleted,
            MultiResult::SetData(stat) => OpOutcome::Set(*stat),
            MultiResult::Check => OpOutcome::Checked,
            MultiResult::GetData { data, stat } => OpOutcome::Data(data.map(<[u8]>::to_vec), *stat),
            MultiResult::GetChildren(names) => OpOutcome::Children(owned(names)),
            MultiResult::Error(code) => OpOutcome::Error(*code),
        }
    }
}

/// The body of a create with an open ACL.
fn open_create<'a>(path: &'a str, data: &'a [u8], mode: CreateMode) -> Create<'a> {
    Create {
        path: path.into(),
        data: Some(data),
        acl: Some(vec![AclRef {
            perms: quorate_proto::Perms::ALL,
            scheme: Some("world".into()),
            id: Some("anyone".into()),
        }]),
        flags: mode.flags(),
    }
}

fn path_watch(path: &str, watch: bool) -> PathWatch<'_> {
    PathWatch {
        path: path.into(),
        watch,
    }
}

fn path_version(path: &str, version: i32) -> PathVersion<'_> {
    PathVersion {
        path: path.into(),
        version: Version(version),
    }
}

fn owned(texts: &[Cow<'_, str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn borrowed<'a>(texts: &[&'a str]) -> Vec<Cow<'a, str>> {
    texts.iter().map(|&text| Cow::Borrowed(text)).collect()
}

/// Takes the one kind of reply apart that the operation is answered with.
macro_rules! expect_reply {
    ($response:expr, $op:expr, $pattern:pat => $value:expr) => {
        match $response.result($op)? {
            $pattern => Ok($value),
            // `Response::result` reads the body as what the opcode is answered with.
            other => unreachable!("{} answered with {other:?}", $op.name()),
        }
    };
}

#[expect(
    clippy::missing_errors_doc,
    reason = "the module says it once: the code of the reply"
)]
impl WireClient {
    async fn done(&mut self, request: Request<'_>) -> Result<(), ErrorCode> {
        let response = self.call(&request).await;
        response.result(request.op()).map(|_| ())
    }

    async fn stat_of(&mut self, request: Request<'_>) -> Result<Stat, ErrorCode> {
        let response = self.call(&request).await;
        expect_reply!(response, request.op(), Reply::Stat(stat) => stat)
    }

    async fn path_and_stat(&mut self, request: Request<'_>) -> Result<(String, Stat), ErrorCode> {
        let response = self.call(&request).await;
        expect_reply!(response, request.op(), Reply::PathStat(path, stat) => (path.into(), stat))
    }

    /// `ping`.
    pub async fn ping(&mut self) -> Result<(), ErrorCode> {
        self.done(Request::Ping).await
    }

    /// `create` of a persistent znode that is open to all.
    pub async fn create(&mut self, path: &str, data: &[u8]) -> Result<String, ErrorCode> {
        self.create_mode(path, data, CreateMode::Persistent).await
    }

    /// `create` of any mode, open to all.
    pub async fn create_mode(
        &mut self,
        path: &str,
        data: &[u8],
        mode: CreateMode,
    ) -> Result<String, ErrorCode> {
        self.create_as(open_create(path, data, mode)).await
    }

    /// `create` with an ACL.
    pub async fn create_with_acl(
        &mut self,
        path: &str,
        data: &[u8],
        acl: &[Acl],
    ) -> Result<String, ErrorCode> {
        let mut create = open_create(path, data, CreateMode::Persistent);
        create.acl = Some(acl.iter().map(AclRef::from).collect());
        self.create_as(create).await
    }

    /// `create` with any body.
    pub async fn create_as(&mut self, create: Create<'_>) -> Result<String, ErrorCode> {
        let response = self.call(&Request::Create(create)).await;
        expect_reply!(response, OpCode::Create, Reply::Path(path) => path.into())
    }

    /// `create2`, open to all.
    pub async fn create2(
        &mut self,
        path: &str,
        data: &[u8],
        mode: CreateMode,
    ) -> Result<(String, Stat), ErrorCode> {
        let create = open_create(path, data, mode);
        self.path_and_stat(Request::Create2(create)).await
    }

    /// `createContainer`, open to all.
    pub async fn create_container(&mut self, path: &str) -> Result<(String, Stat), ErrorCode> {
        let create = open_create(path, b"", CreateMode::Container);
        self.path_and_stat(Request::CreateContainer(create)).await
    }

    /// `createTTL`, open to all.
    pub async fn create_ttl(
        &mut self,
        path: &str,
        data: &[u8],
        mode: CreateMode,
        ttl_ms: i64,
    ) -> Result<(String, Stat), ErrorCode> {
        let create = open_create(path, data, mode);
        self.path_and_stat(Request::CreateTtl(CreateTtl { create, ttl_ms }))
            .await
    }

    /// `delete`; -1 is any version.
    pub async fn delete(&mut self, path: &str, version: i32) -> Result<(), ErrorCode> {
        self.done(Request::Delete(path_version(path, version)))
            .await
    }

    /// `deleteContainer`.
    pub async fn delete_container(&mut self, path: &str) -> Result<(), ErrorCode> {
        let path = path.into();
        self.done(Request::DeleteContainer { path }).await
    }

    /// `exists`.
    pub async fn exists(&mut self, path: &str, watch: bool) -> Result<Stat, ErrorCode> {
        self.stat_of(Request::Exists(path_watch(path, watch))).await
    }

    /// `getData`; the data may be null.
    pub async fn get_data(
        &mut self,
        path: &str,
        watch: bool,
    ) -> Result<(Option<Vec<u8>>, Stat), ErrorCode> {
        let request = Request::GetData(path_watch(path, watch));
        let response = self.call(&request).await;
        expect_reply!(response, OpCode::GetData,
            Reply::DataStat(data, stat) => (data.map(<[u8]>::to_vec), stat))
    }

    /// `setData`; -1 is any version.
    pub async fn set_data(
        &mut self,
        path: &str,
        data: &[u8],
        version: i32,
    ) -> Result<Stat, ErrorCode> {
        self.stat_of(Request::SetData(SetData {
            path: path.into(),
            data: Some(data),
            version: Version(version),
        }))
        .await
    }

    /// `getACL`.
    ///
    /// # Panics
    /// If a scheme or id is null, besides the usual.
    pub async fn get_acl(&mut self, path: &str) -> Result<(Vec<Acl>, Stat), ErrorCode> {
        let path = path.into();
        let response = self.call(&Request::GetAcl { path }).await;
        let entry = |entry: &AclRef<'_>| entry.to_acl().expect("servers send no null ids");
        expect_reply!(response, OpCode::GetAcl,
            Reply::AclStat(acl, stat) => (acl.iter().map(entry).collect(), stat))
    }

    /// `setACL`; -1 is any version of the ACL.
    pub async fn set_acl(
        &mut self,
        path: &str,
        acl: &[Acl],
        version: i32,
    ) -> Result<Stat, ErrorCode> {
        self.stat_of(Request::SetAcl {
            path: path.into(),
            acl: Some(acl.iter().map(AclRef::from).collect()),
            version: Version(version),
        })
        .await
    }

    /// `getChildren`.
    pub async fn get_children(
        &mut self,
        path: &str,
        watch: bool,
    ) -> Result<Vec<String>, ErrorCode> {
        let request = Request::GetChildren(path_watch(path, watch));
        let response = self.call(&request).await;
        expect_reply!(response, OpCode::GetChildren, Reply::Children(names) => owned(&names))
    }

    /// `getChildren2`.
    pub async fn get_children2(
        &mut self,
        path: &str,
        watch: bool,
    ) -> Result<(Vec<String>, Stat), ErrorCode> {
        let request = Request::GetChildren2(path_watch(path, watch));
        let response = self.call(&request).await;
        expect_reply!(response, OpCode::GetChildren2,
            Reply::ChildrenStat(names, stat) => (owned(&names), stat))
    }

    /// `getAllChildrenNumber`.
    pub async fn get_all_children_number(&mut self, path: &str) -> Result<i32, ErrorCode> {
        let path = path.into();
        let response = self.call(&Request::GetAllChildrenNumber { path }).await;
        expect_reply!(response, OpCode::GetAllChildrenNumber, Reply::TotalNumber(n) => n)
    }

    /// `getEphemerals`.
    pub async fn get_ephemerals(&mut self, prefix: &str) -> Result<Vec<String>, ErrorCode> {
        let prefix = Some(prefix.into());
        let response = self.call(&Request::GetEphemerals { prefix }).await;
        expect_reply!(response, OpCode::GetEphemerals, Reply::Children(paths) => owned(&paths))
    }

    /// `sync`.
    pub async fn sync(&mut self, path: &str) -> Result<Option<String>, ErrorCode> {
        let path = Some(path.into());
        let response = self.call(&Request::Sync { path }).await;
        expect_reply!(response, OpCode::Sync, Reply::Sync(path) => path.map(Cow::into_owned))
    }

    /// `multi`.
    pub async fn multi(&mut self, ops: Vec<MultiOp<'_>>) -> Result<Vec<OpOutcome>, ErrorCode> {
        let response = self.call(&Request::Multi(MultiRequest { ops })).await;
        outcomes(&response, OpCode::Multi)
    }

    /// `multiRead`.
    pub async fn multi_read(
        &mut self,
        ops: Vec<MultiReadOp<'_>>,
    ) -> Result<Vec<OpOutcome>, ErrorCode> {
        let response = self.call(&Request::MultiRead(MultiRead { ops })).await;
        outcomes(&response, OpCode::MultiRead)
    }

    /// `reconfig`.
    pub async fn reconfig(
        &mut self,
        reconfig: Reconfig<'_>,
    ) -> Result<(Option<Vec<u8>>, Stat), ErrorCode> {
        let response = self.call(&Request::Reconfig(reconfig)).await;
        expect_reply!(response, OpCode::Reconfig,
            Reply::DataStat(data, stat) => (data.map(<[u8]>::to_vec), stat))
    }

    /// `addWatch`.
    ///
    /// # Panics
    /// If the number in the body is not 0, besides the usual.
    pub async fn add_watch(&mut self, path: &str, mode: AddWatchMode) -> Result<(), ErrorCode> {
        let path = path.into();
        let response = self.call(&Request::AddWatch { path, mode }).await;
        expect_reply!(response, OpCode::AddWatch, Reply::AddWatch(err) => assert_eq!(err, 0))
    }

    /// `checkWatches`.
    pub async fn check_watches(&mut self, path: &str, kind: WatcherType) -> Result<(), ErrorCode> {
        let path = path.into();
        self.done(Request::CheckWatches { path, kind }).await
    }

    /// `removeWatches`.
    pub async fn remove_watches(&mut self, path: &str, kind: WatcherType) -> Result<(), ErrorCode> {
        let path = path.into();
        self.done(Request::RemoveWatches { path, kind }).await
    }

    /// `setWatches`.
    pub async fn set_watches(&mut self, watches: SetWatches<'_>) -> Result<(), ErrorCode> {
        self.done(Request::SetWatches(watches)).await
    }

    /// `setWatches2` of persistent watches alone.
    pub async fn set_persistent_watches(
        &mut self,
        persistent: &[&str],
        recursive: &[&str],
    ) -> Result<(), ErrorCode> {
        let none = || SetWatches {
            relative_zxid: quorate_proto::Zxid::ZERO,
            data: Vec::new(),
            exist: Vec::new(),
            child: Vec::new(),
        };
        self.set_watches2(SetWatches2 {
            one_shot: none(),
            persistent: borrowed(persistent),
            persistent_recursive: borrowed(recursive),
        })
        .await
    }

    /// `setWatches2`.
    pub async fn set_watches2(&mut self, watches: SetWatches2<'_>) -> Result<(), ErrorCode> {
        self.done(Request::SetWatches2(watches)).await
    }

    /// `auth`. After an error the server closes the connection.
    pub async fn auth(&mut self, scheme: &str, auth: &[u8]) -> Result<(), ErrorCode> {
        self.done(Request::Auth(AuthPacket {
            kind: 0,
            scheme: Some(scheme.into()),
            auth: Some(auth),
        }))
        .await
    }

    /// `sasl`.
    pub async fn sasl(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>, ErrorCode> {
        let request = Request::Sasl(SaslToken(Some(token)));
        let response = self.call(&request).await;
        expect_reply!(response, OpCode::Sasl, Reply::Sasl(token) => token.0.map(<[u8]>::to_vec))
    }

    /// `whoAmI`: scheme and user of each identity.
    pub async fn who_am_i(&mut self) -> Result<Vec<(String, String)>, ErrorCode> {
        let response = self.call(&Request::WhoAmI).await;
        expect_reply!(response, OpCode::WhoAmI, Reply::WhoAmI(infos) => infos
            .into_iter()
            .map(|info| (info.scheme.into_owned(), info.user.into_owned()))
            .collect())
    }

    /// `closeSession`; then the server closes the connection, which [`WireClient::closed`] awaits.
    pub async fn close_session(&mut self) -> Result<(), ErrorCode> {
        self.done(Request::CloseSession).await
    }
}

fn outcomes(response: &Response, op: OpCode) -> Result<Vec<OpOutcome>, ErrorCode> {
    expect_reply!(response, op, Reply::Multi(results) => {
        results.iter().map(OpOutcome::from).collect()
    })
}
