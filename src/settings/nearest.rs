//! "Did you mean …?"

/// The known key that looks most like an unknown one, if one does.
pub(super) fn nearest<'k>(unknown: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = plain(unknown);
    let scored = known
        .iter()
        .map(|&key| (score(&plain, &self::plain(key)), key));
    let (_, key) = scored
        .filter_map(|(score, key)| score.map(|score| (score, key)))
        .min_by_key(|&(score, _)| score)?;
    Some(key)
}

/// Small for a likely misspelling, `None` for another word.
fn score(unknown: &[char], known: &[char]) -> Option<usize> {
    let distance = edit_distance(unknown, known);
    let part_of = unknown.len() >= 3 && known.starts_with(unknown)
        || known.len() >= 3 && unknown.starts_with(known);
    let close = distance <= (known.len() / 3).max(1);
    (close || part_of).then_some(distance)
}

/// Without what people mix up: case, `-` and `_`.
fn plain(key: &str) -> Vec<char> {
    let letters = key.chars().filter(|letter| !matches!(letter, '-' | '_'));
    letters.flat_map(char::to_lowercase).collect()
}

/// Letters inserted, deleted or replaced, and neighbours swapped (optimal string alignment).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, first) in rows[0].iter_mut().enumerate() {
        *first = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_find_their_key_and_other_words_none() {
        let known = [
            "cores",
            "wait",
            "busy_poll_us",
            "socket_mode",
            "half_open_flows",
        ];
        for (unknown, expected) in [
            ("core", Some("cores")),
            ("cores ", Some("cores")),
            ("wiat", Some("wait")),
            ("busyPollUs", Some("busy_poll_us")),
            ("busy-poll-us", Some("busy_poll_us")),
            ("half_open", Some("half_open_flows")),
            ("socket_modes", Some("socket_mode")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(unknown, &known), expected, "{unknown}");
        }
    }
}
