//! A server's own settings are judged when it takes the request: another server, or this one
//! with other settings, makes the same state of the same log (R14).

use quorate_proto::{Acl, CreateMode, ErrorCode, Id, Perms};
use quorate_server::config::{DigestAlgorithm, digest_identity};
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::{OpOutcome, WireClient};

use crate::support::{create_op, set_op};

fn only(scheme: &str, id: &str) -> Acl {
    Acl {
        perms: Perms::ALL,
        id: Id::new(scheme, id),
    }
}

#[tokio::test]
async fn a_log_makes_the_same_tree_under_other_settings() {
    let digest_of_bob = digest_identity("bob:secret", DigestAlgorithm::Sha1);
    let mut server = TestServer::builder()
        .config(|config| {
            config.extended_types = false;
            config.skip_acl = true;
        })
        .start()
        .await;
    let mut client = WireClient::open(server.addr()).await;
    let ttl = CreateMode::PersistentWithTtl;
    let refused = client.create_ttl("/ttl", b"", ttl, 1000).await;
    assert_eq!(refused, Err(ErrorCode::Unimplemented));
    let acl = only("digest", &digest_of_bob);
    client.create_with_acl("/bobs", b"", &[acl]).await.unwrap();
    // Allowed here, and by no other setting.
    client.set_data("/bobs", b"1", -1).await.unwrap();
    client.create("/bobs/a", b"").await.unwrap();
    let digest = server.tree_digest();

    server.change_config(|config| {
        config.extended_types = true;
        config.skip_acl = false;
        config.enforce_quota = true;
    });
    server.kill().await;
    assert_eq!(server.tree_digest(), digest);
    let mut client = WireClient::open(server.addr()).await;
    assert_eq!(client.exists("/ttl", false).await, Err(ErrorCode::NoNode));
    assert_eq!(
        client.set_data("/bobs", b"2", -1).await,
        Err(ErrorCode::NoAuth)
    );
    client
        .create_ttl("/ttl", b"", ttl, 1_000_000)
        .await
        .unwrap();
    let digest = server.tree_digest();
    server.change_config(|config| config.extended_types = false);
    server.kill().await;
    assert_eq!(server.tree_digest(), digest);
}

/// A refusal of this server's own takes the place of its operation, so that the first error in
/// order wins.
#[tokio::test]
async fn the_first_error_of_a_multi_wins_whoever_finds_it() {
    let server = TestServer::builder()
        .config(|config| config.digest_auth = false)
        .start()
        .await;
    let mut client = WireClient::open(server.addr()).await;
    let bad_acl = || {
        let mut create = crate::support::open_create("/bad", b"", CreateMode::Persistent);
        create.acl = Some(Vec::new());
        quorate_proto::multi::MultiOp::Create(create)
    };
    let errors = async |client: &mut WireClient, ops| -> Vec<i32> {
        let outcomes = client.multi(ops).await.unwrap();
        let code = |outcome: &OpOutcome| match outcome {
            OpOutcome::Error(code) => *code,
            other => panic!("{other:?} in a multi that failed"),
        };
        outcomes.iter().map(code).collect()
    };
    let (none, behind) = (
        ErrorCode::NoNode.code(),
        ErrorCode::RuntimeInconsistency.code(),
    );
    let acl = ErrorCode::InvalidAcl.code();
    let ops = vec![
        create_op("/ok", CreateMode::Persistent),
        set_op("/none", b""),
        bad_acl(),
    ];
    assert_eq!(errors(&mut client, ops).await, [0, none, behind]);
    let ops = vec![
        create_op("/ok", CreateMode::Persistent),
        bad_acl(),
        set_op("/none", b""),
    ];
    assert_eq!(errors(&mut client, ops).await, [0, acl, behind]);
    assert_eq!(client.exists("/ok", false).await, Err(ErrorCode::NoNode));
}

#[tokio::test]
async fn quotas_are_enforced_where_the_server_is_told_to() {
    let mut server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/q", b"").await.unwrap();
    client.create("/zookeeper/quota/q", b"").await.unwrap();
    let limits = "/zookeeper/quota/q/zookeeper_limits";
    let usage = "/zookeeper/quota/q/zookeeper_stats";
    client
        .create(limits, b"count=-1,bytes=-1=;countHardLimit=3")
        .await
        .unwrap();
    client.create(usage, b"count=0,bytes=0").await.unwrap();
    for path in ["/q/a", "/q/b", "/q/c"] {
        client.create(path, b"").await.unwrap();
    }
    let digest = server.tree_digest();
    server.change_config(|config| config.enforce_quota = true);
    server.kill().await;
    assert_eq!(server.tree_digest(), digest, "what was allowed then stays");
    let mut client = WireClient::open(server.addr()).await;
    assert_eq!(
        client.create("/q/d", b"").await,
        Err(ErrorCode::QuotaExceeded)
    );
    for path in ["/q/a", "/q/b"] {
        client.delete(path, -1).await.unwrap();
    }
    client.create("/q/d", b"").await.unwrap();
}
