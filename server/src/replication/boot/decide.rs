//! Who founds an ensemble, and who joins one. Pure: answers in, a decision out.
//!
//! An empty server cannot know whether it was wiped. So it joins whoever has an identity, and
//! founds only where *all* voters of its list say that they are empty (R22): one wiped server and
//! one that was never started are a majority of three, without the data. An operator who knows
//! better says so.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::message::{Empty, Member};
use crate::config::{Ensemble, FirstBoot};
use crate::replication::role::is_participant;

/// What a server said when it was asked what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Empty(Empty),
    Member(Member),
    /// Nothing, for this reason.
    Nothing(String),
}

/// What an empty server does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Found the ensemble, alone.
    Found,
    /// Ask this server, which leads, for an identity.
    Join(u8),
    /// Ask again soon. Why, and what an operator can do.
    Wait(String),
}

/// What server `me`, which answers `own` itself, does after everybody else gave these answers.
pub(super) fn decide(
    me: u8,
    own: Empty,
    ensemble: &Ensemble,
    answers: &BTreeMap<u8, Answer>,
) -> Decision {
    if let Some(decision) = join(answers) {
        return decision;
    }
    let votes = |&(&server, _): &(&u8, &Answer)| is_participant(ensemble, server);
    let mut empty: BTreeMap<u8, Empty> = BTreeMap::new();
    if is_participant(ensemble, me) {
        empty.insert(me, own);
    }
    for (&server, answer) in answers.iter().filter(votes) {
        match answer {
            Answer::Empty(theirs) if theirs.list != own.list => {
                return Decision::Wait(format!(
                    "server {server} has another list of servers than this one: the `server.N` \
                     lines must name the same numbers with the same roles on all servers"
                ));
            }
            Answer::Empty(theirs) => {
                empty.insert(server, *theirs);
            }
            Answer::Member(_) | Answer::Nothing(_) => {}
        }
    }
    let voters = ensemble.participants().count();
    let all = empty.len() == voters;
    let majority = empty.len() * 2 > voters;
    let told = ensemble.first_boot == FirstBoot::Majority || empty.values().all(|e| e.marked);
    if !(all || majority && told) {
        return Decision::Wait(missing(ensemble, me, answers, majority));
    }
    // The newest history goes on; among equals the lowest number, so that all choose alike.
    let best = empty
        .iter()
        .max_by_key(|(server, empty)| (empty.history, std::cmp::Reverse(**server)));
    match best {
        Some((&server, _)) if server == me => Decision::Found,
        Some((&server, _)) => Decision::Wait(format!("server {server} founds the ensemble")),
        None => Decision::Wait("no server of the list votes".into()),
    }
}

/// Somebody has an identity already: then nobody founds.
fn join(answers: &BTreeMap<u8, Answer>) -> Option<Decision> {
    let mut members = answers.iter().filter_map(|(&server, answer)| match answer {
        Answer::Member(member) => Some((server, *member)),
        Answer::Empty(_) | Answer::Nothing(_) => None,
    });
    let (first, member) = members.next()?;
    let mut leader = member.leader;
    for (other, theirs) in members {
        if theirs.cluster != member.cluster {
            return Some(Decision::Wait(format!(
                "the data of server {first} and server {other} are of different ensembles: empty \
                 the dataDir of the one whose data shall go, or correct the list"
            )));
        }
        if leader == 0 {
            leader = theirs.leader;
        }
    }
    Some(if leader == 0 {
        let silent = silent(answers);
        Decision::Wait(format!(
            "server {first} belongs to an ensemble that has no leader, and without one this \
             server is not admitted{silent}: start the others, a majority of the servers that \
             hold its data is needed"
        ))
    } else {
        Decision::Join(leader)
    })
}

/// `, server 2 does not answer (connection refused)`, for each that does not.
fn silent(answers: &BTreeMap<u8, Answer>) -> String {
    let mut text = String::new();
    for (server, answer) in answers {
        if let Answer::Nothing(why) = answer {
            // Writing to a string cannot fail.
            let _ = write!(text, ", server {server} does not answer ({why})");
        }
    }
    text
}

fn missing(ensemble: &Ensemble, me: u8, answers: &BTreeMap<u8, Answer>, majority: bool) -> String {
    let mut voters = answers.clone();
    voters.retain(|&server, _| is_participant(ensemble, server));
    // A list may name servers that nobody asked yet.
    for server in ensemble.participants().filter(|&server| server != me) {
        let unasked = || Answer::Nothing("not asked yet".into());
        voters.entry(server).or_insert_with(unasked);
    }
    let silent = silent(&voters);
    let now = if majority {
        "if none of the servers ever held data, create an empty file `initialize` in the dataDir \
         of each that runs, or set `quorate.firstBoot=majority`"
    } else {
        "fewer than a majority answer, so nothing else can help"
    };
    format!(
        "an ensemble is founded when all of its voters answer that they are empty{silent}: start \
         them; {now}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::replication::boot::tests::ensemble;

    const EMPTY: Empty = Empty {
        list: 7,
        history: -1,
        marked: false,
    };

    fn member(cluster: u8, leader: u8) -> Answer {
        Answer::Member(Member {
            cluster: [cluster; 16],
            node: 1,
            leader,
            yours: 0,
        })
    }

    fn nothing() -> Answer {
        Answer::Nothing("connection refused".into())
    }

    fn three() -> Ensemble {
        ensemble(1, &[Role::Participant; 3])
    }

    fn decided(me: u8, own: Empty, answers: &[(u8, Answer)]) -> Decision {
        decide(me, own, &three(), &answers.iter().cloned().collect())
    }

    #[test]
    fn of_empty_voters_the_lowest_founds_and_the_others_wait_for_it() {
        let others = |me: u8| {
            let others = (1..=3).filter(move |&other| other != me);
            others
                .map(|other| (other, Answer::Empty(EMPTY)))
                .collect::<Vec<_>>()
        };
        assert_eq!(decided(1, EMPTY, &others(1)), Decision::Found);
        for me in [2, 3] {
            let waits = decided(me, EMPTY, &others(me));
            assert_eq!(waits, Decision::Wait("server 1 founds the ensemble".into()));
        }
    }

    #[test]
    fn the_newest_zookeeper_history_founds() {
        let newer = Empty {
            history: 0x5_0000_0001,
            ..EMPTY
        };
        let answers = [(1, Answer::Empty(EMPTY)), (2, Answer::Empty(EMPTY))];
        assert_eq!(decided(3, newer, &answers), Decision::Found);
    }

    /// One wiped and one never started are a majority of three without the data.
    #[test]
    fn a_majority_of_empty_voters_waits_and_is_told_who_is_missing() {
        let answers = [(2, Answer::Empty(EMPTY)), (3, nothing())];
        let Decision::Wait(why) = decided(1, EMPTY, &answers) else {
            panic!("it must wait");
        };
        assert!(
            why.contains("server 3 does not answer (connection refused)"),
            "{why}"
        );
        assert!(why.contains("`initialize`"), "{why}");
        assert!(why.contains("firstBoot=majority"), "{why}");
    }

    #[test]
    fn a_majority_founds_when_the_operator_says_so() {
        let marked = Empty {
            marked: true,
            ..EMPTY
        };
        let with = |theirs: Empty| [(2, Answer::Empty(theirs)), (3, nothing())];
        assert_eq!(decided(1, marked, &with(marked)), Decision::Found);
        assert_ne!(decided(1, marked, &with(EMPTY)), Decision::Found);
        assert_ne!(
            decided(1, marked, &[(2, nothing()), (3, nothing())]),
            Decision::Found
        );

        let mut told = three();
        told.first_boot = FirstBoot::Majority;
        let answers = with(EMPTY).into_iter().collect();
        assert_eq!(decide(1, EMPTY, &told, &answers), Decision::Found);
    }

    #[test]
    fn whoever_has_an_identity_is_joined_and_nothing_is_founded_beside_it() {
        let marked = Empty {
            marked: true,
            ..EMPTY
        };
        let answers = [(2, Answer::Empty(marked)), (3, member(9, 3))];
        assert_eq!(decided(1, marked, &answers), Decision::Join(3));
        let leaderless = [(2, Answer::Empty(marked)), (3, member(9, 0))];
        assert!(matches!(decided(1, marked, &leaderless), Decision::Wait(_)));
    }

    #[test]
    fn two_ensembles_in_one_list_are_named() {
        let answers = [(2, member(8, 2)), (3, member(9, 3))];
        let Decision::Wait(why) = decided(1, EMPTY, &answers) else {
            panic!("it must wait");
        };
        assert!(
            why.contains("server 2 and server 3 are of different ensembles"),
            "{why}"
        );
    }

    #[test]
    fn another_list_is_named() {
        let other = Empty { list: 8, ..EMPTY };
        let answers = [(2, Answer::Empty(other)), (3, Answer::Empty(EMPTY))];
        let Decision::Wait(why) = decided(1, EMPTY, &answers) else {
            panic!("it must wait");
        };
        assert!(why.contains("server 2 has another list"), "{why}");
    }

    #[test]
    fn an_observer_founds_nothing_and_is_not_waited_for() {
        let roles = [Role::Participant, Role::Observer];
        let list = ensemble(1, &roles);
        let nobody = BTreeMap::from([(2, nothing())]);
        assert_eq!(decide(1, EMPTY, &list, &nobody), Decision::Found);
        let empty = BTreeMap::from([(1, Answer::Empty(EMPTY))]);
        let waits = Decision::Wait("server 1 founds the ensemble".into());
        assert_eq!(decide(2, EMPTY, &list, &empty), waits);
    }
}
