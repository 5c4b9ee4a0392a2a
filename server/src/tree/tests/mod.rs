//! The rules of apply, one by one, and the whole against a model.

mod capture;
mod codec;
mod measure;
mod model;
mod quotas;
mod rules;
mod sessions;
mod support;
