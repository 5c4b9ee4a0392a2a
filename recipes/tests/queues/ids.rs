//! Ids come once, also when what counted them is deleted and made anew.

use std::collections::HashSet;

use quorate_recipes::ids::{BlockIds, IdSource, Names, SequentialIds, Slots, VersionIds, ZxidIds};
use quorate_server::testing::TestServer;

use super::client;

#[tokio::test]
async fn no_id_comes_again_when_its_znode_is_deleted_and_made_anew() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let sources: [(&str, Box<dyn IdSource>); 4] = [
        ("/seq", Box::new(SequentialIds::new(&zk, "/seq"))),
        ("/version", Box::new(VersionIds::new(&zk, "/version"))),
        ("/zxid", Box::new(ZxidIds::new(&zk, "/zxid"))),
        ("/block", Box::new(BlockIds::new(&zk, "/block", 3))),
    ];
    for (path, source) in &sources {
        let mut ids = HashSet::new();
        let mut last = None;
        for _ in 0..3 {
            for _ in 0..7 {
                let id = source.next_id().await.unwrap();
                assert!(ids.insert(id), "{path}: {id} came twice");
                assert!(Some(id) > last, "{path}: {id} is behind {last:?}");
                last = Some(id);
            }
            while zk
                .exists(path)
                .await
                .unwrap()
                .is_some_and(|stat| stat.num_children > 0)
            {
                tokio::task::yield_now().await;
            }
            zk.delete(path).await.unwrap();
        }
    }
    let names = SequentialIds::new(&zk, "/names").prefix("order-");
    let (one, two) = (
        names.next_name().await.unwrap(),
        names.next_name().await.unwrap(),
    );
    assert!(one.starts_with("order-") && one < two, "{one} {two}");
}

#[tokio::test]
async fn a_name_has_one_owner_and_a_slot_is_the_lowest_free_one() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let (ours, theirs) = (Names::new(&one, "/names"), Names::new(&two, "/names"));
    let claim = ours.try_claim("a", "host-1").await.unwrap().unwrap();
    assert!(theirs.try_claim("a", "host-2").await.unwrap().is_none());
    assert_eq!(theirs.owner("a").await.unwrap().unwrap(), "host-1");
    assert!(ours.try_claim("a/b", "x").await.is_err());
    let token = claim.token();
    let next = theirs.claim("a", "host-2");
    let (next, released) = tokio::join!(next, claim.release());
    released.unwrap();
    let next = next.unwrap();
    assert!(next.token() > token);
    server
        .expire_session(two.session_id().unwrap())
        .await
        .unwrap();
    assert!(next.verify().await.is_err());
    assert_eq!(ours.taken().await.unwrap(), [""; 0]);

    let slots = Slots::new(&one, "/slots", 2);
    let first = slots.take("x").await.unwrap().unwrap();
    let second = slots.take("x").await.unwrap().unwrap();
    assert_eq!((first.number(), second.number()), (0, 1));
    assert!(slots.take("x").await.unwrap().is_none());
    first.release().await.unwrap();
    assert_eq!(slots.take("x").await.unwrap().unwrap().number(), 0);
}
