//! The figures of a run, as a table and as JSON.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use super::args::{Plan, Preset};
use super::clock;
use super::error::BenchError;
use super::process::{self, Memory};
use super::progress::seconds;
use super::record::{Recorder, Series};

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// What a run has measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) server: BTreeMap<&'static str, String>,
    pub(super) recorder: Recorder,
    pub(super) elapsed_ns: u64,
    /// CPU time of the server's process during the window.
    pub(super) server_cpu_ns: Option<u64>,
    pub(super) server_memory_before: Option<Memory>,
    pub(super) server_memory: Option<Memory>,
    /// CPU time of the generator during the window.
    pub(super) own_cpu_ns: Option<u64>,
}

impl Measured {
    /// Answers without error.
    fn answers(&self) -> u64 {
        let counted = self.counted();
        counted.iter().map(|series| series.latencies.len()).sum()
    }

    /// The series whose sum is the number of operations; the others are other views of them.
    fn counted(&self) -> &[Series] {
        let all = &self.recorder.series;
        match all.first().map(|series| series.name) {
            Some("hand-off" | "to the last") => all.get(..1).unwrap_or(all),
            _ => all,
        }
    }

    fn errors(&self) -> u64 {
        self.recorder
            .series
            .iter()
            .map(|series| series.errors)
            .sum()
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / seconds(self.elapsed_ns).max(1e-9)
    }

    fn per_op_us(&self, cpu_ns: Option<u64>) -> Option<f64> {
        let answers = self.answers();
        cpu_ns
            .filter(|_| answers > 0)
            .map(|ns| ns as f64 / 1e3 / answers as f64)
    }

    /// A run with failed requests has an exit code that says so.
    pub(super) fn verdict(&self) -> Result<(), BenchError> {
        match self.errors() {
            0 => Ok(()),
            errors => Err(BenchError::Errors {
                errors,
                total: errors + self.answers(),
            }),
        }
    }
}

/// Writes the table to stdout, and JSON where the plan says so.
pub(super) fn report(plan: &Plan, measured: &Measured) -> Result<(), BenchError> {
    std::io::stdout()
        .write_all(table(plan, measured).as_bytes())
        .map_err(BenchError::io("write the figures"))?;
    let Some(path) = &plan.common.json else {
        return Ok(());
    };
    let text = format!("{:#}\n", as_json(plan, measured));
    fs::write(path, text).map_err(BenchError::io(format!("write {}", path.display())))
}

/// Writes an error and its causes to stderr.
pub(super) fn complain(error: &BenchError) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    // There is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn head(plan: &Plan, measured: &Measured) -> String {
    let common = &plan.common;
    let preset = match plan.preset {
        Preset::Mixed { read } => format!("mixed · {read} % reads"),
        Preset::Multi { ops } => format!("multi · {ops} sets each"),
        Preset::Children { children } => format!("children · {children}"),
        Preset::Lock { paths } => format!("lock · {paths} paths"),
        other => other.name().to_owned(),
    };
    let shape = common.rate.map_or_else(
        || "closed loop".to_owned(),
        |rate| format!("open loop at {rate}/s"),
    );
    let version = measured
        .server
        .get("version")
        .map_or("version unknown", |text| {
            text.split([',', '-']).next().unwrap_or(text)
        });
    format!(
        "{preset} · {} connections x {} · {} B · {:.1} s · server {version} · {shape}\n",
        common.connections,
        common.depth(),
        common.size,
        seconds(measured.elapsed_ns),
    )
}

fn table(plan: &Plan, measured: &Measured) -> String {
    let mut text = head(plan, measured);
    text.push_str(&format!(
        "{:<12}{:>10}{:>10}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}\n",
        "", "op/s", "mean ms", "p50", "p90", "p99", "p99.9", "max", "errors"
    ));
    for series in &measured.recorder.series {
        let latencies = &series.latencies;
        let rate = format!("{:.0}", measured.per_second(latencies.len()));
        text.push_str(&format!(
            "{:<12}{rate:>10}{:>10.3}",
            series.name,
            latencies.mean() / 1e6
        ));
        for (_, quantile) in QUANTILES {
            text.push_str(&format!(
                "{:>9.3}",
                ms(latencies.value_at_quantile(quantile))
            ));
        }
        text.push_str(&format!(
            "{:>9.3}{:>9}\n",
            ms(latencies.max()),
            series.errors
        ));
    }
    for (code, count) in &measured.recorder.error_codes {
        text.push_str(&format!("  {count} x error {code}\n"));
    }
    let mut costs = Vec::new();
    if let Some(us) = measured.per_op_us(measured.server_cpu_ns) {
        costs.push(format!("server {us:.2} us CPU/op"));
    }
    if let Some(memory) = measured.server_memory {
        costs.push(format!(
            "{} MiB resident, {} MiB at most",
            memory.resident_kib >> 10,
            memory.peak_kib >> 10
        ));
    }
    if let Some(us) = measured.per_op_us(measured.own_cpu_ns) {
        costs.push(format!("generator {us:.2} us CPU/op"));
    }
    if !costs.is_empty() {
        text.push_str(&format!("  {}\n", costs.join(" · ")));
    }
    text
}

fn as_json(plan: &Plan, measured: &Measured) -> Value {
    let common = &plan.common;
    let series = |series: &Series| {
        let latencies = &series.latencies;
        let quantile = |quantile| json!(ms(latencies.value_at_quantile(quantile)));
        let quantiles = QUANTILES.map(|(name, q)| (format!("{name}_ms"), quantile(q)));
        let mut figures = serde_json::Map::from_iter(quantiles);
        figures.extend([
            ("name".to_owned(), json!(series.name)),
            ("count".to_owned(), json!(latencies.len())),
            (
                "per_second".to_owned(),
                json!(measured.per_second(latencies.len())),
            ),
            ("errors".to_owned(), json!(series.errors)),
            ("mean_ms".to_owned(), json!(latencies.mean() / 1e6)),
            ("max_ms".to_owned(), json!(ms(latencies.max()))),
        ]);
        Value::Object(figures)
    };
    let kib = |memory: Option<Memory>| memory.map(|memory| memory.resident_kib);
    json!({
        "format": 1,
        "quorate": env!("CARGO_PKG_VERSION"),
        "at": clock::wall_seconds(),
        "machine": process::machine(),
        "server": measured.server,
        "preset": plan.preset.name(),
        "parameters": format!("{:?}", plan.preset),
        "connections": common.connections,
        "depth": common.depth(),
        "size": common.size,
        "rate": common.rate,
        "threads": common.threads,
        "elapsed_s": seconds(measured.elapsed_ns),
        "per_second": measured.per_second(measured.answers()),
        "errors": measured.errors(),
        "error_codes": measured.recorder.error_codes.iter()
            .map(|(code, count)| (code.to_string(), json!(count)))
            .collect::<serde_json::Map<_, _>>(),
        "series": measured.recorder.series.iter().map(series).collect::<Vec<_>>(),
        "server_cpu_us_per_op": measured.per_op_us(measured.server_cpu_ns),
        "server_resident_kib_before": kib(measured.server_memory_before),
        "server_resident_kib": kib(measured.server_memory),
        "server_peak_kib": measured.server_memory.map(|memory| memory.peak_kib),
        "generator_cpu_us_per_op": measured.per_op_us(measured.own_cpu_ns),
    })
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
