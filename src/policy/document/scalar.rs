//! What plain scalars are, and where block scalars stand.

use std::borrow::Cow;

use super::{Position, Value};

/// What a plain scalar is to `sigs.k8s.io/yaml` (`resolve.go` of its YAML parser): YAML 1.1, but
/// for sexagesimal numbers and dates, which are strings. The letters `y` and `n`, which that parser
/// takes for booleans, are strings here, as in nearly every other YAML tool: a namespace may be
/// called `y`.
pub fn resolve_plain(text: Cow<'_, str>) -> Value {
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            Value::Boolean(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Value::Boolean(false)
        }
        other if is_number(other) => Value::Number(text.into()),
        _ => Value::String(text.into()),
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    if !text.starts_with(['+', '-', '.']) && !text.starts_with(|first: char| first.is_ascii_digit())
    {
        return false;
    }
    // Underscores group digits, wherever they stand.
    let without_groups;
    let unsigned = if unsigned.contains('_') {
        without_groups = unsigned.replace('_', "");
        &without_groups
    } else {
        unsigned
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        let digits = unsigned.get(2..).unwrap_or_default();
        if unsigned
            .get(..2)
            .is_some_and(|found| found.eq_ignore_ascii_case(prefix))
        {
            return !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        }
    }
    is_decimal(unsigned)
}

fn is_decimal(unsigned: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent_fits = exponent
        .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    exponent_fits
        && match mantissa.split_once('.') {
            None => digits(mantissa),
            Some(("", fraction)) => digits(fraction),
            Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        }
}

/// Where the `|` or `>` of a block scalar stands whose content begins at `content`: on the last
/// line before it that is not empty.
pub fn block_header(lines: &[&str], content: Position) -> Option<Position> {
    let before = lines.get(..(content.line as usize).saturating_sub(1).min(lines.len()))?;
    let (number, line) = before
        .iter()
        .enumerate()
        .rev()
        .find(|(_, line)| !line.trim().is_empty())?;
    let is_header = |at: usize| {
        let starts = line[..at]
            .chars()
            .next_back()
            .is_none_or(char::is_whitespace);
        let rest = line[at + 1..]
            .trim_start_matches(|byte: char| byte == '+' || byte == '-' || byte.is_ascii_digit());
        let ends = rest.trim().is_empty() || rest.starts_with([' ', '\t']) && is_comment(rest);
        starts && ends
    };
    let found = line
        .match_indices(['|', '>'])
        .map(|(at, _)| at)
        .find(|at| is_header(*at))?;
    Some(Position {
        line: u32::try_from(number + 1).ok()?,
        column: u32::try_from(line[..found].chars().count() + 1).ok()?,
    })
}

fn is_comment(rest: &str) -> bool {
    rest.trim_start().starts_with('#')
}
