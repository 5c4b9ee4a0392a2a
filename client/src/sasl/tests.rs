use proptest::prelude::*;

use super::*;

/// The example of RFC 2831, section 4.
fn chris() -> DigestMd5 {
    DigestMd5::with(
        "chris".into(),
        "secret".into(),
        "imap",
        "elwood.innosoft.com",
        "OA6MHXh6VqTrRk".into(),
    )
}

const CHALLENGE: &[u8] = b"realm=\"elwood.innosoft.com\",nonce=\"OA6MG9tEQGm2hh\",qop=\"auth\",\
    algorithm=md5-sess,charset=utf-8";

fn respond(exchange: &mut DigestMd5, challenge: &str) -> Result<String, SaslError> {
    let token = exchange.step(challenge.as_bytes())?;
    Ok(String::from_utf8(token.expect("a response")).unwrap())
}

#[test]
fn the_example_of_the_rfc_is_met() {
    let mut exchange = chris();
    let response = exchange.step(CHALLENGE).unwrap().unwrap();
    assert_eq!(
        String::from_utf8(response).unwrap(),
        "charset=utf-8,username=\"chris\",realm=\"elwood.innosoft.com\",nonce=\"OA6MG9tEQGm2hh\",\
         nc=00000001,cnonce=\"OA6MHXh6VqTrRk\",digest-uri=\"imap/elwood.innosoft.com\",\
         maxbuf=65536,response=d388dad90d4bbd760a152321f2143af7,qop=auth"
    );
    let done = exchange.step(b"rspauth=ea40f60335c427b5527b84dbabcdfffd");
    assert_eq!(done, Ok(None));
}

#[test]
fn a_server_that_does_not_prove_itself_is_not_believed() {
    for proof in [
        "rspauth=ea40f60335c427b5527b84dbabcdfffe",
        "rspauth=",
        "realm=\"x\"",
        "",
    ] {
        let mut exchange = chris();
        exchange.step(CHALLENGE).unwrap();
        let judged = exchange.step(proof.as_bytes());
        assert_eq!(judged, Err(SaslError::ServerNotProven), "{proof}");
        assert_eq!(exchange.step(CHALLENGE), Err(SaslError::Over));
    }
}

#[test]
fn after_the_exchange_every_token_is_refused() {
    let mut exchange = chris();
    exchange.step(CHALLENGE).unwrap();
    let proof = b"rspauth=ea40f60335c427b5527b84dbabcdfffd";
    exchange.step(proof).unwrap();
    assert_eq!(exchange.step(proof), Err(SaslError::Over));
}

/// What ZooKeeper's and our server send.
const ZOOKEEPER: &str = "realm=\"zk-sasl-md5\",nonce=\"n\",charset=utf-8,algorithm=md5-sess";

#[test]
fn service_and_host_are_what_every_client_of_zookeeper_says() {
    let response = respond(&mut DigestMd5::new("bob", "secret"), ZOOKEEPER).unwrap();
    assert!(
        response.contains("digest-uri=\"zookeeper/zk-sasl-md5\""),
        "{response}"
    );
}

/// The server's challenge does not depend on the first token; Java's client sends it empty.
#[test]
fn the_first_token_is_empty() {
    assert!(DigestMd5::FIRST_TOKEN.is_empty());
}

#[test]
fn each_exchange_has_a_nonce_of_its_own() {
    let nonce = || DigestMd5::new("bob", "secret").cnonce;
    assert_eq!(nonce().len(), 32);
    assert_ne!(nonce(), nonce());
}

#[test]
fn quotes_and_backslashes_are_escaped() {
    let challenge = r#"nonce="a\"\\b",algorithm=md5-sess"#;
    let response = respond(&mut DigestMd5::new(r#"b"o\b"#, "secret"), challenge).unwrap();
    let expected = r#"username="b\"o\\b",nonce="a\"\\b",nc="#;
    assert!(response.starts_with(expected), "{response}");
    let directives = Directives::parse(response.as_bytes()).unwrap();
    assert_eq!(directives.one("username"), Ok(Some(r#"b"o\b"#)));
    assert_eq!(directives.one("nonce"), Ok(Some(r#"a"\b"#)));
}

#[test]
fn the_first_of_several_realms_is_taken() {
    let challenge = "realm=\"a\",realm=\"b\",nonce=\"n\",algorithm=md5-sess";
    let response = respond(&mut chris(), challenge).unwrap();
    assert!(response.contains("realm=\"a\""), "{response}");
}

/// Java's server (JDK 17) was seen to accept exactly this, each part judged on its own.
#[test]
fn names_within_latin_1_are_hashed_in_it_and_others_in_utf_8() {
    assert_eq!(charset("né"), b"n\xe9");
    assert_eq!(charset("n\u{17e}"), "n\u{17e}".as_bytes());
}

#[test]
fn each_odd_challenge_has_its_own_words() {
    let malformed = |problem| SaslError::Malformed { problem };
    let twice = malformed("a directive that may stand once stands twice");
    for (challenge, expected) in [
        ("", SaslError::NotOffered),
        (",", malformed("no nonce")),
        ("algorithm=md5-sess", malformed("no nonce")),
        ("nonce", malformed("a directive without =")),
        ("nonce=\"n", malformed("an open quote")),
        ("nonce=\"n\\\"", malformed("an open quote")),
        (
            "nonce=\"n\"algorithm=md5-sess",
            malformed("no comma behind a value"),
        ),
        ("nonce=\"n\",nonce=\"m\",algorithm=md5-sess", twice.clone()),
        ("nonce=\"n\",algorithm=md5-sess,algorithm=x", twice),
        ("nonce=\"n\"", SaslError::Unsupported),
        ("nonce=\"n\",algorithm=md5", SaslError::Unsupported),
        (
            "nonce=\"n\",algorithm=md5-sess,qop=\"auth-int,auth-conf\"",
            SaslError::Unsupported,
        ),
    ] {
        assert_eq!(
            respond(&mut chris(), challenge),
            Err(expected),
            "{challenge}"
        );
    }
}

#[test]
fn a_list_of_qualities_that_names_auth_is_fine() {
    let challenge = " nonce=\"n\" , ,algorithm=md5-sess,qop=\"auth-conf, auth\",unknown=1";
    assert!(respond(&mut chris(), challenge).is_ok());
}

#[test]
fn tokens_beyond_the_limits_are_refused_at_once() {
    let long = vec![b'a'; TOKEN_BYTES_MAX + 1];
    let too_long = SaslError::TooLong {
        token_bytes: long.len(),
    };
    assert_eq!(chris().step(&long), Err(too_long));
    let many = "a=,".repeat(65);
    let refused = respond(&mut chris(), &many);
    assert_eq!(
        refused,
        Err(SaslError::Malformed {
            problem: "too many directives"
        })
    );
}

#[test]
fn debug_hides_the_password() {
    let mut exchange = DigestMd5::new("bob", "hunter2");
    respond(&mut exchange, ZOOKEEPER).unwrap();
    let shown = format!("{exchange:?}");
    assert_eq!(shown, "DigestMd5 { user: \"bob\", .. }");
}

proptest! {
    #[test]
    fn no_token_breaks_the_exchange(
        first in "(realm|nonce|algorithm|qop|[a-z=\"\\\\, ]|md5-sess|é){0,20}",
        second in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut exchange = DigestMd5::new("bob", "secret");
        let _ = exchange.step(first.as_bytes());
        prop_assert!(exchange.step(&second).is_err());
    }
}
