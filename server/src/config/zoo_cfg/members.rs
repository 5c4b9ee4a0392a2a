//! The servers that a file lists, and what this one is among them: alone, or of an ensemble.
//!
//! Source: ZooKeeper, `QuorumPeerConfig.parseDynamicConfig`, `setupMyId`, `setupPeerType`.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::{Config, Ensemble};

use super::draft::Draft;
use super::report::{Place, Remark};
use super::server_line::{Role, ServerLine};
use super::settings::{Findings, read_file};

/// Puts the server lines together; sets number and ensemble of the draft.
pub(super) fn judge(
    draft: &mut Draft,
    servers: &[(ServerLine, Place)],
    whole: &Place,
    findings: &mut Findings,
) {
    addresses(draft, servers, findings);
    let together = of_several(draft, servers, whole, findings);
    my_id(draft, servers, together, whole, findings);
    let own = servers
        .iter()
        .find(|(line, _)| line.id == draft.config.my_id);
    peer_type(draft, servers, own.filter(|_| together), whole, findings);
    if !together {
        return;
    }
    votes(draft, servers, whole, findings);
    if let Some((line, place)) = own {
        shared_port(draft, line, place, findings);
        let ensemble = ensemble(&draft.config, draft, line.role, servers);
        times(&draft.config, &ensemble, whole, findings);
        draft.config.ensemble = Some(ensemble);
    }
}

/// What a line alone, or two of them, cannot be.
fn addresses(draft: &Draft, servers: &[(ServerLine, Place)], findings: &mut Findings) {
    let mut known: HashMap<(&str, u16), u8> = HashMap::new();
    for (line, place) in servers {
        if line.addresses.len() > 1 && !draft.multi_address {
            let message = format!("server.{} has several addresses", line.id);
            let remark = Remark::new(place, message);
            findings
                .problems
                .push(remark.help("set multiAddress.enabled=true"));
        }
        for address in &line.addresses {
            let of = (address.host.as_str(), address.quorum_port);
            if let Some(other) = known.insert(of, line.id).filter(|&other| other != line.id) {
                let message = format!(
                    "server.{other} and server.{} have the same address {}:{}",
                    line.id, of.0, of.1
                );
                findings.problems.push(Remark::new(place, message).help(
                    "give each its own host or first port: who dials one must not reach the other",
                ));
            }
        }
    }
}

/// Whether the list asks for an ensemble.
fn of_several(
    draft: &Draft,
    servers: &[(ServerLine, Place)],
    whole: &Place,
    findings: &mut Findings,
) -> bool {
    let of_role = |role| servers.iter().filter(move |(line, _)| line.role == role);
    let observer = of_role(Role::Observer).next();
    let mut participants = of_role(Role::Participant);
    match (participants.next(), participants.next(), observer) {
        (None, _, Some((_, place))) => {
            let message = "observers without participants are an invalid configuration";
            let remark = Remark::new(place, message);
            findings
                .problems
                .push(remark.help("an observer needs servers that vote to follow"));
            false
        }
        (Some(_), None, Some((_, place))) if draft.standalone_enabled => {
            let message = "observers without a quorum are an invalid configuration: one \
                           participant runs standalone";
            findings.problems.push(Remark::new(place, message).help(
                "leave one server line, or set standaloneEnabled=false for an ensemble of one \
                 participant and its observers",
            ));
            false
        }
        (Some((line, place)), None, None) if draft.standalone_enabled => {
            let message = format!(
                "server.{} is the only server listed: it runs standalone",
                line.id
            );
            findings.notes.push(Remark::new(place, message));
            false
        }
        (Some(_), _, _) => true,
        (None, _, None) => {
            if !draft.standalone_enabled {
                let message = "`standaloneEnabled=false` needs at least one participant";
                let remark = Remark::new(whole, message);
                findings
                    .problems
                    .push(remark.help("remove standaloneEnabled=false"));
            }
            false
        }
    }
}

/// The number in `dataDir/myid`. Who stands alone may do without: that of the only line, else 1.
fn my_id(
    draft: &mut Draft,
    servers: &[(ServerLine, Place)],
    together: bool,
    whole: &Place,
    findings: &mut Findings,
) {
    let path = draft.config.data_dir.join("myid");
    let place = Place::whole(path.display().to_string());
    let only = match servers {
        [(line, _)] => Some(line.id),
        _ => None,
    };
    if !draft.data_dir_given {
        return;
    }
    if !path.exists() {
        if together {
            let message = format!(
                "{} is missing: which of the servers is this?",
                path.display()
            );
            let help = format!("write its number there: {}", numbers(servers));
            findings
                .problems
                .push(Remark::new(whole, message).help(help));
        }
        draft.config.my_id = only.unwrap_or(1);
        return;
    }
    let Some(bytes) = read_file(&path, findings) else {
        return;
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.lines().next().unwrap_or_default().trim();
    let id = match text.parse::<u64>().map(u8::try_from) {
        Ok(Ok(id)) => id,
        Ok(Err(_)) => {
            let message = format!("server id {text} is too large: ids are 1 to 255");
            findings.problems.push(Remark::new(&place, message));
            return;
        }
        Err(_) => {
            let message = format!("server id `{text}` is not a number");
            let remark = Remark::new(&place, message);
            findings
                .problems
                .push(remark.help("the file holds one number from 1 to 255 and nothing else"));
            return;
        }
    };
    draft.config.my_id = id;
    let listed = servers.iter().any(|(line, _)| line.id == id);
    if together && !listed {
        let message = format!(
            "this server is {id}, and the list has no server.{id}, only {}",
            numbers(servers)
        );
        findings.problems.push(
            Remark::new(&place, message).help(
                "correct the number in this file, or add the line to the list of every server",
            ),
        );
    } else if let Some(only) = only.filter(|_| !listed) {
        let message = format!("this server is {id}, and the only server line is server.{only}");
        findings.warnings.push(Remark::new(&place, message));
    }
}

/// `1, 2, 3`.
fn numbers(servers: &[(ServerLine, Place)]) -> String {
    let all: Vec<_> = servers
        .iter()
        .map(|(line, _)| line.id.to_string())
        .collect();
    all.join(", ")
}

/// `peerType` is no more than a remark: the list counts.
fn peer_type(
    draft: &Draft,
    servers: &[(ServerLine, Place)],
    own: Option<&(ServerLine, Place)>,
    whole: &Place,
    findings: &mut Findings,
) {
    let Some(written) = draft.peer_type else {
        return;
    };
    let word = |role| match role {
        Role::Participant => "participant",
        Role::Observer => "observer",
    };
    // Alone, any line stands for this server: it may have no number.
    let line = own.or_else(|| servers.iter().find(|(line, _)| line.role != written));
    match line {
        Some((line, place)) if line.role != written => {
            let message = format!(
                "peer type from the servers list ({}) of server.{} does not match `peerType` ({}): \
                 the list counts",
                word(line.role),
                line.id,
                word(written)
            );
            findings.warnings.push(Remark::new(place, message));
        }
        None if servers.is_empty() && written == Role::Observer && findings.problems.is_empty() => {
            let message = "`peerType=observer` has no effect: without server lines the server \
                           runs standalone";
            findings.warnings.push(Remark::new(whole, message));
        }
        _ => {}
    }
}

/// One participant, one vote.
fn votes(draft: &Draft, servers: &[(ServerLine, Place)], whole: &Place, findings: &mut Findings) {
    let votes = |(line, _): &&(ServerLine, Place)| line.role == Role::Participant;
    let participants = servers.iter().filter(votes).count();
    if draft.ensemble.groups > 1 {
        let message = "`group.N` asks for a majority of groups, which is not built";
        findings.problems.push(
            Remark::new(whole, message)
                .help("remove the groups and weights: a majority of all participants decides"),
        );
    }
    let weights = &draft.ensemble.weights;
    let equal = weights.iter().all(|weight| Some(weight) == weights.first());
    let all = weights.len() >= participants || weights.first().is_none_or(|&weight| weight == 1);
    if !equal || !all || weights.first() == Some(&0) {
        let message = "`weight.N` gives participants different votes, which is not built";
        findings.problems.push(
            Remark::new(whole, message)
                .help("remove the weights; write :observer for a server that is not to vote"),
        );
    }
    if participants == 2 {
        let message = "two participants: when either stops, nothing can be written until it is \
                       back";
        findings
            .warnings
            .push(Remark::new(whole, message).help("three participants survive the loss of one"));
    } else if participants > 2 && participants.is_multiple_of(2) {
        let message = format!(
            "{participants} participants survive the loss of {}, as {} do",
            (participants - 1) / 2,
            participants - 1
        );
        findings.notes.push(Remark::new(whole, message));
    }
}

/// Where ZooKeeper's leader could not bind.
fn shared_port(draft: &Draft, line: &ServerLine, place: &Place, findings: &mut Findings) {
    let client = draft.client_port.filter(|&port| port != 0);
    let client = client.or(line.client.as_ref().map(|client| client.port));
    if line
        .addresses
        .iter()
        .any(|address| Some(address.quorum_port) == client)
    {
        let message = format!(
            "the first port of server.{} is also its client port: clients and peers share it",
            line.id
        );
        findings.notes.push(Remark::new(place, message));
    }
}

fn ensemble(
    config: &Config,
    draft: &Draft,
    role: Role,
    servers: &[(ServerLine, Place)],
) -> Ensemble {
    let lines = servers.iter().map(|(line, _)| line.clone()).collect();
    let mut ensemble = Ensemble::new(lines, role, config.tick_time);
    let given = &draft.ensemble;
    let or = |field: &mut Duration, ms: Option<u64>| {
        if let Some(ms) = ms {
            *field = Duration::from_millis(ms);
        }
    };
    or(&mut ensemble.heartbeat, given.heartbeat_ms);
    or(&mut ensemble.election_min, given.election_min_ms);
    or(&mut ensemble.election_max, given.election_max_ms);
    if let Some(ticks) = given.init_ticks {
        ensemble.init_limit = config.tick_time.saturating_mul(ticks);
    }
    if let Some(ticks) = given.sync_ticks {
        ensemble.sync_limit = config.tick_time.saturating_mul(ticks);
    }
    ensemble.listen_everywhere = given.listen_everywhere;
    ensemble.linearizable_reads = given.linearizable_reads;
    ensemble.leader_serves = !given.leader_is_aloof;
    if let Some(first_boot) = given.first_boot {
        ensemble.first_boot = first_boot;
    }
    ensemble
}

/// Times that contradict each other.
fn times(config: &Config, ensemble: &Ensemble, whole: &Place, findings: &mut Findings) {
    let (beat, min, max) = (
        ensemble.heartbeat.as_millis(),
        ensemble.election_min.as_millis(),
        ensemble.election_max.as_millis(),
    );
    if min < beat * 2 {
        let message = format!(
            "`quorate.electionTimeoutMinMs` ({min} ms) is less than two heartbeats \
             (`quorate.heartbeatMs`, {beat} ms): one late heartbeat would depose a leader"
        );
        findings.problems.push(Remark::new(whole, message));
    }
    if min >= max {
        let message = format!(
            "`quorate.electionTimeoutMinMs` ({min} ms) is not smaller than \
             `quorate.electionTimeoutMaxMs` ({max} ms): servers would stand for election at once"
        );
        findings.problems.push(Remark::new(whole, message));
    }
    let patience = ensemble.patience(config);
    if ensemble.election_max * 2 >= patience {
        let message = format!(
            "an election may take {} ms, and clients are disconnected after {} ms without a leader",
            max * 2,
            patience.as_millis()
        );
        findings.warnings.push(Remark::new(whole, message).help(
            "raise tickTime, syncLimit and minSessionTimeout, or lower the election timeouts",
        ));
    }
}
