//! The house rules as failing tests: who may import whom, where `unsafe` and the AF_XDP crates may
//! be named, what the packet path must not read, how long things may be, what the root holds.

mod source;

use std::path::Path;

use source::{Source, rust_files};

/// Lines of a file before its tests.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line.
const LINE_CHARACTERS_MAX: usize = 100;

/// A room, and which of its items may be named: an empty list means all.
type Permit = (&'static str, &'static [&'static str]);

/// Which rooms a room may name.
const IMPORTS: &[(&str, &[Permit])] = &[
    ("main", &[("cli", &[])]),
    // Of the rooms below control, cli knows what it prints.
    (
        "cli",
        &[("control", &[]), ("policy", &[]), ("settings", &[])],
    ),
    (
        "control",
        &[
            ("policy", &[]),
            ("egress", &[]),
            ("proxy", &[]),
            ("dataplane", &[]),
            ("classifier", &[]),
            ("wire", &[]),
            ("settings", &[]),
        ],
    ),
    ("egress", &[("dataplane", &[]), ("wire", &[])]),
    ("proxy", &[("dataplane", &[]), ("wire", &[])]),
    ("dataplane", &[("classifier", &[]), ("wire", &[])]),
    (
        "policy",
        &[
            ("classifier", INTERMEDIATE_REPRESENTATION),
            (
                "wire",
                &["Address", "Family", "FlowKey", "MacAddress", "protocol"],
            ),
        ],
    ),
    (
        "classifier",
        &[("wire", &["Address", "Family", "FlowKey", "protocol"])],
    ),
    ("wire", &[]),
    ("settings", &[]),
];

/// What policy may know of the classifier.
const INTERMEDIATE_REPRESENTATION: &[&str] = &[
    "AddressGroups",
    "AddressMatch",
    "AddressSet",
    "AddressSetId",
    "OriginId",
    "PortRange",
    "ProtocolMatch",
    "Rule",
    "RuleId",
    "RuleIndex",
    "RuleSet",
    "RuleVerdict",
    "ShardRules",
    "rule_set",
];

/// The only files that name the crates of AF_XDP and BPF.
const XDP_FILES: &[&str] = &["src/dataplane/backend/afxdp", "src/dataplane/xdp/"];
const XDP_CRATES: &[&str] = &["afxdp", "libbpf_sys"];

/// The decision that names the files which may hold `unsafe`, each as `path` in backticks.
const UNSAFE_ADR: &str = "docs/adr/0002-unsafe.md";

/// Where a frame passes: no clock, environment or lock is read there.
const PACKET_PATH: &[&str] = &["src/wire/", "src/classifier/", "src/dataplane/"];
/// Beside the packet path: reads the clock once a batch, talks to the kernel, or only builds.
const BESIDE_PACKET_PATH: &[&str] = &[
    "src/dataplane/backend/",
    "src/dataplane/worker",
    "src/dataplane/xdp/",
];
const NOT_IN_PACKET_PATH: &[(&str, &str)] = &[
    ("Instant::now", "time is an argument"),
    ("SystemTime", "time is an argument"),
    ("env::var", "the environment is read by control"),
    ("Mutex", "the packet path takes no lock"),
    ("RwLock", "the packet path takes no lock"),
    ("Condvar", "the packet path takes no lock"),
    ("println!", "the packet path does no input or output"),
    ("tracing::", "workers count and write events, control logs"),
];

/// Everything the root may hold.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".git",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "clippy.toml",
    "config",
    "demo",
    "docs",
    "pcap-tests",
    "rustfmt.toml",
    "src",
    "target",
    "test",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Applies a rule to every Rust file of the folders and fails with all it finds.
fn enforce(folders: &[&str], rule: impl Fn(&Source) -> Vec<String>) {
    let files = folders.iter().flat_map(|folder| rust_files(root(), folder));
    let violations: Vec<String> = files.flat_map(|source| rule(&source)).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

const EVERYWHERE: &[&str] = &["src", "tests", "benches"];

#[test]
fn rooms_import_only_what_the_house_permits() {
    enforce(&["src"], imports);
}

fn imports(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    let room = module.first().map_or("lib", String::as_str);
    if room == "lib" {
        return Vec::new();
    }
    let Some((_, permitted)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}:1: no room is called {room}", source.path)];
    };
    let mut violations = Vec::new();
    for path in source.paths() {
        let Some(target) = crate_path(&path.segments, &module) else {
            continue;
        };
        let (other, item) = (target[0].as_str(), target.get(1).map_or("", String::as_str));
        let is_room = IMPORTS.iter().any(|(name, _)| *name == other);
        if !is_room || other == room {
            continue;
        }
        let allowed = permitted
            .iter()
            .any(|(name, items)| *name == other && (items.is_empty() || items.contains(&item)));
        if !allowed {
            violations.push(format!(
                "{}:{}: {room} may not import {other}::{item}",
                source.path, path.line
            ));
        }
    }
    violations
}

/// `src/dataplane/backend/pcap.rs` is `["dataplane", "backend", "pcap"]`; `src/lib.rs` is empty.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut segments: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(segments.last().map(String::as_str), Some("mod" | "lib")) {
        segments.pop();
    }
    segments
}

/// The path from the crate's root, when it leads there by `crate`, the crate's name or `super`.
fn crate_path<'a>(segments: &'a [String], module: &[String]) -> Option<&'a [String]> {
    let supers = segments.iter().take_while(|s| *s == "super").count();
    let rest = match segments[0].as_str() {
        "crate" | "portcullis" => &segments[1..],
        "super" if supers == module.len() => &segments[supers..],
        _ => return None,
    };
    (!rest.is_empty()).then_some(rest)
}

#[test]
fn only_the_xdp_files_name_the_crates_of_af_xdp_and_bpf() {
    enforce(EVERYWHERE, xdp_crates);
}

fn xdp_crates(source: &Source) -> Vec<String> {
    // In backend/mod.rs the name means the sibling module.
    let exempt = source.path == "src/dataplane/backend/mod.rs"
        || XDP_FILES.iter().any(|file| source.path.starts_with(file));
    let paths = source.paths().into_iter();
    paths
        .filter(|path| !exempt && XDP_CRATES.contains(&path.segments[0].as_str()))
        .map(|path| {
            let (file, line) = (&source.path, path.line);
            format!("{file}:{line}: only {XDP_FILES:?} may name {XDP_CRATES:?}")
        })
        .collect()
}

#[test]
fn unsafe_stands_only_in_files_the_adr_names() {
    let adr = std::fs::read_to_string(root().join(UNSAFE_ADR)).unwrap_or_default();
    let words = adr.split('`').skip(1).step_by(2);
    let files: Vec<&str> = words.filter(|word| word.ends_with(".rs")).collect();
    enforce(EVERYWHERE, |source| unsafe_files(source, &files));
    for file in files {
        let gone = !root().join(file).is_file();
        assert!(!gone, "{UNSAFE_ADR} names {file}, which is gone");
    }
}

fn unsafe_files(source: &Source, allowed: &[&str]) -> Vec<String> {
    if allowed.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let is_unsafe = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word == "unsafe" || word == "unsafe_code")
    };
    let found = numbered(&source.code).filter(|(_, line)| is_unsafe(line));
    found
        .map(|(number, _)| {
            let path = &source.path;
            format!("{path}:{number}: unsafe, and {UNSAFE_ADR} does not name the file")
        })
        .take(1)
        .collect()
}

#[test]
fn the_packet_path_reads_no_clock_environment_or_lock() {
    enforce(&["src"], packet_path);
}

fn packet_path(source: &Source) -> Vec<String> {
    let starts = |prefix: &&str| source.path.starts_with(*prefix);
    if !PACKET_PATH.iter().any(starts) || BESIDE_PACKET_PATH.iter().any(starts) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (number, line) in numbered(&source.code) {
        for (word, reason) in NOT_IN_PACKET_PATH {
            if line.contains(word) {
                violations.push(format!("{}:{number}: {word}: {reason}", source.path));
            }
        }
    }
    violations
}

#[test]
fn files_functions_and_lines_are_short() {
    enforce(EVERYWHERE, lengths);
}

fn lengths(source: &Source) -> Vec<String> {
    let path = &source.path;
    let mut violations = Vec::new();
    let lines = source.code.len();
    let is_test = path.starts_with("tests/");
    if !is_test && lines > FILE_LINES_MAX {
        violations.push(format!(
            "{path}:1: {lines} lines before the tests; {FILE_LINES_MAX} at the most"
        ));
    }
    for (name, line, length) in source.functions() {
        if !is_test && length > FUNCTION_LINES_MAX {
            violations.push(format!(
                "{path}:{line}: fn {name} has {length} lines; {FUNCTION_LINES_MAX} at the most"
            ));
        }
    }
    for (number, line) in numbered(&source.lines) {
        let characters = line.chars().count();
        // A literal is not broken: rustfmt leaves it alone, and a test's text reads best whole.
        if characters > LINE_CHARACTERS_MAX && !line.contains('"') {
            violations.push(format!(
                "{path}:{number}: {characters} characters; {LINE_CHARACTERS_MAX} at the most"
            ));
        }
    }
    violations
}

#[test]
fn nothing_is_left_to_do_later() {
    enforce(EVERYWHERE, unfinished);
}

fn unfinished(source: &Source) -> Vec<String> {
    let marks = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!"));
    let mut violations = Vec::new();
    for (number, line) in numbered(&source.code) {
        for mark in marks.iter().filter(|mark| line.contains(mark.as_str())) {
            violations.push(format!("{}:{number}: {mark} in code", source.path));
        }
    }
    violations
}

fn numbered(lines: &[String]) -> impl Iterator<Item = (usize, &String)> {
    lines.iter().enumerate().map(|(at, line)| (at + 1, line))
}

#[test]
fn the_root_holds_only_its_fixed_entries() {
    for entry in std::fs::read_dir(root()).expect("the root is readable") {
        let name = entry.expect("its entries too").file_name();
        let name = name.to_string_lossy();
        assert!(
            TOP_LEVEL.contains(&name.as_ref()),
            "{name}: the root holds only {TOP_LEVEL:?}"
        );
    }
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
    ] {
        assert!(root().join(document).is_file(), "{document} is missing");
    }
}

/// Each rule finds what it is for: a rule that cannot fail would pass unnoticed.
mod the_rules_themselves {
    use super::*;

    fn no_unsafe(source: &Source) -> Vec<String> {
        unsafe_files(source, &[])
    }

    fn finds(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        rule(&Source::new(path, text))
    }

    #[test]
    fn imports_are_found_however_they_are_written() {
        for text in [
            "use crate::policy::Finding;",
            "use crate::{policy::Finding, wire::FlowKey};",
            "use crate::{\n    wire,\n    policy::{self, Finding},\n};",
            "fn f() -> crate::policy::Finding { loop {} }",
            "use super::super::policy::Finding;",
        ] {
            let found = finds(imports, "src/dataplane/pipeline.rs", text);
            assert!(!found.is_empty(), "{text}");
            assert!(
                found[0].contains("dataplane may not import policy"),
                "{found:?}"
            );
        }
        let line = finds(imports, "src/wire/a.rs", "\n\nuse crate::classifier::Rule;");
        assert_eq!(
            line,
            ["src/wire/a.rs:3: wire may not import classifier::Rule"]
        );
    }

    #[test]
    fn imports_of_permitted_items_pass_and_others_do_not() {
        let ask = |text| finds(imports, "src/classifier/tree.rs", text);
        assert!(ask("use crate::wire::{Address, FlowKey};").is_empty());
        assert_eq!(ask("use crate::wire::{FlowKey, PacketView};").len(), 1);
        assert!(ask("use super::rule_set::Rule;").is_empty());
        assert!(ask("// use crate::policy::X;\nlet s = \"crate::policy::X\";").is_empty());
        let test = "#[cfg(test)]\nmod tests {\n    use crate::policy::X;\n}";
        assert!(ask(test).is_empty());
    }

    #[test]
    fn crates_unsafe_clocks_and_marks_are_found() {
        let file = "src/dataplane/track.rs";
        assert_eq!(finds(xdp_crates, file, "use afxdp::umem::Umem;").len(), 1);
        assert!(finds(xdp_crates, "src/dataplane/xdp/a.rs", "use afxdp::umem;").is_empty());
        assert!(finds(xdp_crates, file, "use super::backend::afxdp::Io;").is_empty());
        assert_eq!(finds(no_unsafe, file, "fn f() { unsafe { g() } }").len(), 1);
        assert!(finds(no_unsafe, file, "// unsafe\nlet a = \"unsafe\";").is_empty());
        assert_eq!(
            finds(packet_path, file, "let now = Instant::now();").len(),
            1
        );
        assert!(finds(packet_path, "src/dataplane/worker.rs", "Instant::now()").is_empty());
        assert_eq!(finds(unfinished, file, "fn f() { todo!() }").len(), 1);
    }

    #[test]
    fn modules_for_tests_alone_are_known() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join("src/a").join(name);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is ours");
            std::fs::write(path, text).expect("it is ours");
        };
        let declarations = "#[cfg(test)]\nmod twin;\n#[cfg(test)]\npub(crate) mod tests;\nmod b;\n";
        write("mod.rs", declarations);
        for name in ["b.rs", "twin.rs", "tests/c.rs", "testsuite.rs"] {
            write(name, "fn f() {}\n");
        }
        let found = rust_files(folder.path(), "src");
        let with_code = found.iter().filter(|source| !source.code.is_empty());
        let paths: Vec<&str> = with_code.map(|source| source.path.as_str()).collect();
        assert_eq!(paths, ["src/a/b.rs", "src/a/mod.rs", "src/a/testsuite.rs"]);
    }

    #[test]
    fn lengths_are_measured() {
        let file = "src/wire/a.rs";
        let long_function = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(69));
        assert_eq!(finds(lengths, file, &long_function).len(), 1);
        let fits = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(68));
        assert!(finds(lengths, file, &fits).is_empty());
        assert_eq!(finds(lengths, file, &"\n".repeat(501)).len(), 1);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(600));
        assert!(finds(lengths, file, &tests).is_empty());
        assert_eq!(finds(lengths, file, &"é".repeat(101)).len(), 1);
        assert!(finds(lengths, file, &"é".repeat(100)).is_empty());
    }

    #[test]
    fn literals_do_not_confuse_the_reader() {
        let text =
            "fn f<'a>(c: &'a str) -> char { let r = r#\"}\"#; let q = '\\''; '{' }\nfn g() {}";
        let source = Source::new("src/wire/a.rs", text);
        let functions = source.functions();
        assert_eq!(functions, [("f".into(), 1, 1), ("g".into(), 2, 1)]);
    }
}
