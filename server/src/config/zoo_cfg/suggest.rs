//! "Did you mean": the known key nearest to a mistyped one. Pure.

/// The candidate with the fewest edits, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A third of the letters may be wrong; and a mere difference in case is always a typo.
    let allowed = (typed.chars().count() / 3).clamp(1, 4);
    let lower = typed.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (edits(&lower, &candidate.to_lowercase()), candidate))
        .filter(|&(edits, _)| edits <= allowed)
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

/// Letters to add, drop, change, or swap with their neighbour. Row by row; a swap looks back two.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut least = (cell(&row, j) + usize::from(from != *to))
                .min(cell(&row, j + 1) + 1)
                .min(cell(&next, j) + 1);
            let swapped = j > 0 && b.get(j - 1) == Some(&from) && last == Some(*to);
            if swapped {
                least = least.min(cell(&before, j - 1) + 1);
            }
            next.push(least);
        }
        last = Some(from);
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 4] = ["tickTime", "dataDir", "dataLogDir", "clientPort"];

    #[test]
    fn a_typo_finds_its_key() {
        assert_eq!(nearest("tikTime", KEYS), Some("tickTime"));
        assert_eq!(nearest("ticktime", KEYS), Some("tickTime"));
        assert_eq!(nearest("clientPrt", KEYS), Some("clientPort"));
        assert_eq!(nearest("datadir", KEYS), Some("dataDir"));
    }

    #[test]
    fn something_else_finds_nothing() {
        assert_eq!(nearest("kafka.brokers", KEYS), None);
        assert_eq!(nearest("", KEYS), None);
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("rouk", "ruok"), 1);
        assert_eq!(edits("abc", "abc"), 0);
    }
}
