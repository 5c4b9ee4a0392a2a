//! The four-letter words: what a server tells about itself to whoever can reach the client port.
//!
//! Formatting only. It reads a [`ServerView`] and writes text in ZooKeeper's shapes, which
//! monitoring agents parse; it opens no socket and decides nothing about the server. Answers are
//! bounded ([`text::Page`]), and words that are not on the whitelist get ZooKeeper's sentence, to
//! the byte.

mod mntr;
mod mntr_keys;
mod process;
mod text;
pub(crate) mod view;
pub(crate) mod word;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::time::Duration;

use quorate_proto::SessionId;

use crate::config::{Config, Ensemble, FourLetterWords, Role};

use text::{Date, Decimal, Page, Peer};
use view::{ConnectionRow, Duty, EnsembleView, ServerView};
use word::Word;

/// The version that clients and agents read: they parse the front, and people the rest.
///
/// The date is that of the release, not of the build, so that a build can be repeated.
pub(crate) const VERSION: &str = concat!(
    "3.9.5-quorate-",
    env!("CARGO_PKG_VERSION"),
    ", built on 2026-11-23 00:00 UTC"
);

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The answer of a server that is still waiting for the other ones of its ensemble.
pub(crate) fn answer_early(word: Word, whitelist: &FourLetterWords) -> Vec<u8> {
    match word {
        Word::TelnetClose => Vec::new(),
        word if !is_listed(word, whitelist) => not_listed(word),
        Word::Ruok => "imok".into(),
        Word::Isro => "null".into(),
        _ => NOT_SERVING.into(),
    }
}

fn not_listed(word: Word) -> Vec<u8> {
    let name = word.name();
    format!("{name} is not executed because it is not in the whitelist.\n").into_bytes()
}

/// The answer to `word`; the connection closes after it, and after an empty one at once.
pub(crate) fn answer(word: Word, view: &dyn ServerView, whitelist: &FourLetterWords) -> Vec<u8> {
    if word == Word::TelnetClose {
        return Vec::new();
    }
    if !is_listed(word, whitelist) {
        return not_listed(word);
    }
    if word.needs_service() && !view.serving() {
        return NOT_SERVING.into();
    }
    match word {
        Word::Conf => conf(view),
        Word::Cons => cons(view),
        Word::Crst => {
            view.reset_connection_stats();
            "Connection stats reset.\n".into()
        }
        Word::Dirs => {
            let sizes = view.dir_sizes();
            format!("datadir_size: {}\nlogdir_size: {}\n", sizes.data, sizes.log)
        }
        Word::Dump => dump(view),
        Word::Envi => envi(view),
        // There is no trace mask; agents only want a number.
        Word::Gtmk => "306".into(),
        Word::Hash => hash(view),
        Word::Isro => if view.serving() { "rw" } else { "null" }.into(),
        Word::Mntr => mntr::answer(view),
        Word::Ruok => "imok".into(),
        Word::Srst => {
            view.reset_server_stats();
            "Server stats reset.\n".into()
        }
        Word::Srvr => format!("Zookeeper version: {VERSION}\n{}", statistics(view)),
        Word::Stat => stat(view),
        Word::Stmk { mask } => mask.to_string(),
        Word::Wchc => wchc(view),
        Word::Wchp => wchp(view),
        Word::Wchs => {
            let facts = view.watches();
            format!(
                "{} connections watching {} paths\nTotal watches:{}\n",
                facts.connections, facts.paths, facts.total
            )
        }
        Word::TelnetClose => String::new(),
    }
    .into_bytes()
}

/// `srvr` is always answered: ZooKeeper's own scripts ask it.
fn is_listed(word: Word, whitelist: &FourLetterWords) -> bool {
    match whitelist {
        FourLetterWords::All => true,
        FourLetterWords::Listed(words) => {
            word == Word::Srvr || words.iter().any(|listed| listed == word.name())
        }
    }
}

/// What `srvr` and `stat` have in common.
fn statistics(view: &dyn ServerView) -> String {
    let metrics = view.metrics();
    let latency = metrics.request_latency();
    let tree = view.tree();
    let ensemble = view.ensemble();
    let mode = ensemble.as_ref().map_or("standalone", EnsembleView::word);
    let mut text = format!(
        "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\n\
         Outstanding: {}\nZxid: {}\nMode: {mode}\nNode count: {}\n",
        latency.min,
        Decimal::average(latency.sum, latency.count),
        latency.max,
        metrics.packets_received.get(),
        metrics.packets_sent.get(),
        metrics.connections.get(),
        metrics.outstanding.get(),
        tree.zxid,
        tree.znodes
    );
    if let Some(Duty::Leads(_)) = ensemble.map(|ensemble| ensemble.duty) {
        let [last, min, max] = mntr::proposal_sizes(metrics);
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "Proposal sizes last/min/max: {last}/{min}/{max}");
    }
    text
}

fn stat(view: &dyn ServerView) -> String {
    let mut page = Page::new();
    page.line(format_args!("Zookeeper version: {VERSION}"));
    page.line(format_args!("Clients:"));
    view.each_connection(&mut |row| {
        page.line(format_args!(
            " {}[{}]({})",
            Peer(row.peer),
            row.interest_ops,
            counts(row)
        ));
        go_on(&page)
    });
    // The figures are what `stat` is asked for: they follow even a cut list.
    format!("{}\n{}", page.into_text(), statistics(view))
}

fn counts(row: &ConnectionRow) -> String {
    format!(
        "queued={},recved={},sent={}",
        row.queued, row.received, row.sent
    )
}

fn cons(view: &dyn ServerView) -> String {
    let mut page = Page::new();
    view.each_connection(&mut |row| {
        let mut facts = counts(row);
        if let Some(session) = &row.session {
            // Writing to a `String` cannot fail.
            let _ = write!(
                facts,
                ",sid={},lop={},est={},to={},lcxid={:#x},lzxid={},lresp={},llat={},minlat={},\
                 avglat={},maxlat={}",
                session.id,
                session.last_op,
                session.established_ms,
                session.timeout_ms,
                session.last_xid,
                session.last_zxid,
                session.last_reply_ms,
                session.latency_last_ms,
                session.latency_min_ms,
                session.latency_avg_ms,
                session.latency_max_ms
            );
        }
        page.line(format_args!(
            " {}[{}]({facts})",
            Peer(row.peer),
            row.interest_ops
        ));
        go_on(&page)
    });
    page.into_text() + "\n"
}

fn conf(view: &dyn ServerView) -> String {
    let config = view.config();
    let sizes = view.dir_sizes();
    let log_dir = config.data_log_dir.as_ref().unwrap_or(&config.data_dir);
    let port = view.client_addr().map_or(-1, |addr| i32::from(addr.port()));
    let backlog = config
        .listen_backlog
        .map_or_else(|| "-1".into(), |n| n.to_string());
    let mut text = format!(
        "clientPort={port}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\n\
         dataLogSize={}\ntickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\n\
         maxSessionTimeout={}\nclientPortListenBacklog={backlog}\nserverId={}\n",
        config.data_dir.display(),
        sizes.data,
        log_dir.display(),
        sizes.log,
        config.tick_time.as_millis(),
        config.max_client_cnxns,
        config.min_session_timeout.as_millis(),
        config.max_session_timeout.as_millis(),
        config.my_id
    );
    if let (Some(ensemble), Some(view)) = (&config.ensemble, view.ensemble()) {
        membership(&mut text, config, ensemble, &view.members);
    }
    text
}

/// What a member of an ensemble adds to `conf`; ZooKeeper ends it without a newline.
fn membership(text: &mut String, config: &Config, ensemble: &Ensemble, members: &str) {
    let ticks = |time: Duration| time.as_millis() / config.tick_time.as_millis().max(1);
    let address = ensemble
        .server(config.my_id)
        .and_then(|line| line.addresses.first());
    // Writing to a `String` cannot fail.
    let _ = write!(
        text,
        "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={}\n\
         peerType={}\nmembership: \n{members}",
        ticks(ensemble.init_limit),
        ticks(ensemble.sync_limit),
        address.map_or(-1, |address| i32::from(address.election_port)),
        address.map_or(-1, |address| i32::from(address.quorum_port)),
        u8::from(ensemble.role == Role::Observer),
    );
}

/// Java's own properties are left out: there is no Java.
fn envi(view: &dyn ServerView) -> String {
    let facts = view.process();
    // Java's names for what Rust calls otherwise.
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    };
    let os = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Mac OS X",
        other => other,
    };
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\nos.name={os}\nos.arch={arch}\n\
         os.version={}\nuser.name={}\nuser.home={}\nuser.dir={}\n",
        facts.host_name, facts.os_version, facts.user_name, facts.user_home, facts.user_dir
    )
}

fn hash(view: &dyn ServerView) -> String {
    view.digests()
        .into_iter()
        .fold(String::new(), |mut out, (zxid, digest)| {
            let _ = writeln!(out, "{:x}: {digest}", zxid.0);
            out
        })
}

fn dump(view: &dyn ServerView) -> String {
    let mut page = Page::new();
    let tick = view.config().tick_time;
    // Expiry happens at whole ticks, and the list goes by those.
    let tick_ms = i64::try_from(tick.as_millis()).unwrap_or(i64::MAX).max(1);
    let bucket = |expires_ms: i64| (expires_ms.div_euclid(tick_ms) + 1).saturating_mul(tick_ms);

    // Only a leader knows when sessions end.
    let follows = view
        .ensemble()
        .is_some_and(|ensemble| !matches!(ensemble.duty, Duty::Leads(_)));
    let all = if follows {
        global_sessions(view, &mut page)
    } else {
        session_sets(view, &mut page, bucket)
    };
    page.line(format_args!("ephemeral nodes dump:"));
    let owners: Vec<_> = all
        .into_iter()
        .map(|id| (id, view.ephemerals_of(id)))
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    page.line(format_args!("Sessions with Ephemerals ({}):", owners.len()));
    for (id, paths) in owners {
        page.line(format_args!("{id}:"));
        for path in paths {
            page.line(format_args!("\t{path}"));
        }
    }

    let mut connections: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let mut count = 0;
    view.each_connection(&mut |row| {
        let session = row
            .session
            .as_ref()
            .map_or(SessionId::NONE, |session| session.id);
        let line = format!("\tip: {} sessionId: {:#x}", Peer(row.peer), session.0);
        connections
            .entry(bucket(row.expires_ms))
            .or_default()
            .push(line);
        count += 1;
        ControlFlow::Continue(())
    });
    page.line(format_args!("Connections dump:"));
    page.line(format_args!(
        "Connections Sets ({})/({count}):",
        connections.len()
    ));
    for (expires_ms, lines) in &connections {
        page.line(format_args!(
            "{} expire at {}:",
            lines.len(),
            Date(*expires_ms)
        ));
        for line in lines {
            page.line(format_args!("{line}"));
        }
    }
    page.into_text()
}

/// The sessions by the tick at which they end; all of them.
fn session_sets(
    view: &dyn ServerView,
    page: &mut Page,
    bucket: impl Fn(i64) -> i64,
) -> Vec<SessionId> {
    let mut sessions: BTreeMap<i64, Vec<SessionId>> = BTreeMap::new();
    let mut all = Vec::new();
    view.each_session(&mut |row| {
        sessions
            .entry(bucket(row.expires_ms))
            .or_default()
            .push(row.id);
        all.push(row.id);
        ControlFlow::Continue(())
    });
    page.line(format_args!("SessionTracker dump:"));
    page.line(format_args!(
        "Session Sets ({})/({}):",
        sessions.len(),
        all.len()
    ));
    for (expires_ms, ids) in &sessions {
        page.line(format_args!(
            "{} expire at {}:",
            ids.len(),
            Date(*expires_ms)
        ));
        for id in ids {
            page.line(format_args!("\t{id}"));
        }
    }
    all
}

/// The sessions with their timeouts; all of them.
fn global_sessions(view: &dyn ServerView, page: &mut Page) -> Vec<SessionId> {
    let all = view.session_timeouts();
    page.line(format_args!("Global Sessions({}):", all.len()));
    for (id, timeout_ms) in &all {
        page.line(format_args!("{id}\t{timeout_ms}ms"));
    }
    all.into_iter().map(|(id, _)| id).collect()
}

fn wchc(view: &dyn ServerView) -> String {
    let mut page = Page::new();
    let mut current: Option<SessionId> = None;
    view.each_watch_by_session(&mut |session, path| {
        if current != Some(session) {
            page.line(format_args!("{session}"));
            current = Some(session);
        }
        page.line(format_args!("\t{path}"));
        go_on(&page)
    });
    page.into_text() + "\n"
}

fn wchp(view: &dyn ServerView) -> String {
    let mut page = Page::new();
    let mut current: Option<String> = None;
    view.each_watch_by_path(&mut |path, session| {
        if current.as_deref() != Some(path) {
            page.line(format_args!("{path}"));
            current = Some(path.to_owned());
        }
        page.line(format_args!("\t{session}"));
        go_on(&page)
    });
    page.into_text() + "\n"
}

fn go_on(page: &Page) -> ControlFlow<()> {
    if page.is_full() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
