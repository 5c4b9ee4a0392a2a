//! The usage znodes of quotas, which change without transactions: counted anew after a load.

use super::image::Image;

const QUOTA_ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";

/// Writes what is used now into the usage znode of every quota. Their Stat stays as it is.
///
/// Source: ZooKeeper, `DataTree.setupQuota`.
pub(super) fn recount(image: &mut Image) {
    let quotas: Vec<String> = image
        .views()
        .filter_map(|node| node.path.strip_prefix(QUOTA_ROOT)?.strip_suffix(LIMITS))
        .map(str::to_owned)
        .collect();
    for path in quotas {
        let (count, bytes) = image.usage(&path);
        let text = format!("count={count},bytes={bytes}");
        image.change(&format!("{QUOTA_ROOT}{path}{STATS}"), |node| {
            node.data = Some(text.into_bytes().into());
        });
    }
}
