//! One link at a time, and what each end may not do.

use super::super::message::{FromLeader, ToLeader};
use super::*;

/// A link to the clerk of server 1, which leads term 1.
async fn link_to_leader(world: &World) -> Link {
    world.elect(1, 1);
    let (mine, theirs) = Link::pair();
    let clerk = world.wires.clerks.lock().get(&1).cloned().unwrap();
    let caller = Caller { server: 2, node: 2 };
    world.wires.tasks.spawn(clerk.handle(caller, theirs));
    mine
}

async fn say(link: &mut Link, message: ToLeader) {
    link.writer.send(&message.encode()).await.unwrap();
}

async fn hear(link: &mut Link) -> Option<FromLeader> {
    let body = link.reader.recv().await.ok()??;
    Some(FromLeader::decode(body).unwrap())
}

fn frame(number: u64, requests: &[(Origin, Txn<'static>)]) -> ToLeader {
    ToLeader::Requests {
        number,
        count: u32::try_from(requests.len()).unwrap(),
        requests: encoded(requests),
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_taken_when_it_is_applied_at_the_leader() {
    let world = World::new(1);
    let mut link = link_to_leader(&world).await;
    say(&mut link, frame(7, &[write(1, 1), write(1, 2)])).await;
    say(&mut link, ToLeader::ReadIndex { number: 0 }).await;
    let proven = FromLeader::ReadAt {
        number: 0,
        index: 0,
    };
    assert_eq!(hear(&mut link).await, Some(proven), "nothing is committed");
    world
        .until(|engine| engine.applied.get(&1) == Some(&2))
        .await;
    assert_eq!(hear(&mut link).await, Some(FromLeader::Taken { up_to: 7 }));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leads_no_more_closes_its_links_and_answers_nothing() {
    let world = World::new(1);
    let mut link = link_to_leader(&world).await;
    say(&mut link, frame(7, &[write(1, 1)])).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.elect(2, 2);
    assert_eq!(hear(&mut link).await, None);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_apply_could_not_read_end_the_link_and_stay_out_of_the_log() {
    let good = encoded(&[write(1, 1)]);
    let requests = |count, requests| ToLeader::Requests {
        number: 1,
        count,
        requests,
    };
    let bad = [
        requests(1, good.slice(..good.len() - 1)),
        requests(2, good.clone()),
        requests(0, good),
        requests(u32::MAX, Bytes::new()),
        requests(1, Bytes::from_static(&[0xff; 64])),
    ];
    for message in bad {
        let world = World::new(1);
        let mut link = link_to_leader(&world).await;
        say(&mut link, message).await;
        assert_eq!(hear(&mut link).await, None);
        assert!(world.engine.lock().tail.is_empty());
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn noise_ends_the_link() {
    for noise in [&b""[..], b"\x01", b"\x02\x01", b"\x01\x11\0\0\0\0\0\0\0\0"] {
        let world = World::new(1);
        let mut link = link_to_leader(&world).await;
        link.writer.send(noise).await.unwrap();
        assert_eq!(hear(&mut link).await, None, "{noise:?}");
        world.end().await;
    }
}

/// Whoever led before judged by what it knew then.
#[tokio::test(start_paused = true)]
async fn a_follower_cannot_end_a_session() {
    let world = World::new(1);
    let mut link = link_to_leader(&world).await;
    let end = Txn::ExpireSession {
        session: SessionId(9),
        judged: crate::tree::txn::Judgement {
            attach: 1,
            seq: u64::MAX,
            term: 0,
        },
    };
    let end = (Origin::default(), end);
    say(
        &mut link,
        frame(1, &[write(1, 1), end.clone(), write(1, 2)]),
    )
    .await;
    say(&mut link, frame(2, &[end])).await;
    world
        .until(|engine| engine.applied.get(&1) == Some(&2))
        .await;
    assert_eq!(hear(&mut link).await, Some(FromLeader::Taken { up_to: 2 }));
    world.end().await;
}

/// The lease ends while the judge renews: another may lead by now.
#[tokio::test(start_paused = true)]
async fn a_report_is_confirmed_within_a_lease_only() {
    let world = World::new(1);
    let mut link = link_to_leader(&world).await;
    let touches = |number| ToLeader::Touches {
        number,
        sessions: vec![SessionId(1), SessionId(-1)],
    };
    say(&mut link, touches(1)).await;
    let confirmed = FromLeader::Confirmed {
        number: 1,
        refused: vec![SessionId(-1)],
    };
    assert_eq!(hear(&mut link).await, Some(confirmed));
    // The engine knows, this server does not yet.
    world.engine.lock().elect(Some((2, 2)), 0);
    say(&mut link, touches(2)).await;
    let unproven = Some(FromLeader::Unproven { number: 2 });
    assert_eq!(hear(&mut link).await, unproven);
    let here = world.server(1).confirmer.confirm(Vec::new()).await;
    assert_eq!(here, Err(Unavailable::NoLeader));
    world.end().await;
}

/// A lease that ends while the judge is at work.
struct ShortLease(Mutex<u32>);

impl Alone for ShortLease {
    fn valid(&self, _term: u64) -> bool {
        let mut left = self.0.lock();
        *left = left.saturating_sub(1);
        *left > 0
    }
}

#[tokio::test]
async fn a_lease_that_ends_during_the_renewal_confirms_nothing() {
    let (_keep, role) = watch::channel(Role::Leading { term: 1 });
    let view = View {
        server: 1,
        engine: SharedEngine::default(),
        renewed: Arc::default(),
    };
    let judge: Arc<dyn Judge> = Arc::new(view);
    for (looks, confirmed) in [(1, false), (2, false), (3, true)] {
        let confirmer = Confirmer {
            role: role.clone(),
            judge: Arc::downgrade(&judge),
            lease: Arc::new(ShortLease(Mutex::new(looks))),
            errands: Errands::new().0,
            patience: PATIENCE,
        };
        let result = confirmer.confirm(vec![SessionId(1)]).await;
        assert_eq!(result.is_ok(), confirmed, "{looks}");
    }
}

/// A leader that is elected before it has applied the first entry of its term: links wait.
#[tokio::test(start_paused = true)]
async fn a_link_waits_for_a_leader_that_is_about_to_lead() {
    let world = World::new(1);
    world.engine.lock().elect(Some((1, 1)), 0);
    world.tell(2, Some((1, 1)));
    world.server(2).push(5, 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.tell(1, Some((1, 1)));
    world
        .until(|engine| engine.applied.get(&5) == Some(&1))
        .await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_reads_and_reports_fail_in_time() {
    let world = World::new(1);
    let server = world.server(1);
    let began = tokio::time::Instant::now();
    assert_eq!(server.read_index.wait().await, Err(Unavailable::NoLeader));
    assert_eq!(began.elapsed(), PATIENCE.leader);
    let report = server.confirmer.confirm(Vec::new()).await;
    assert_eq!(report, Err(Unavailable::NoLeader));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_began_under_one_leader_is_answered_under_the_next() {
    let world = World::new(1);
    world.tell(3, Some((1, 1)));
    let server = world.server(3);
    let reading = server.read_index.wait();
    let electing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.tell(3, None);
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.elect(2, 2);
    };
    let (read, ()) = tokio::join!(reading, electing);
    assert_eq!(read, Ok(()));
    world.end().await;
}

/// The other end accepts everything and says nothing: a host that died behind a router.
struct Mute(Mutex<Vec<Link>>);

impl Call for Mute {
    fn call(&self, _server: u8, _purpose: Purpose) -> BoxFuture<'static, io::Result<Link>> {
        let (mine, theirs) = Link::pair();
        self.0.lock().push(theirs);
        async { Ok(mine) }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_mute_leader_is_called_again() {
    let mute = Arc::new(Mute(Mutex::default()));
    let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
    let (errands, run) = Errands::new();
    let (_role, mut role) = watch::channel(Role::Looking);
    let way = Way::Link { leader: 1, term: 1 };
    queue.turn(way);
    let mut courier = Courier {
        queue,
        call: mute.clone(),
        errands: run,
        patience: PATIENCE,
    };
    tokio::select! {
        () = courier.follow(1, way) => panic!("it is still the way"),
        read = errands.read_index(&mut role) => assert_eq!(read, Err(Unproven::NotNow)),
    }
    tokio::select! {
        () = courier.follow(1, way) => panic!("it is still the way"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    assert!(mute.0.lock().len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_takes_what_was_never_sent_is_not_believed() {
    let mute = Arc::new(Mute(Mutex::default()));
    let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
    let (_errands, run) = Errands::new();
    let way = Way::Link { leader: 1, term: 1 };
    queue.turn(way);
    let mut courier = Courier {
        queue: queue.clone(),
        call: mute.clone(),
        errands: run,
        patience: PATIENCE,
    };
    let lying = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut link = mute.0.lock().pop().unwrap();
        let lie = FromLeader::Taken { up_to: 5 };
        link.writer.send(&lie.encode()).await.unwrap();
        assert_eq!(link.reader.recv().await.unwrap(), None, "it hung up");
        queue.turn(Way::Nowhere);
    };
    tokio::join!(courier.follow(1, way), lying);
}
