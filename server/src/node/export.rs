//! A stopped server's data, as a `dataDir` for Apache ZooKeeper.

use std::path::Path;
use std::sync::Arc;

use quorate_proto::{Acl, EventType, Zxid};

use super::error::StartError;
use super::runtimes::Runtimes;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::disk::real::RealDisk;
use crate::metrics::Metrics;
use crate::replication::{Deliver, NoJudge, Replication};
use crate::snapshot::zookeeper::{self, ExportError, ExportOptions, ExportReport};
use crate::tree::txn::{Proposal, Verdict};

/// Why a stopped server's data were not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportDataDirError {
    /// The data cannot be opened.
    #[error(transparent)]
    Open(#[from] StartError),
    /// There is nothing to export.
    #[error("{} holds no data of a Quorate server", .0.display())]
    NoData(std::path::PathBuf),
    /// The export cannot be written.
    #[error(transparent)]
    Write(#[from] ExportError),
}

/// Nobody is connected while data are exported.
struct Nobody;

impl Deliver for Nobody {
    fn change(&mut self, _: Zxid, _: EventType, _: &str, _: &[Acl]) {}
    fn outcome(&mut self, _: &Proposal<'_>, _: &Verdict) {}
    fn turn_done(&mut self) {}
    fn skipped(&mut self) {}
    fn lost(&mut self) {}
}

/// Writes the data of a stopped server into `target`, which must be missing or empty, in the form
/// that Apache ZooKeeper boots from.
///
/// The store is opened as a server would open it: everything acknowledged is in the export, and
/// the zxid of the export begins a new epoch. No client is served meanwhile.
///
/// # Errors
/// [`ExportDataDirError`]; the store can still be started from.
pub async fn export_datadir(
    mut config: Config,
    target: &Path,
    options: &ExportOptions,
) -> Result<ExportReport, ExportDataDirError> {
    if !Replication::has_store(&config) {
        return Err(ExportDataDirError::NoData(config.data_dir));
    }
    config.client_addr = None;
    let runtimes = Runtimes::new().map_err(StartError::Runtime)?;
    let replication = Replication::start(
        &config,
        Arc::new(RealDisk),
        SystemClock::shared(),
        Arc::new(Metrics::default()),
        |_| Box::new(Nobody),
        Arc::new(NoJudge),
        None,
        runtimes.raft().clone(),
    )
    .await
    .map_err(StartError::from)?;
    let report = zookeeper::export(replication.state(), target, options);
    replication.stop().await;
    Ok(report?)
}
