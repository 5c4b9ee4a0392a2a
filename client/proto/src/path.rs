//! What is a path.
//!
//! The rules are ZooKeeper's (`PathUtils.validatePath`). They hold where a znode is created or
//! changed; reads and deletes take any string, and a bad path is then a znode that does not
//! exist. Paths are compared by their exact characters, without normalisation, and have no
//! length limit but the frame's.

/// The root.
pub const ROOT: &str = "/";
/// The parent of the znodes that the system keeps.
pub const ZOOKEEPER: &str = "/zookeeper";
/// Where quotas stand.
pub const QUOTA: &str = "/zookeeper/quota";
/// Where the ensemble's configuration stands.
pub const CONFIG: &str = "/zookeeper/config";

/// Why a string is no path. All of them are `BadArguments` on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The empty string, which reads take for the root.
    #[error("a path is not empty")]
    Empty,
    /// It does not start with a slash.
    #[error("a path starts with /")]
    NotAbsolute,
    /// It ends with a slash and is not the root.
    #[error("a path does not end with /")]
    TrailingSlash,
    /// Two slashes in a row.
    #[error("nothing between two slashes at byte {at}")]
    EmptyComponent {
        /// Where the second slash stands.
        at: usize,
    },
    /// A component is `.` or `..`.
    #[error("component . or .. at byte {at}")]
    RelativeComponent {
        /// Where the component starts.
        at: usize,
    },
    /// A control character, a private or supplementary one, or a special.
    #[error("character {character:?} at byte {at}")]
    ForbiddenCharacter {
        /// Which.
        character: char,
        /// Where it stands.
        at: usize,
    },
}

/// Whether a path may contain `character`.
///
/// ZooKeeper judges UTF-16 code units and forbids the surrogates, so every supplementary
/// character is forbidden with them.
#[must_use]
pub const fn is_allowed(character: char) -> bool {
    !matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{10ffff}')
}

/// Checks every rule.
///
/// # Errors
/// The first broken rule.
pub fn validate(path: &str) -> Result<(), PathError> {
    let Some(relative) = path.strip_prefix('/') else {
        return Err(match path {
            "" => PathError::Empty,
            _ => PathError::NotAbsolute,
        });
    };
    if relative.is_empty() || is_plain(relative) {
        return Ok(());
    }
    if relative.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    let mut at = 1;
    for component in relative.as_bytes().split(|&byte| byte == b'/') {
        match component {
            b"" => return Err(PathError::EmptyComponent { at }),
            b"." | b".." => return Err(PathError::RelativeComponent { at }),
            _ => at += component.len() + 1,
        }
    }
    match path.char_indices().find(|&(_, c)| !is_allowed(c)) {
        Some((at, character)) => Err(PathError::ForbiddenCharacter { character, at }),
        None => Ok(()),
    }
}

/// One pass over the bytes that answers for nearly every path: printable ASCII, no dot, names
/// between single slashes. Whatever else appears is looked at with care.
fn is_plain(relative: &str) -> bool {
    // Folds that do not stop early: the compiler makes them 16 bytes a step.
    let bytes = relative.as_bytes();
    let odd = bytes.iter().fold(false, |odd, byte| {
        odd | !(0x20..=0x7e).contains(byte) | (*byte == b'.')
    });
    let behind = bytes.get(1..).unwrap_or_default();
    let doubled = bytes.iter().zip(behind).fold(false, |doubled, (a, b)| {
        doubled | ((*a == b'/') & (*b == b'/'))
    });
    let slash = Some(&b'/');
    !(odd | doubled) && bytes.first() != slash && bytes.last() != slash
}

/// What stands in front of the last slash, and what behind it; `None` without a slash.
///
/// Judges nothing: the create family looks for the parent before it knows the full path. The
/// parent is `/` where nothing stands in front.
#[must_use]
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    Some((if parent.is_empty() { ROOT } else { parent }, name))
}

/// The parent; `None` for the root and for strings without a slash.
#[must_use]
pub fn parent(path: &str) -> Option<&str> {
    match path {
        ROOT => None,
        _ => split(path).map(|(parent, _)| parent),
    }
}

/// What stands behind the last slash; empty for the root.
#[must_use]
pub fn name(path: &str) -> &str {
    split(path).map_or(path, |(_, name)| name)
}

/// Whether the system keeps this znode, so that nobody may delete it.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    matches!(path, ROOT | ZOOKEEPER | QUOTA | CONFIG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_not_empty() {
        assert_eq!(validate(""), Err(PathError::Empty));
    }

    #[test]
    fn a_path_starts_with_a_slash() {
        assert_eq!(validate("foo"), Err(PathError::NotAbsolute));
        assert_eq!(validate("foo/bar"), Err(PathError::NotAbsolute));
    }

    #[test]
    fn only_the_root_ends_with_a_slash() {
        assert_eq!(validate("/"), Ok(()));
        assert_eq!(validate("/a/"), Err(PathError::TrailingSlash));
        assert_eq!(validate("//"), Err(PathError::TrailingSlash));
    }

    #[test]
    fn no_component_is_empty() {
        assert_eq!(validate("/a//b"), Err(PathError::EmptyComponent { at: 3 }));
        assert_eq!(validate("//b"), Err(PathError::EmptyComponent { at: 1 }));
    }

    #[test]
    fn no_component_is_relative() {
        for (path, at) in [
            ("/.", 1),
            ("/..", 1),
            ("/a/./b", 3),
            ("/a/..", 3),
            ("/../a", 1),
        ] {
            assert_eq!(
                validate(path),
                Err(PathError::RelativeComponent { at }),
                "{path}"
            );
        }
    }

    #[test]
    fn dots_elsewhere_are_characters_like_others() {
        for path in ["/...", "/a..b", "/.a", "/a.", "/..a", "/a/.b/c."] {
            assert_eq!(validate(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn control_private_supplementary_and_special_characters_are_forbidden() {
        for character in [
            '\0',
            '\u{1}',
            '\t',
            '\u{1f}',
            '\u{7f}',
            '\u{80}',
            '\u{9f}',
            '\u{e000}',
            '\u{f8ff}',
            '\u{fff0}',
            '\u{fffd}',
            '\u{ffff}',
            '\u{10000}',
            '🙂',
            '\u{10ffff}',
        ] {
            assert_eq!(
                validate(&format!("/a{character}b")),
                Err(PathError::ForbiddenCharacter { character, at: 2 }),
                "{character:?}"
            );
        }
    }

    #[test]
    fn their_neighbours_are_allowed() {
        for character in [
            ' ', '~', '\u{a0}', '\u{2028}', 'é', '\u{d7ff}', '\u{f900}', '\u{ffef}',
        ] {
            assert_eq!(
                validate(&format!("/a{character}b")),
                Ok(()),
                "{character:?}"
            );
        }
    }

    #[test]
    fn a_path_has_no_length_limit() {
        assert_eq!(validate(&format!("/{}", "x".repeat(5_000))), Ok(()));
    }

    #[test]
    fn the_parent_of_a_top_level_znode_is_the_root() {
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/a/"), Some(("/a", "")));
        assert_eq!(split("/"), Some(("/", "")));
        assert_eq!(split("a"), None);
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/"), None);
        assert_eq!(name("/a/b"), "b");
        assert_eq!(name("/"), "");
    }
}
