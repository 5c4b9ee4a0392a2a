//! What the request path promises, end to end: each test drives a whole server in this process
//! through the thin client. `docs/design/rules.md` lists the rules, their tests, and what was
//! broken to see each of them fail.

#![expect(
    clippy::unwrap_used,
    reason = "a server that does not do as it should fails the test"
)]

mod disk;
mod limits;
mod line;
mod sessions;
mod settings;
mod storms;
mod support;
mod views;
