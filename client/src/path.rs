//! Paths as callers have them: a checked type of their own, or any text.
//!
//! Job: [`ZnodePath`], which is checked once and passed on freely, and what the calls take, which
//! may be either. Not here: the rules (`quorate_proto::path`), the server's paths (`root`).
//!
//! Invariant: the text of a [`ZnodePath`] keeps every rule; nothing makes one but a check, or a
//! part of another.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use quorate_proto::path::{self, PathError};

/// A path that keeps every rule: checked once, cheap to clone, taken by every call.
///
/// ```
/// use quorate_client::ZnodePath;
///
/// let jobs: ZnodePath = "/app/jobs".parse()?;
/// let job = jobs.join("job-7")?;
/// assert_eq!(job.as_str(), "/app/jobs/job-7");
/// assert_eq!((job.parent(), job.name()), (Some(jobs), "job-7"));
/// assert!("/app//jobs".parse::<ZnodePath>().is_err());
/// # Ok::<(), quorate_client::PathError>(())
/// ```
///
/// Source: ZooKeeper, `PathUtils.validatePath`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZnodePath(Arc<str>);

impl ZnodePath {
    /// The root, `/`.
    #[must_use]
    pub fn root() -> ZnodePath {
        ZnodePath(path::ROOT.into())
    }

    /// Checks a text.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<ZnodePath, PathError> {
        let text = text.into();
        path::validate(&text)?;
        Ok(ZnodePath(text))
    }

    /// The path of a child, or of what lies deeper: `name` may be several, with slashes between.
    ///
    /// # Errors
    /// The first broken rule; a name does not start with a slash.
    pub fn join(&self, name: impl AsRef<str>) -> Result<ZnodePath, PathError> {
        let name = name.as_ref();
        match self.is_root() {
            true if name.is_empty() => Err(PathError::Empty),
            true => ZnodePath::parse(format!("/{name}")),
            false => ZnodePath::parse(format!("{self}/{name}")),
        }
    }

    /// The parent; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<ZnodePath> {
        path::parent(&self.0).map(|parent| ZnodePath(parent.into()))
    }

    /// What stands behind the last slash; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        path::name(&self.0)
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        &*self.0 == path::ROOT
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ZnodePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<ZnodePath, PathError> {
        ZnodePath::parse(text)
    }
}

impl TryFrom<&str> for ZnodePath {
    type Error = PathError;

    fn try_from(text: &str) -> Result<ZnodePath, PathError> {
        ZnodePath::parse(text)
    }
}

impl TryFrom<String> for ZnodePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<ZnodePath, PathError> {
        ZnodePath::parse(text)
    }
}

/// Wherever a `&str` is wanted.
impl Deref for ZnodePath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ZnodePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Found in maps by its text.
impl Borrow<str> for ZnodePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A path as the calls take it: a [`ZnodePath`], or a text that is checked when the call is sent.
///
/// Made from either by `into()`, which the calls do by themselves.
#[derive(Clone, PartialEq, Eq)]
pub struct PathArg {
    text: Arc<str>,
    is_checked: bool,
}

impl PathArg {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) const fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Checks what was not checked before.
    pub(crate) fn check(&self) -> Result<(), PathError> {
        match self.is_checked {
            true => Ok(()),
            false => path::validate(&self.text),
        }
    }
}

impl From<ZnodePath> for PathArg {
    fn from(ZnodePath(text): ZnodePath) -> PathArg {
        PathArg {
            text,
            is_checked: true,
        }
    }
}

impl From<&PathArg> for PathArg {
    fn from(path: &PathArg) -> PathArg {
        path.clone()
    }
}

impl From<&ZnodePath> for PathArg {
    fn from(path: &ZnodePath) -> PathArg {
        PathArg::from(path.clone())
    }
}

/// Texts of every kind that a caller may have in hand.
macro_rules! unchecked {
    ($($text:ty => $into:expr),* $(,)?) => {
        $(impl From<$text> for PathArg {
            fn from(text: $text) -> PathArg {
                PathArg { text: $into(text), is_checked: false }
            }
        })*
    };
}

unchecked! {
    &str => Arc::from,
    &&str => |text: &&str| Arc::from(*text),
    String => Arc::from,
    &String => |text: &String| Arc::from(text.as_str()),
    &&String => |text: &&String| Arc::from(text.as_str()),
    Arc<str> => std::convert::identity,
    &Arc<str> => Arc::clone,
    Box<str> => Arc::from,
    Cow<'_, str> => Arc::from,
    &Cow<'_, str> => |text: &Cow<'_, str>| Arc::from(&**text),
}

impl fmt::Display for PathArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PathArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ZnodePath {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_is_joined_and_taken_apart_within_the_rules() {
        let (root, a) = (ZnodePath::root(), path("/a"));
        assert_eq!(root.join("a"), Ok(a.clone()));
        assert_eq!(a.join("b/c"), Ok(path("/a/b/c")));
        assert_eq!(a.parent(), Some(root.clone()));
        assert_eq!(path("/a/b").parent(), Some(a.clone()));
        assert_eq!((root.parent(), root.name(), a.name()), (None, "", "a"));
        for name in ["", "/b", "b/", "..", "b//c", "\0"] {
            assert!(a.join(name).is_err(), "{name:?}");
            assert!(root.join(name).is_err(), "{name:?}");
        }
        for text in ["", "a", "/a/", "/./a"] {
            assert!(text.parse::<ZnodePath>().is_err(), "{text:?}");
            assert!(ZnodePath::try_from(text).is_err(), "{text:?}");
            assert!(PathArg::from(text).check().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_was_checked_is_not_checked_again_and_not_copied() {
        let a = path("/a");
        let arg = PathArg::from(&a);
        assert!(arg.is_checked && Arc::ptr_eq(arg.text(), &a.0));
        assert!(!PathArg::from("/a").is_checked);
    }
}
