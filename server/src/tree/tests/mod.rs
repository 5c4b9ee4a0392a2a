//! The rules of apply, one by one, and the whole against a model.

mod rules;
mod sessions;
mod support;
