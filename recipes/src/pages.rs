//! The code on the pages of `docs/recipes` compiles. Nothing else: built for doctests only.

macro_rules! pages {
    ($($name:ident, $file:literal;)*) => {
        $(#[doc = include_str!(concat!("../../docs/recipes/", $file))] pub struct $name;)*
    };
}

pages! {
    Locks, "locks.md";
    Elections, "elections.md";
    Queues, "queues.md";
    Barriers, "barriers.md";
    Counters, "counters.md";
    NamesAndIds, "naming.md";
    Members, "membership.md";
}
