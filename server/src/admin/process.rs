//! Facts about this process, read from the operating system when a word asks for them.
//!
//! On Linux from `/proc`; elsewhere what cannot be read is 0 or empty.

use super::view::ProcessFacts;

impl ProcessFacts {
    /// The facts of this moment.
    pub(crate) fn read() -> ProcessFacts {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let file = |path: &str| {
            std::fs::read_to_string(path).map_or_else(|_| String::new(), |text| text.trim().into())
        };
        ProcessFacts {
            // The directory handle that counts is open, too.
            open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| {
                u64::try_from(entries.count().saturating_sub(1)).unwrap_or(u64::MAX)
            }),
            max_files: soft_limit(&file("/proc/self/limits")),
            host_name: file("/proc/sys/kernel/hostname"),
            user_name: variable("USER"),
            user_home: variable("HOME"),
            user_dir: std::env::current_dir()
                .map_or_else(|_| String::new(), |dir| dir.display().to_string()),
            os_version: file("/proc/sys/kernel/osrelease"),
        }
    }
}

/// The first figure of the line "Max open files"; `unlimited` is the largest.
fn soft_limit(limits: &str) -> u64 {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .map_or(0, |soft| soft.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_in_their_line() {
        let text = "Limit  Soft  Hard\nMax open files            1024      4096    files\n";
        assert_eq!(soft_limit(text), 1024);
        assert_eq!(
            soft_limit("Max open files  unlimited unlimited files"),
            u64::MAX
        );
        assert_eq!(soft_limit(""), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_open_files_and_a_limit() {
        let facts = ProcessFacts::read();
        assert!(facts.open_files >= 3);
        assert!(facts.max_files >= facts.open_files);
        assert!(!facts.user_dir.is_empty());
    }
}
