//! What a large set of manifests costs: to load, to compile, and to change by one object.
//!
//! `cargo bench --bench policies [-- PODS…]` prints one row a size. The manifests are generated: in
//! each namespace 500 pods of ten applications, 50 NetworkPolicies with selectors, blocks and named
//! ports; SecurityGroups that allow blocks and one another, each pod bound to one. What the figures
//! mean is in docs/performance.md.

#[path = "policies/generate.rs"]
mod generate;

use std::time::Instant;

use portcullis::classifier::tree::Limits;
use portcullis::control::decide::Decider;
use portcullis::policy::{self, Compatibility, Names, document};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let measuring = arguments.iter().any(|argument| argument == "--bench");
    let mut sizes: Vec<usize> = arguments
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    if sizes.is_empty() {
        sizes = if measuring {
            vec![1_000, 10_000, 100_000]
        } else {
            vec![1_000]
        };
    }
    for pods in sizes {
        let files = generate::files(pods);
        let started = Instant::now();
        let mut documents = Vec::new();
        let mut findings = Vec::new();
        for file in &files {
            let (of_file, of_parsing) = document::parse(file);
            documents.extend(of_file);
            findings.extend(of_parsing);
        }
        let parsed = started.elapsed();
        let started = Instant::now();
        let loaded = policy::load_documents(
            &documents,
            findings,
            &Compatibility::default(),
            &Names::default(),
        );
        let set = loaded
            .policy
            .unwrap_or_else(|| panic!("{}", loaded.findings[0]));
        let loading = started.elapsed();
        let started = Instant::now();
        let decider = Decider::new(set, &Limits::default()).expect("within limits");
        println!(
            "{pods} pods: parse {parsed:?} load {loading:?} trees {:?}",
            started.elapsed()
        );
        for (stage, trees) in decider.policy().stages.iter().zip(decider.trees()) {
            println!(
                "  {:?} {} rules {} B",
                stage.kind,
                stage.len(),
                trees.bytes()
            );
        }
        drop(decider);
    }
}
