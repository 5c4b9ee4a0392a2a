//! `quorate demo` ends by itself, has killed leaders, and counts that nothing is lost.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should fail"
)]

mod support;

/// The number in front of these words.
fn number_before(text: &str, words: &str) -> u64 {
    let before = text.split(words).next().unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn a_demo_kills_leaders_and_loses_nothing() {
    let output = support::run(&["demo", "--seconds", "6", "--kill-every", "2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{error}");
    let (lines, summary) = text.split_once("\nquorate demo: ").unwrap();
    assert!(lines.contains("the leader, is killed"), "{text}");
    assert!(!text.contains('\x1b'), "no colours for a pipe: {text}");
    assert!(!summary.contains("leaders killed: 0\n"), "{text}");
    assert!(
        number_before(summary, " additions acknowledged") > 0,
        "{text}"
    );
    assert!(number_before(summary, " orders put") > 0, "{text}");
    assert!(summary.contains("3 of 3 members are there"), "{text}");
    assert!(
        summary.ends_with("nothing that was acknowledged is lost, and nothing was done twice\n"),
        "{text}"
    );
}
