//! Just enough Rust reading to enforce rules on the text: what is code, what is a test, which paths
//! are named.

use std::path::{Path, PathBuf};

/// One Rust file, prepared for the rules.
pub struct Source {
    /// Path relative to the repository's root, with `/`.
    pub path: String,
    /// The file's lines as written.
    pub lines: Vec<String>,
    /// The same lines with the contents of comments, strings and character literals blanked, up to
    /// the file's test module; empty for a file that is test alone.
    pub code: Vec<String>,
}

/// A path named in code, `crate::wire::FlowKey` as `["crate", "wire", "FlowKey"]`.
pub struct NamedPath {
    /// Where, from 1.
    pub line: usize,
    /// Its segments; the tree of a `use` is flattened into one path a leaf.
    pub segments: Vec<String>,
}

impl Source {
    /// Prepares the text of a file.
    pub fn new(path: &str, text: &str) -> Self {
        let blanked = blank_literals(text);
        let code = blanked.lines().map(str::to_owned).collect::<Vec<_>>();
        let lines = text.lines().map(str::to_owned).collect();
        let end = test_module_start(&code);
        Source {
            path: path.to_owned(),
            lines,
            code: code.into_iter().take(end).collect(),
        }
    }

    /// Every path of two or more segments outside the tests.
    pub fn paths(&self) -> Vec<NamedPath> {
        let tokens = tokens(&self.code);
        let mut paths = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let starts = is_identifier(&tokens[at].1)
                && (at == 0 || tokens[at - 1].1 != "::")
                && tokens.get(at + 1).is_some_and(|(_, next)| next == "::");
            if starts {
                at = use_tree(&tokens, at, &[], &mut paths);
            } else {
                at += 1;
            }
        }
        paths
    }

    /// Paths, without `.rs`, of the modules this file declares for tests alone:
    /// `#[cfg(test)] mod name;`.
    fn test_modules(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
            _ => self.path.trim_end_matches(".rs"),
        };
        let declared = (0..self.code.len()).filter_map(|at| {
            let name = test_item(&self.code, at)?.strip_suffix(';')?;
            let name = name.rsplit_once("mod ")?.1;
            Some(format!("{folder}/{name}"))
        });
        declared.collect()
    }

    /// Name, first line (from 1) and length in lines of every function with a body.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let tokens = tokens(&self.code);
        let mut functions = Vec::new();
        for at in 0..tokens.len().saturating_sub(1) {
            if tokens[at].1 == "fn" && is_identifier(&tokens[at + 1].1) {
                let first = tokens[at].0;
                if let Some(last) = body_end(&tokens, at) {
                    functions.push((tokens[at + 1].1.clone(), first, last - first + 1));
                }
            }
        }
        functions
    }
}

/// All Rust files below a folder of the repository, in order of path.
pub fn rust_files(root: &Path, folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root.join(folder), &mut found);
    found.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).expect("Rust files are UTF-8");
        let relative = file
            .strip_prefix(root)
            .expect("it was found below the root");
        Source::new(&relative.to_string_lossy(), &text)
    };
    let mut sources: Vec<Source> = found.into_iter().map(read).collect();
    let tests: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let is_test = |module: &String| {
            let rest = source.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if tests.iter().any(is_test) {
            source.code.clear();
        }
    }
    sources
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry
            .expect("folders of the repository are readable")
            .path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Line (from 0) where `#[cfg(test)] mod name {` starts, or the number of lines.
fn test_module_start(code: &[String]) -> usize {
    let opens = |item: &str| item.starts_with("mod ") && item.ends_with('{');
    (0..code.len())
        .find(|&at| test_item(code, at).is_some_and(opens))
        .unwrap_or(code.len())
}

/// First line of the item that a `#[cfg(test)]` on this line belongs to.
fn test_item(code: &[String], at: usize) -> Option<&str> {
    if code[at].trim() != "#[cfg(test)]" {
        return None;
    }
    let mut below = code[at + 1..].iter().map(|line| line.trim());
    below.find(|line| !line.is_empty() && !line.starts_with("#["))
}

/// Replaces what is inside comments, strings and character literals by blanks; keeps line ends.
fn blank_literals(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = literal_end(&source, at);
        if end == at {
            out.push(source[at]);
            at += 1;
            continue;
        }
        for &character in &source[at..end] {
            out.push(if character == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

/// End of the comment, string or character literal that starts here; `at` itself when none does.
fn literal_end(source: &[char], at: usize) -> usize {
    let next = source.get(at + 1).copied().unwrap_or(' ');
    let after_word = at > 0 && (source[at - 1].is_alphanumeric() || source[at - 1] == '_');
    match source[at] {
        '/' if next == '/' => position(source, at, |rest| rest[0] == '\n'),
        '/' if next == '*' => block_comment_end(source, at),
        '"' => quoted_end(source, at + 1, '"'),
        'r' if !after_word && (next == '"' || next == '#') => raw_string_end(source, at + 1),
        // A lifetime has no closing quote after one character.
        '\'' if next == '\\' => quoted_end(source, at + 1, '\''),
        '\'' if source.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

fn position(source: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    (from..source.len())
        .find(|&at| found(&source[at..]))
        .unwrap_or(source.len())
}

fn block_comment_end(source: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at < source.len() {
        match (source[at], source.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    source.len()
}

fn quoted_end(source: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < source.len() && source[at] != quote {
        at += if source[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(source.len())
}

/// `from` is behind the `r`; a raw identifier (`r#type`) is no literal.
fn raw_string_end(source: &[char], from: usize) -> usize {
    let hashes = source[from..].iter().take_while(|&&c| c == '#').count();
    if source.get(from + hashes) != Some(&'"') {
        return from - 1;
    }
    let closes = |rest: &[char]| {
        rest[0] == '"' && rest[1..].iter().take_while(|&&c| c == '#').count() >= hashes
    };
    (position(source, from + hashes + 1, closes) + 1 + hashes).min(source.len())
}

/// Identifiers, `::` and single other characters, each with its line from 1.
fn tokens(code: &[String]) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (number, line) in code.iter().enumerate() {
        let characters: Vec<char> = line.chars().collect();
        let mut at = 0;
        while at < characters.len() {
            let word = characters[at..]
                .iter()
                .take_while(|c| c.is_alphanumeric() || **c == '_')
                .count();
            let length = match characters[at] {
                ':' if characters.get(at + 1) == Some(&':') => 2,
                _ => word.max(1),
            };
            let token: String = characters[at..at + length].iter().collect();
            if !token.trim().is_empty() {
                tokens.push((number + 1, token));
            }
            at += length;
        }
    }
    tokens
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Flattens the use tree that starts at `at`; gives the position behind it.
fn use_tree(
    tokens: &[(usize, String)],
    mut at: usize,
    prefix: &[String],
    paths: &mut Vec<NamedPath>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[at].0;
    loop {
        match tokens.get(at).map(|(_, token)| token.as_str()) {
            Some("{") => return use_group(tokens, at + 1, &segments, paths),
            Some(token) if is_identifier(token) || token == "*" => {
                segments.push(token.to_owned());
                at += 1;
            }
            _ => break,
        }
        if tokens.get(at).is_none_or(|(_, token)| token != "::") {
            break;
        }
        at += 1;
    }
    paths.push(NamedPath { line, segments });
    at
}

fn use_group(
    tokens: &[(usize, String)],
    mut at: usize,
    prefix: &[String],
    paths: &mut Vec<NamedPath>,
) -> usize {
    while let Some((_, token)) = tokens.get(at) {
        match token.as_str() {
            "}" => return at + 1,
            token if is_identifier(token) || token == "*" => {
                at = use_tree(tokens, at, prefix, paths);
            }
            _ => at += 1,
        }
    }
    at
}

/// Line of the brace that closes the function starting at `at`; `None` without a body.
fn body_end(tokens: &[(usize, String)], at: usize) -> Option<usize> {
    let mut depth = 0_i32;
    let mut brackets = 0_i32;
    for (line, token) in &tokens[at..] {
        match token.as_str() {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets -= 1,
            ";" if depth == 0 && brackets == 0 => return None,
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 && brackets == 0 {
                    return Some(*line);
                }
            }
            _ => {}
        }
    }
    None
}
