//! Leases have one holder.

use std::time::Duration;

use quorate_recipes::lease::{Lease, MultiLease, TtlLease};
use quorate_server::testing::TestServer;

use super::client;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn kazoos_lease_is_kept_renewed_and_taken_when_it_is_over() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let (ours, theirs) = (Lease::new(&zk, "/l", "me"), Lease::new(&zk, "/l", "you"));
    assert!(ours.obtain(HOUR).await.unwrap());
    assert!(!theirs.obtain(HOUR).await.unwrap());
    let node = zk.get("/l/lease_holder").await.unwrap();
    let text = node.text().unwrap();
    assert!(
        text.starts_with(r#"{"version": 1, "holder": "me", "end": "20"#),
        "{text}"
    );
    let old = r#"{"version": 1, "holder": "me", "end": "2001-11-22T07:00:12"}"#;
    zk.set("/l/lease_holder", old).await.unwrap();
    assert!(theirs.obtain(HOUR).await.unwrap());
    assert!(!ours.obtain(HOUR).await.unwrap());
    zk.set("/l/lease_holder", "{}").await.unwrap();
    assert!(ours.obtain(HOUR).await.is_err());

    for (n, holder) in [(Some(0), "a"), (Some(1), "b"), (None, "c"), (Some(1), "b")] {
        let lease = MultiLease::new(&zk, "/m", holder, 2);
        assert_eq!(lease.obtain(HOUR).await.unwrap(), n);
    }
}

#[tokio::test]
async fn a_ttl_lease_is_ended_by_the_server() {
    let server = TestServer::builder()
        .config(|config| {
            config.extended_types = true;
            config.container_check_interval = Duration::from_millis(50);
        })
        .start()
        .await;
    let zk = client(&server).await;
    let ours = TtlLease::new(&zk, "/l", "me", HOUR);
    let theirs = TtlLease::new(&zk, "/l", "you", Duration::from_millis(1));
    assert!(ours.obtain().await.unwrap());
    assert!(ours.obtain().await.unwrap());
    assert!(!theirs.obtain().await.unwrap());
    assert!(!theirs.release().await.unwrap());
    assert!(ours.release().await.unwrap());
    assert!(theirs.obtain().await.unwrap());
    let over = async {
        while !ours.obtain().await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), over)
        .await
        .unwrap();
}
