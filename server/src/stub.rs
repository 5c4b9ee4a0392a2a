//! TEMPORARY, to be replaced by `node`: the entry point that the `quorate` command is written
//! against. It opens the data directory and the client port, and serves nobody.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::config::Config;

/// A running server.
#[derive(Debug)]
pub struct Server {
    listener: Option<TcpListener>,
}

/// Why a server did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be made, read or written.
    #[error("data directory {} cannot be used", path.display())]
    DataDir {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The client port cannot be opened.
    #[error("cannot listen on {addr}")]
    Bind {
        /// Where.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// [`StartError`] names the part that failed.
    #[expect(clippy::unused_async, reason = "the real one waits")]
    pub async fn start(config: Config) -> Result<Server, StartError> {
        let dir = &config.data_dir;
        let made = if config.data_dir_autocreate {
            std::fs::create_dir_all(dir)
        } else {
            std::fs::metadata(dir).map(drop)
        };
        made.map_err(|source| StartError::DataDir {
            path: dir.clone(),
            source,
        })?;
        let listener = config
            .client_addr
            .map(|addr| TcpListener::bind(addr).map_err(|source| StartError::Bind { addr, source }))
            .transpose()?;
        Ok(Server { listener })
    }

    /// Where clients connect.
    #[must_use]
    pub fn client_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Stops in order.
    #[expect(clippy::unused_async, reason = "the real one waits")]
    pub async fn stop(self) {}

    /// Waits until the server stops by itself.
    ///
    /// # Errors
    /// What made it stop.
    pub async fn wait(&self) -> Result<(), StartError> {
        std::future::pending().await
    }
}

/// What an export wrote.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExportReport {
    /// The snapshot file.
    pub snapshot: PathBuf,
    /// Znodes in it.
    pub znodes: u64,
    /// Sessions in it.
    pub sessions: u64,
    /// The last transaction in it.
    pub zxid: i64,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// There is nothing to export.
    #[error("{} holds no data of a Quorate server", path.display())]
    NoData {
        /// Where it was looked for.
        path: PathBuf,
    },
}

/// Writes a dataDir that Apache ZooKeeper starts from.
///
/// # Errors
/// [`ExportError`].
pub fn export_datadir(config: &Config, _target: &Path) -> Result<ExportReport, ExportError> {
    Err(ExportError::NoData {
        path: config.data_dir.clone(),
    })
}
