//! The rules of znode paths, as a server checks them, and the two halves of a path.
//!
//! Paths are plain `&str` in here: reads and deletes take any text, and text that no znode can
//! have is simply a znode that does not exist.

/// The root, as it is stored. Reads know it as the empty string, too.
pub(super) const ROOT: &str = "/";

/// Whether a znode could have this path.
///
/// Source: ZooKeeper, `PathUtils.validatePath`.
pub(super) fn is_valid(path: &str) -> bool {
    if path == ROOT {
        return true;
    }
    let Some(names) = path.strip_prefix('/') else {
        return false;
    };
    // One pass over the bytes answers for nearly every path: plain ASCII, no dot, no doubled
    // slash. Whatever else appears is looked at with care.
    let mut previous = b'/';
    for &byte in names.as_bytes() {
        let plain = matches!(byte, 0x20..=0x2D | 0x30..=0x7E) || (byte == b'/' && previous != b'/');
        if !plain {
            return names.split('/').all(is_valid_name);
        }
        previous = byte;
    }
    previous != b'/'
}

fn is_valid_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.chars().any(is_forbidden)
}

/// Control characters, the private use area, the end of the basic plane, and all that lies
/// beyond it, because ZooKeeper looks at UTF-16 units and refuses surrogates.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{E000}'..='\u{F8FF}' | '\u{FFF0}'..)
}

/// The parent's path and the znode's name; `None` where there is no slash.
///
/// The parent of a top-level znode is [`ROOT`], and so is the root's own.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    Some((if parent.is_empty() { ROOT } else { parent }, name))
}

/// Znodes that no client deletes.
pub(super) fn is_special(path: &str) -> bool {
    matches!(
        path,
        ROOT | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths_are_valid() {
        for path in [
            "/",
            "/a",
            "/a/b",
            "/...",
            "/a..b",
            "/.a",
            "/a.",
            "/ ",
            "/\u{A0}",
            "/\u{2028}",
            "/é",
            "/\u{FFEF}",
            "/n-0000000001",
            "/a/..b/c",
        ] {
            assert!(is_valid(path), "{path:?}");
        }
    }

    #[test]
    fn bad_paths_are_not() {
        for path in [
            "",
            "a",
            "a/b",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/..",
            "/../a",
            "/\0",
            "/\t",
            "/\u{7F}",
            "/\u{80}",
            "/\u{9F}",
            "/\u{E000}",
            "/\u{F8FF}",
            "/\u{FFF0}",
            "/\u{FFFD}",
            "/\u{1F600}",
            "/é/",
            "/é//a",
        ] {
            assert!(!is_valid(path), "{path:?}");
        }
    }

    #[test]
    fn the_parent_of_a_top_level_znode_is_the_root() {
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/"), Some(("/", "")));
        assert_eq!(split("a"), None);
    }
}
