//! Keys for parts that our server does not have. Each says why it has no effect.

use crate::config::zoo_cfg::values::BadValue;

use super::{Key, checked, noted};

const ZAB: &str = "belongs to ZooKeeper's own replication protocol";
const JVM: &str = "there is no JVM";
const NO_HTTP: &str = "there is no HTTP admin server yet; the four-letter words tell the same";
const NO_METRICS: &str = "metrics are not served over HTTP yet; `mntr` has the same figures";
const OWN_THREADS: &str = "threads and buffers are arranged otherwise here";
const OWN_LOG: &str = "the log is our own and sizes its files itself";
const OWN_WATCHES: &str = "there is one kind of watch table here";
const OWN_SNAPSHOTS: &str =
    "snapshots have our own format; `quorate export-datadir` writes ZooKeeper's";

pub(super) const KEYS: &[Key] = &[
    noted("fastleader.*", "", ZAB),
    noted("leader.*", "", ZAB),
    noted("learner.*", "", ZAB),
    noted("follower.*", "", ZAB),
    noted(
        "forward_learner_requests_to_commit_processor_disabled",
        "false",
        ZAB,
    ),
    noted("leaderConnectDelayDuringRetryMs", "100", ZAB),
    noted("forceSnapshotSync", "false", ZAB),
    noted("commitLogCount", "500", ZAB),
    noted("snapshotSizeFactor", "0.33", ZAB),
    noted("messageTracker.*", "", ZAB),
    noted("preAllocSize", "65536", OWN_LOG),
    noted("txnLogSizeLimitInKb", "-1", OWN_LOG),
    noted(
        "flushDelay",
        "0",
        "the log syncs at once and collects meanwhile",
    ),
    noted(
        "maxWriteQueuePollTime",
        "",
        "the log syncs at once and collects meanwhile",
    ),
    noted(
        "maxBatchSize",
        "1000",
        "the log syncs at once and collects meanwhile",
    ),
    noted("serializeLastProcessedZxid.enabled", "true", OWN_SNAPSHOTS),
    noted("snapshot.compression.method", "", OWN_SNAPSHOTS),
    noted("closeSessionTxn.enabled", "true", OWN_SNAPSHOTS),
    noted(
        "maxResponseCacheSize",
        "400",
        "replies are written straight from the tree: there is no cache of them",
    ),
    noted(
        "maxGetChildrenResponseCacheSize",
        "400",
        "replies are written straight from the tree: there is no cache of them",
    ),
    checked("metricsProvider.className", "", NO_METRICS, |_, class| {
        let known = [
            "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider",
            "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
            "org.apache.zookeeper.metrics.impl.NullMetricsProvider",
        ];
        if known.contains(&class) {
            Ok(())
        } else {
            Err(BadValue(format!(
                "names `{class}`, which is no known metrics provider"
            )))
        }
    })
    .file(),
    noted("metricsProvider.*", "", NO_METRICS).file(),
    noted("admin.*", "", NO_HTTP),
    noted("jvm.pause.*", "", JVM).file(),
    noted("pathStats.*", "", "hot paths are not counted yet"),
    noted("serverCnxnFactory", "", OWN_THREADS),
    noted("nio.*", "", OWN_THREADS),
    noted("netty.*", "", OWN_THREADS),
    noted("commitProcessor.*", "", OWN_THREADS),
    noted("watchManagerName", "", OWN_WATCHES),
    noted("watcherCleanThreadsNum", "2", OWN_WATCHES),
    noted("watcherCleanThreshold", "1000", OWN_WATCHES),
    noted("watcherCleanIntervalInSeconds", "600", OWN_WATCHES),
    noted("maxInProcessingDeadWatchers", "-1", OWN_WATCHES),
    noted("bitHashCacheSize", "10", OWN_WATCHES),
    noted(
        "enableEagerACLCheck",
        "false",
        "ACLs are checked when a request takes effect, which no early check replaces",
    ),
    noted("controllerPort", "", "a harness of ZooKeeper's own tests"),
    noted(
        "log.*",
        "",
        "`QUORATE_LOG` says what is logged, and it goes to standard error",
    ),
    noted(
        "root.logger",
        "",
        "`QUORATE_LOG` says what is logged, and it goes to standard error",
    ),
    noted("console.threshold", "", "`QUORATE_LOG` says what is logged"),
    noted("jmx.*", "", JVM),
    noted("sasl.client", "true", "a setting of clients"),
    noted("sasl.clientconfig", "Client", "a setting of clients"),
    noted("sasl.client.*", "", "a setting of clients"),
    noted("client.secure", "false", "a setting of clients"),
    noted("clientCnxnSocket", "", "a setting of clients"),
    noted("server.principal", "", "a setting of clients"),
];
