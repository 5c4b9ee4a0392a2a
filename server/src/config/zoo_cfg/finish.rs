//! Puts what single keys said together: limits that depend on each other, the client address,
//! users. What contradicts itself is refused here.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use crate::config::{Config, FourLetterWords, SaslUser};

use super::draft::Draft;
use super::jaas;
use super::keys::join_throttles;
use super::members;
use super::report::{Place, Remark};
use super::server_line::{ClientAddress, ServerLine};
use super::settings::{Findings, read_file};

/// Judges the whole. Problems go to `findings`; the result counts only if there are none.
pub(super) fn finish(
    mut draft: Draft,
    servers: &[(ServerLine, Place)],
    whole: &Place,
    findings: &mut Findings,
) -> Config {
    let mut refuse = |remark: Remark| findings.problems.push(remark);
    if !draft.data_dir_given {
        let remark = Remark::new(whole, "`dataDir` is not set");
        refuse(remark.help("add a line such as dataDir=/var/lib/quorate"));
    }
    session_limits(&mut draft, whole, findings);
    join_throttles(&mut draft);
    members::judge(&mut draft, servers, whole, findings);
    client_address(&mut draft, servers, whole, findings);
    sasl(&mut draft, findings);
    enforced_schemes(&mut draft, whole, findings);
    if draft.config.ensemble_auth_name.is_some() && !draft.ensemble_provider {
        let message = "`ensembleAuthName` has no effect without an `authProvider.N` that names \
                       org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider";
        findings.warnings.push(Remark::new(whole, message));
        draft.config.ensemble_auth_name = None;
    }
    if let FourLetterWords::Listed(words) = &mut draft.config.four_letter_words
        && draft.read_only_mode
        && !words.iter().any(|word| word == "isro")
    {
        words.push("isro".into());
    }
    draft.config
}

fn session_limits(draft: &mut Draft, whole: &Place, findings: &mut Findings) {
    let config = &mut draft.config;
    let or_ticks = |given: Option<u64>, ticks: u32| {
        given.map_or(config.tick_time * ticks, Duration::from_millis)
    };
    let (min, max) = (
        or_ticks(draft.min_session_ms, 2),
        or_ticks(draft.max_session_ms, 20),
    );
    if min > max {
        let message = format!(
            "`minSessionTimeout` ({} ms) is larger than `maxSessionTimeout` ({} ms)",
            min.as_millis(),
            max.as_millis()
        );
        findings.problems.push(Remark::new(whole, message));
    }
    config.min_session_timeout = min;
    config.max_session_timeout = max;
}

/// `clientPort` and `clientPortAddress`, or the client part of the server line; both must agree.
///
/// Source: ZooKeeper, `QuorumPeerConfig.setupClientPort`.
fn client_address(
    draft: &mut Draft,
    servers: &[(ServerLine, Place)],
    whole: &Place,
    findings: &mut Findings,
) {
    let port = draft.client_port.filter(|&port| port != 0);
    if port.is_none() && draft.client_host.is_some() {
        let message = "`clientPort` is not set, and `clientPortAddress` is";
        findings.problems.push(Remark::new(whole, message));
        return;
    }
    let from_keys = port.map(|port| ClientAddress {
        host: draft
            .client_host
            .clone()
            .unwrap_or_else(|| "0.0.0.0".into()),
        port,
    });
    let own = servers
        .iter()
        .find(|(line, _)| line.id == draft.config.my_id);
    if let Some((line, place)) = own
        && line.secure_client.is_some()
    {
        let message = "asks for a TLS listener, which is not built yet";
        let remark = Remark::new(place, message);
        findings
            .problems
            .push(remark.help("remove the second `;` part of the line"));
    }
    let from_line = own.and_then(|(line, place)| Some((line.client.clone()?, place)));
    let (chosen, place) = match (from_keys, from_line) {
        (Some(keys), Some((line, place))) => {
            // A bare port in the line stands for all interfaces, as a missing address does.
            if keys != line {
                let message = format!(
                    "client address {}:{} in the server line does not match {}:{} of `clientPort` \
                     and `clientPortAddress`",
                    line.host, line.port, keys.host, keys.port
                );
                findings.problems.push(Remark::new(place, message));
            }
            (keys, whole)
        }
        (Some(keys), None) => (keys, whole),
        (None, Some((line, place))) => (line, place),
        (None, None) => {
            let remark = Remark::new(whole, "`clientPort` is not set: no client can connect");
            findings.warnings.push(remark.help("add clientPort=2181"));
            return;
        }
    };
    match resolve(&chosen) {
        Ok(addr) => draft.config.client_addr = Some(addr),
        Err(error) => {
            let message = format!("client address `{}` is unknown: {error}", chosen.host);
            findings.problems.push(Remark::new(place, message));
        }
    }
}

fn resolve(address: &ClientAddress) -> std::io::Result<SocketAddr> {
    let host = address.host.trim_start_matches('[').trim_end_matches(']');
    (host, address.port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| std::io::Error::other("the name has no address"))
}

fn sasl(draft: &mut Draft, findings: &mut Findings) {
    if let Some(file) = draft.jaas_file.take() {
        let place = Place::whole(file.clone());
        let Some(bytes) = read_file(Path::new(&file), findings) else {
            return;
        };
        match jaas::server_users(&String::from_utf8_lossy(&bytes), &draft.jaas_section) {
            Ok(users) => draft.config.sasl_users = users,
            Err(error) => findings
                .problems
                .push(Remark::new(&place, error.to_string())),
        }
    }
    if let Some(password) = draft.sasl_super_password.take() {
        if draft.config.sasl_users.is_empty() {
            let place = Place::whole("SASLAuthenticationProvider.superPassword");
            let message = "has no effect: SASL is not configured (java.security.auth.login.config)";
            findings.warnings.push(Remark::new(&place, message));
        } else {
            draft.config.sasl_users.retain(|user| user.name != "super");
            draft
                .config
                .sasl_users
                .push(SaslUser::new("super", password));
        }
    }
}

/// Source: ZooKeeper, `AuthenticationHelper`: required SASL replaces the list of schemes.
fn enforced_schemes(draft: &mut Draft, whole: &Place, findings: &mut Findings) {
    let schemes = if draft.require_sasl {
        vec!["sasl".to_owned()]
    } else if draft.enforce_auth {
        std::mem::take(&mut draft.enforce_schemes)
    } else {
        return;
    };
    if schemes.is_empty() {
        let message = "`enforce.auth.enabled` is true and `enforce.auth.schemes` names no scheme";
        findings.problems.push(Remark::new(whole, message));
    }
    let config = &draft.config;
    for scheme in &schemes {
        let (exists, help) = match scheme.as_str() {
            "ip" => (true, ""),
            "digest" => (
                config.digest_auth,
                "remove DigestAuthenticationProvider.enabled=false",
            ),
            "sasl" => (
                !config.sasl_users.is_empty(),
                "name the users in a JAAS file: java.security.auth.login.config=FILE",
            ),
            "ensemble" => (draft.ensemble_provider, "add an authProvider.N for it"),
            _ => (false, "choose among digest, sasl, ip, ensemble"),
        };
        if !exists {
            let message = format!(
                "clients must authenticate by `{scheme}`, and no such scheme is configured"
            );
            findings
                .problems
                .push(Remark::new(whole, message).help(help));
        }
    }
    draft.config.enforce_auth_schemes = schemes;
}
