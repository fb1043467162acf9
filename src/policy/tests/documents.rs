//! What the documentation says is so.

use super::*;

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_worked_example_decides_as_the_guide_says() {
    let directory =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies/example");
    let loaded = load(
        &read_directory(&directory).unwrap(),
        &Compatibility::default(),
        &Names::default(),
    );
    let findings: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
    assert_eq!(findings, [""; 0]);
    let set = loaded.policy.unwrap();
    let guide = read("docs/policies.md");
    let (_, table) = guide.split_once("## A worked example").unwrap();
    let mut rows = 0;
    for line in table.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let &["", from, to, probe, verdict, _, ""] = &cells[..] else {
            continue;
        };
        if let "allow" | "deny" = verdict {
            assert_eq!(passes(&set, from, to, probe), verdict == "allow", "{line}");
            rows += 1;
        }
    }
    assert!(rows >= 18, "{rows} rows");
}

#[test]
fn every_finding_is_explained_and_no_other() {
    let text = read("docs/lint.md");
    let explained: std::collections::BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .collect();
    assert_eq!(explained, finding::id::ALL.iter().copied().collect());
}
