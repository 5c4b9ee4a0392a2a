//! What the kernel says about a process: CPU time and memory, from `/proc`.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// CPU time that all threads of a process have used, in nanoseconds, user and system.
///
/// The kernel rounds it to a tick of 10 ms, which is nothing over a run of seconds.
pub(super) fn cpu_ns(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything; behind its last bracket the fields are plain.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Memory {
    pub(super) resident_kib: u64,
    pub(super) peak_kib: u64,
}

/// Resident memory, now and at its peak.
pub(super) fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Memory {
        resident_kib: field("VmRSS:")?,
        peak_kib: field("VmHWM:")?,
    })
}

/// The same of several processes; `None` if there are none, or one is gone.
pub(super) fn cpu_ns_of_all(pids: &[u32]) -> Option<u64> {
    let all: Option<u64> = pids.iter().map(|&pid| cpu_ns(pid)).sum();
    all.filter(|_| !pids.is_empty())
}

/// The same of several processes; `None` if there are none, or one is gone.
pub(super) fn memory_of_all(pids: &[u32]) -> Option<Memory> {
    let each: Option<Vec<Memory>> = pids.iter().map(|&pid| memory(pid)).collect();
    each?.into_iter().reduce(|one, other| Memory {
        resident_kib: one.resident_kib + other.resident_kib,
        peak_kib: one.peak_kib + other.peak_kib,
    })
}

/// The machine, for reports.
pub(super) fn machine() -> serde_json::Value {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    serde_json::json!({
        "cpu": model.map(|text| text.trim_start_matches([' ', '\t', ':'])),
        "cores": std::thread::available_parallelism().ok(),
        "kernel": kernel.trim(),
        "load": load.trim(),
    })
}

/// Every connection is a file; the soft limit is often 1024.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If it is refused, the connection that is one too many will say so.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_about_this_process() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident_kib > 0 && memory.peak_kib >= memory.resident_kib);
        assert!(cpu_ns(std::process::id()).is_some());
    }

    #[test]
    fn a_process_that_is_not_there_has_no_figures() {
        assert_eq!(cpu_ns(u32::MAX), None);
        assert_eq!(memory(u32::MAX), None);
    }
}
