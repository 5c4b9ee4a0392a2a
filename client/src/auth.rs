//! Who we are, and who may do what with the znodes we create.
//!
//! Job: credentials and where they come from; ACLs per path. Not here: sending them (the session
//! does, on every new connection), SASL (`sasl`), the hashing of `digest` ids in ACLs.
//!
//! Invariant: no `Debug` shows a secret.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use quorate_proto::{Acl, Id, Perms};

/// What is sent with an `auth` packet: proof of one identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    scheme: String,
    auth: Bytes,
}

impl Credential {
    /// Proof in the form that the scheme wants.
    pub fn new(scheme: impl Into<String>, auth: impl Into<Bytes>) -> Credential {
        Credential {
            scheme: scheme.into(),
            auth: auth.into(),
        }
    }

    /// User and password for the scheme `digest`. They travel in the clear unless the connection
    /// is TLS. The user contains no colon: what follows the first one is password.
    #[must_use]
    pub fn digest(user: &str, password: &str) -> Credential {
        Credential::new("digest", format!("{user}:{password}"))
    }

    /// No proof of anything: asks a Quorate ensemble to have a quorum prove of each read of this
    /// session that it is current. ZooKeeper does not know the scheme, and ends the session.
    #[must_use]
    pub fn linearizable_reads() -> Credential {
        Credential::new("quorate", "read=linearizable")
    }

    /// `digest`, `ip`, `x509`…
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The proof.
    #[must_use]
    pub fn auth(&self) -> &Bytes {
        &self.auth
    }
}

/// Hides the proof.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// Where credentials come from when they change while a client lives: a vault, a rotated file.
///
/// Implement it with the attribute `#[async_trait]` of the crate `async-trait`: the method then
/// returns a boxed future, and a client can hold any provider.
#[async_trait]
pub trait AuthProvider: Send + Sync + fmt::Debug {
    /// The credentials for a connection that was just made, asked for at every new connection.
    ///
    /// # Errors
    /// Whatever keeps it from answering; the connection attempt then fails and is repeated.
    ///
    /// # Cancel safety
    /// May be dropped at any time, when a connection attempt is given up.
    async fn credentials(
        &self,
    ) -> Result<Vec<Credential>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Always the same credentials.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StaticAuth {
    credentials: Vec<Credential>,
}

impl StaticAuth {
    /// These, in this order.
    pub fn new(credentials: impl IntoIterator<Item = Credential>) -> StaticAuth {
        StaticAuth {
            credentials: credentials.into_iter().collect(),
        }
    }
}

#[async_trait]
impl AuthProvider for StaticAuth {
    async fn credentials(
        &self,
    ) -> Result<Vec<Credential>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.credentials.clone())
    }
}

/// The ACL of a znode that is created without one of its own. Curator's `ACLProvider`.
pub trait AclProvider: Send + Sync + fmt::Debug {
    /// The ACL for the znode at `path`, as the caller of the client names it: without the chroot.
    fn acl_for(&self, path: &str) -> Vec<Acl>;
}

/// Everybody may do everything: `world:anyone:cdrwa`, what ZooKeeper's clients default to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OpenAcl;

impl AclProvider for OpenAcl {
    fn acl_for(&self, _path: &str) -> Vec<Acl> {
        Acl::open_unsafe()
    }
}

/// Only who created a znode may do anything with it: `auth::cdrwa`, which the server replaces by
/// the identities of the connection. Without credentials every create is refused.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CreatorAllAcl;

impl AclProvider for CreatorAllAcl {
    fn acl_for(&self, _path: &str) -> Vec<Acl> {
        vec![Acl {
            perms: Perms::ALL,
            id: Id::new("auth", ""),
        }]
    }
}

/// ACLs by subtree: the one of the longest prefix that is the path or one of its parents.
///
/// ```
/// use quorate_client::{AclByPrefix, AclProvider, CreatorAllAcl, OpenAcl};
///
/// let acls = AclByPrefix::new(OpenAcl).with("/secret", CreatorAllAcl);
/// assert_eq!(acls.acl_for("/secret/a"), CreatorAllAcl.acl_for("/secret/a"));
/// assert_eq!(acls.acl_for("/secretary"), OpenAcl.acl_for("/secretary"));
/// ```
#[derive(Debug)]
#[must_use]
pub struct AclByPrefix {
    elsewhere: Box<dyn AclProvider>,
    /// Longest prefix first.
    subtrees: Vec<(String, Box<dyn AclProvider>)>,
}

impl AclByPrefix {
    /// What counts where no prefix fits.
    pub fn new(elsewhere: impl AclProvider + 'static) -> AclByPrefix {
        AclByPrefix {
            elsewhere: Box::new(elsewhere),
            subtrees: Vec::new(),
        }
    }

    /// What counts for `prefix` and below. The same prefix given again replaces the first.
    pub fn with(
        mut self,
        prefix: impl Into<String>,
        provider: impl AclProvider + 'static,
    ) -> AclByPrefix {
        let mut prefix = prefix.into();
        // `/` stands for everything; without it the comparison below is the same for all.
        prefix.truncate(prefix.trim_end_matches('/').len());
        self.subtrees.retain(|(known, _)| *known != prefix);
        self.subtrees.push((prefix, Box::new(provider)));
        self.subtrees
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self
    }
}

impl AclProvider for AclByPrefix {
    fn acl_for(&self, path: &str) -> Vec<Acl> {
        let covers = |prefix: &str| {
            let below = path.strip_prefix(prefix);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        let fitting = self.subtrees.iter().find(|(prefix, _)| covers(prefix));
        let provider = fitting.map_or(&self.elsewhere, |(_, provider)| provider);
        provider.acl_for(path)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn no_debug_shows_a_secret() {
        let credential = Credential::digest("bob", "hunter2");
        let shown = format!("{credential:?} {:?}", StaticAuth::new([credential.clone()]));
        assert!(
            !shown.contains("hunter2") && !shown.contains("bob"),
            "{shown}"
        );
        // Nor as a list of numbers.
        assert!(!shown.contains("104"), "{shown}");
        assert!(shown.contains("digest"), "{shown}");
    }

    #[test]
    fn digest_joins_user_and_password_with_a_colon() {
        let credential = Credential::digest("bob", "a:b");
        assert_eq!(credential.scheme(), "digest");
        assert_eq!(credential.auth().as_ref(), b"bob:a:b");
    }

    #[test]
    fn static_credentials_keep_their_order() {
        let given = [Credential::digest("a", "1"), Credential::new("ip", "x")];
        let provider: Box<dyn AuthProvider> = Box::new(StaticAuth::new(given.clone()));
        let answer = provider.credentials().now_or_never().unwrap().unwrap();
        assert_eq!(answer, given);
    }

    /// Which of the providers answered, by the perms it grants.
    #[derive(Debug)]
    struct Marked(i32);

    impl AclProvider for Marked {
        fn acl_for(&self, _path: &str) -> Vec<Acl> {
            vec![Acl {
                perms: Perms(self.0),
                id: Id::anyone(),
            }]
        }
    }

    fn mark(provider: &dyn AclProvider, path: &str) -> i32 {
        provider.acl_for(path)[0].perms.0
    }

    #[test]
    fn the_longest_prefix_of_whole_components_counts() {
        let acls = AclByPrefix::new(Marked(0))
            .with("/a", Marked(1))
            .with("/a/b/", Marked(2))
            .with("/a/b/c", Marked(3));
        for (path, expected) in [
            ("/", 0),
            ("/ab", 0),
            ("/a", 1),
            ("/a/bc", 1),
            ("/a/b", 2),
            ("/a/b/d", 2),
            ("/a/b/c", 3),
            ("/a/b/c/d", 3),
            ("/a/b/cd", 2),
        ] {
            assert_eq!(mark(&acls, path), expected, "{path}");
        }
    }

    #[test]
    fn the_root_as_prefix_covers_everything() {
        let acls = AclByPrefix::new(Marked(0)).with("/", Marked(1));
        assert_eq!(mark(&acls, "/"), 1);
        assert_eq!(mark(&acls, "/a"), 1);
    }

    #[test]
    fn a_prefix_given_again_replaces_the_first() {
        let acls = AclByPrefix::new(Marked(0))
            .with("/a", Marked(1))
            .with("/a", Marked(2));
        assert_eq!(mark(&acls, "/a"), 2);
        assert_eq!(acls.subtrees.len(), 1);
    }

    #[test]
    fn creator_all_is_the_auth_scheme_without_an_id() {
        let acl = &CreatorAllAcl.acl_for("/a")[0];
        assert_eq!((acl.id.scheme.as_str(), acl.id.id.as_str()), ("auth", ""));
        assert_eq!(acl.perms, Perms::ALL);
    }
}
