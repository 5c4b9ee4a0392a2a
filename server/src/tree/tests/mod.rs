//! The rules of apply, one by one, and the whole against a model.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test names what it expects"
)]

mod capture;
mod codec;
mod measure;
mod model;
mod quotas;
mod replace;
mod rules;
mod sessions;
mod support;
