//! The rules of apply, one by one, and the whole against a model.

mod codec;
mod measure;
mod quotas;
mod rules;
mod sessions;
mod support;
