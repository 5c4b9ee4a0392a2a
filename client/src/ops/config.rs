//! The ensemble's configuration: getData of `/zookeeper/config`, and reconfig.

use bytes::Bytes;
use quorate_proto::request::PathWatch;
use quorate_proto::{OpCode, Reply, Request, Stat, path, request};

use super::{detach, limited_in_time, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::Result;
use crate::session::Response;

impl Client {
    /// Reads the ensemble's configuration, wherever this handle's [`root`](Client::root) is.
    ///
    /// # Errors
    /// Those of the connection only.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `getConfig`; Curator `getConfig()`.
    pub fn config(&self) -> Call<EnsembleConfig> {
        let operation = Operation::new(self, "getConfig", path::CONFIG, Repeat::Freely);
        let request = |operation: &Operation| {
            let request = PathWatch {
                path: path::CONFIG.into(),
                watch: false,
            };
            operation.submit(&Request::GetData(request), None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, |operation, response| {
            config(operation, OpCode::GetData, response)
        }))
    }

    /// Changes the ensemble's members. Say who joins and leaves, or who all are to be.
    ///
    /// # Errors
    /// `ReconfigDisabled`, `ReconfigInProgress`, `NewConfigNoQuorum`, [`Error::is_bad_version`]
    /// and [`Error::NotAllowed`], as the server's own.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `reconfig`; Curator `reconfig()`; kazoo `reconfig`.
    ///
    /// [`Error::is_bad_version`]: crate::Error::is_bad_version
    /// [`Error::NotAllowed`]: crate::Error::NotAllowed
    pub fn reconfig(&self) -> Reconfig {
        Reconfig {
            operation: Operation::new(self, "reconfig", "", Repeat::OnlyIfItDidNotHappen),
            joining: None,
            leaving: None,
            members: None,
            version: -1,
        }
    }
}

/// The ensemble's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EnsembleConfig {
    /// As the server keeps it.
    pub data: Bytes,
    /// The `Stat` of `/zookeeper/config`.
    pub stat: Stat,
    /// Its version; `None` if the text has none.
    pub version: Option<i64>,
    /// The lines `server.<id>=…`, in their order.
    pub members: Vec<EnsembleMember>,
}

/// One server of an ensemble.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct EnsembleMember {
    /// Its number.
    pub id: u64,
    /// What stands behind the equals sign: `host:port:port:role;clientHost:clientPort`.
    pub spec: String,
}

impl EnsembleConfig {
    fn parse(data: Bytes, stat: Stat) -> EnsembleConfig {
        let text = String::from_utf8_lossy(&data);
        let mut version = None;
        let mut members = Vec::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let (name, value) = (name.trim(), value.trim());
            if name == "version" {
                version = i64::from_str_radix(value, 16).ok();
            } else if let Some(Ok(id)) = name.strip_prefix("server.").map(str::parse) {
                let spec = value.to_owned();
                members.push(EnsembleMember { id, spec });
            }
        }
        EnsembleConfig {
            stat,
            version,
            members,
            data,
        }
    }
}

fn config(operation: &Operation, op: OpCode, response: Response) -> Result<EnsembleConfig> {
    match operation.read(op, &response)? {
        Reply::DataStat(data, stat) => {
            let data = detach(&response.body, data.unwrap_or_default());
            Ok(EnsembleConfig::parse(data, stat))
        }
        _ => Err(operation.misshapen(&response)),
    }
}

/// Changes the ensemble's members; see [`Client::reconfig`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct Reconfig {
    operation: Operation,
    joining: Option<String>,
    leaving: Option<String>,
    members: Option<String>,
    version: i64,
}

impl Reconfig {
    /// Lines `server.<id>=…` of who joins or changes, separated by commas.
    pub fn joining(mut self, servers: impl Into<String>) -> Reconfig {
        self.joining = Some(servers.into());
        self
    }

    /// Numbers of who leaves, separated by commas.
    pub fn leaving(mut self, ids: impl Into<String>) -> Reconfig {
        self.leaving = Some(ids.into());
        self
    }

    /// Lines of all who are to be members, separated by commas; instead of the other two.
    pub fn members(mut self, servers: impl Into<String>) -> Reconfig {
        self.members = Some(servers.into());
        self
    }

    /// Only if the configuration has this version.
    pub fn version(mut self, version: i64) -> Reconfig {
        self.version = version;
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<EnsembleConfig> {
        let Reconfig {
            operation,
            joining,
            leaving,
            members,
            version,
        } = self;
        let request = move |operation: &Operation| {
            let request = request::Reconfig {
                joining: joining.as_deref().map(Into::into),
                leaving: leaving.as_deref().map(Into::into),
                new_members: members.as_deref().map(Into::into),
                config_id: version,
            };
            operation.submit(&Request::Reconfig(request), None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, |operation, response| {
            config(operation, OpCode::Reconfig, response)
        }))
    }
}

limited_in_time!(Reconfig);
sent_when_awaited!(Reconfig => EnsembleConfig);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_line_by_line() {
        let text = "server.1=a:1:2:participant;0.0.0.0:2181\nserver.x=?\nserver.2=b:1:2\n\
                    version=10000000a";
        let config = EnsembleConfig::parse(Bytes::from_static(text.as_bytes()), Stat::default());
        assert_eq!(config.version, Some(0x1_0000_000a));
        let ids: Vec<u64> = config.members.iter().map(|member| member.id).collect();
        assert_eq!(ids, [1, 2]);
        assert_eq!(config.members[1].spec, "b:1:2");
        let nothing = EnsembleConfig::parse(Bytes::from_static(b"\xff"), Stat::default());
        assert_eq!((nothing.version, nothing.members.len()), (None, 0));
    }
}
