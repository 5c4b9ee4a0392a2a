//! TLS to the servers, with rustls.
//!
//! Job: turn what the user gave (PEM files or bytes) into a checked [`TlsConfig`], shake hands.
//! Not here: sockets, retries, what the server side accepts.
//!
//! Invariants: only the authorities given are trusted, never the system's; the cryptography is
//! ring's and passed explicitly, so that a program with another process-wide default is not
//! disturbed; the certificate's chain, validity and signatures are always checked, and its name
//! unless [`TlsOptions::without_hostname_check`] was called.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use self::unnamed::AnyName;

mod unnamed;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How to speak TLS with the servers: whom to trust, and who we are.
///
/// At least one authority is needed; the system's are not trusted, because an ensemble's
/// certificates come from its operator. Certificates and keys are PEM, what the user of Java
/// gets with `keytool -exportcert -rfc` or `openssl pkcs12`.
///
/// ```
/// use quorate_client::TlsOptions;
///
/// let tls = TlsOptions::new()
///     .ca_file("/etc/zk/ca.pem")
///     .client_files("/etc/zk/client.pem", "/etc/zk/client.key");
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct TlsOptions {
    authorities: Vec<Pem>,
    client: Option<(Pem, Pem)>,
    server_name: Option<String>,
    hostname_check: HostnameCheck,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum HostnameCheck {
    #[default]
    On,
    Off,
}

/// Where PEM text comes from; files are read when the client is built.
#[derive(Clone)]
enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl TlsOptions {
    /// Trusts nobody yet, shows no certificate.
    pub fn new() -> TlsOptions {
        TlsOptions::default()
    }

    /// Trusts the authorities in this PEM text, besides those given before.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> TlsOptions {
        self.authorities.push(Pem::Bytes(pem.into()));
        self
    }

    /// Trusts the authorities in this PEM file, besides those given before.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> TlsOptions {
        self.authorities
            .push(Pem::File(path.as_ref().to_path_buf()));
        self
    }

    /// Shows this certificate, with its chain (own one first), to servers that ask for one.
    /// ZooKeeper's servers do by default (`ssl.clientAuth=need`).
    pub fn client_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> TlsOptions {
        self.client = Some((Pem::Bytes(chain.into()), Pem::Bytes(key.into())));
        self
    }

    /// As [`client_pem`](Self::client_pem), from files. The key must not be encrypted.
    pub fn client_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> TlsOptions {
        let file = |path: &Path| Pem::File(path.to_path_buf());
        self.client = Some((file(chain.as_ref()), file(key.as_ref())));
        self
    }

    /// Expects this name in every server's certificate, whatever name or address was dialled.
    pub fn server_name(mut self, name: impl Into<String>) -> TlsOptions {
        self.server_name = Some(name.into());
        self
    }

    /// Accepts a server's certificate for any name, as kazoo does by default.
    ///
    /// Still only certificates of the authorities given are accepted: use an authority that
    /// signs nothing but the ensemble, for every holder of one of its certificates can now pose
    /// as a server.
    pub fn without_hostname_check(mut self) -> TlsOptions {
        self.hostname_check = HostnameCheck::Off;
        self
    }

    /// Reads the files and checks everything that can be checked without a server.
    pub(crate) fn build(&self) -> Result<TlsConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(self.roots()?);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match self.hostname_check {
            HostnameCheck::On => builder.with_root_certificates(roots),
            HostnameCheck::Off => builder
                .dangerous()
                .with_custom_certificate_verifier(any_name(roots, provider)?),
        };
        let config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let origin = key.to_string();
                let (chain, key) = (chain.certificates()?, key.private_key()?);
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| TlsError::BadKey {
                        origin,
                        source: source.into(),
                    })?
            }
        };
        let server_name = match &self.server_name {
            None => None,
            Some(name) => Some(parse_name(name).map_err(|source| TlsError::BadServerName {
                name: name.clone(),
                source: source.into(),
            })?),
        };
        Ok(TlsConfig {
            connector: TlsConnector::from(Arc::new(config)),
            server_name,
        })
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for pem in &self.authorities {
            for authority in pem.certificates()? {
                roots
                    .add(authority)
                    .map_err(|source| TlsError::BadCertificate {
                        origin: pem.to_string(),
                        source: source.into(),
                    })?;
            }
        }
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        Ok(roots)
    }
}

fn any_name(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<AnyName>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(unusable)?;
    Ok(Arc::new(AnyName::new(verifier)))
}

fn unusable(source: impl Into<BoxError>) -> TlsError {
    TlsError::Unusable {
        source: source.into(),
    }
}

/// The name that a certificate must carry. A zone belongs to this machine, not to the name.
fn parse_name(host: &str) -> Result<ServerName<'static>, rustls_pki_types::InvalidDnsNameError> {
    let host = host
        .split_once('%')
        .map_or(host, |(address, _zone)| address);
    ServerName::try_from(host.to_owned())
}

/// Hides keys; certificates given as bytes are long and say little.
impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("authorities", &self.authorities)
            .field("client", &self.client)
            .field("server_name", &self.server_name)
            .field("hostname_check", &self.hostname_check)
            .finish()
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => write!(f, "{}", path.display()),
            Pem::Bytes(_) => f.write_str("the PEM text given"),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Pem::Bytes(bytes) => Ok(bytes.clone()),
            Pem::File(path) => std::fs::read(path).map_err(|source| TlsError::Unreadable {
                path: path.clone(),
                source,
            }),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let text = self.read()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|source| TlsError::BadPem {
            origin: self.to_string(),
            source: source.into(),
        })?;
        if found.is_empty() {
            return Err(TlsError::NoCertificate {
                origin: self.to_string(),
            });
        }
        Ok(found)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.read()?).map_err(|source| TlsError::NoKey {
            origin: self.to_string(),
            source: source.into(),
        })
    }
}

/// What TLS needs, checked.
#[derive(Clone)]
pub(crate) struct TlsConfig {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl TlsConfig {
    /// Proves the two sides to each other. Cancel safe: a dropped handshake closes the socket.
    pub(crate) async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => parse_name(host)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        self.connector.connect(name, stream).await
    }
}

/// Whether a failed handshake is one of certificates: the server's as we judge it, or ours as the
/// server does.
pub(crate) fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    use tokio_rustls::rustls::{AlertDescription, Error};
    match error.downcast_ref() {
        Some(Error::InvalidCertificate(_)) => true,
        Some(Error::AlertReceived(alert)) => matches!(
            alert,
            AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::CertificateRequired
                | AlertDescription::DecryptError
        ),
        _ => false,
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Why [`TlsOptions`] cannot be used. Nothing was sent to any server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No authority was given: no server could ever be trusted.
    #[error("no certificate authority was given")]
    NoAuthority,
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What should be PEM is none.
    #[error("{origin} is not PEM")]
    BadPem {
        /// The file, or that it was given as text.
        origin: String,
        /// What is wrong.
        source: BoxError,
    },
    /// PEM without a certificate, for instance a key.
    #[error("no certificate in {origin}")]
    NoCertificate {
        /// The file, or that it was given as text.
        origin: String,
    },
    /// An authority's certificate cannot be read.
    #[error("bad certificate in {origin}")]
    BadCertificate {
        /// The file, or that it was given as text.
        origin: String,
        /// What is wrong.
        source: BoxError,
    },
    /// No private key that is not encrypted (PKCS #8, PKCS #1 or SEC 1).
    #[error("no unencrypted private key in {origin}")]
    NoKey {
        /// The file, or that it was given as text.
        origin: String,
        /// What is wrong.
        source: BoxError,
    },
    /// The key is of an unknown kind, or belongs to another certificate.
    #[error("the private key in {origin} does not serve the client certificate")]
    BadKey {
        /// The file, or that it was given as text.
        origin: String,
        /// What is wrong.
        source: BoxError,
    },
    /// What should be a server's name is neither a DNS name nor an address.
    #[error("{name:?} is no server name")]
    BadServerName {
        /// What was given.
        name: String,
        /// What is wrong.
        source: BoxError,
    },
    /// The parts do not make a configuration.
    #[error("the TLS options cannot be used")]
    Unusable {
        /// Why.
        source: BoxError,
    },
}

#[cfg(test)]
mod tests;
