//! Every example in `config/` loads, or is refused as its comment says.

use std::fs;
use std::path::{Path, PathBuf};

use portcullis::policy::{Compatibility, Names, Severity, SourceFile, load};
use portcullis::settings::Settings;

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

fn source(name: &str) -> SourceFile {
    let text = fs::read_to_string(config(name)).expect(name);
    SourceFile {
        name: name.to_owned(),
        text: text.into(),
    }
}

/// Errors and warnings of these files together, one a line.
fn findings(names: &[&str]) -> Vec<String> {
    let files: Vec<SourceFile> = names.iter().map(|name| source(name)).collect();
    let loaded = load(&files, &Compatibility::default(), &Names::default());
    let refused = loaded
        .findings
        .iter()
        .any(|f| f.severity == Severity::Error);
    assert_eq!(loaded.policy.is_none(), refused, "errors refuse the set");
    loaded.findings.iter().map(ToString::to_string).collect()
}

const DEMO: [&str; 2] = ["demo/policies/inventory.yaml", "demo/policies/server.yaml"];

#[test]
fn the_demo_loads_without_a_finding() {
    let settings = Settings::load(&config("demo/portcullis.toml"));
    let settings = settings.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(settings.policy.directory, config("demo/policies"));
    assert_eq!(findings(&DEMO), Vec::<String>::new());
    let [inventory, server] = DEMO;
    let changed = [inventory, server, "demo/changes/administration.yaml"];
    assert_eq!(findings(&changed), Vec::<String>::new());
}

#[test]
fn the_broken_manifest_of_the_demo_is_refused_at_its_place() {
    let [inventory, server] = DEMO;
    let found = findings(&[inventory, server, "demo/changes/broken.yaml"]);
    assert_eq!(found.len(), 1, "{found:?}");
    let place = "demo/changes/broken.yaml:12:15: error: NetworkPolicy/shop/broken: \
                 spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"198.18.0.0/300\"";
    assert!(found[0].starts_with(place), "{}", found[0]);
}
