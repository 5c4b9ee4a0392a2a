//! `quorate export-datadir`: the way back to Apache ZooKeeper.

use quorate_server::snapshot::zookeeper::ExportOptions;
use quorate_server::{Config, ExportDataDirError};

use crate::cli::ExportArgs;
use crate::codes;
use crate::failure::Failure;

pub(crate) fn run(args: &ExportArgs) -> Result<(), Failure> {
    let mut config = match &args.config {
        Some(file) => crate::config::load(file)?.config,
        None => Config::default(),
    };
    if let Some(dir) = &args.data_dir {
        config.data_dir.clone_from(dir);
    }
    crate::logging::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(&codes::UNEXPECTED, "cannot start threads").detail(error.to_string())
        })?;
    let options = ExportOptions::default();
    let exported = quorate_server::export_datadir(config, &args.to, &options);
    let report = runtime
        .block_on(exported)
        .map_err(|error| failure(&error))?;
    for warning in &report.warnings {
        crate::say(&format!("warning: {warning}"));
    }
    crate::say(&format!(
        "{} znodes and {} sessions up to zxid {:#x}: Apache ZooKeeper can start with dataDir={}",
        report.znodes,
        report.sessions,
        report.zxid,
        args.to.display()
    ));
    crate::data(&format!("{}\n", report.snapshot.display()))
}

/// What cannot be opened fails as it does for a server.
fn failure(error: &ExportDataDirError) -> Failure {
    match error {
        ExportDataDirError::Open(start) => crate::server::failure(start),
        ExportDataDirError::NoData(_) => Failure::from_error(&codes::EXPORT, error)
            .help("name the directory that the server ran with: --data-dir DIR or --config FILE"),
        _ => Failure::from_error(&codes::EXPORT, error)
            .help("name a directory with --to that is missing or empty, on a disk with room"),
    }
}
