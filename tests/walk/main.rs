//! Captures in, captures and verdicts out: every folder of `pcap-tests/walk/` is one case.
//!
//! ```text
//! settings.toml   two ports and the network around them
//! policies/       manifests
//! in.pcapng       what came in; made by the case's function in `cases.rs`
//! verdicts.jsonl  what became of every frame                                   (golden)
//! out.pcapng      every frame that left or was dropped, with comments          (golden)
//! ```
//!
//! `PORTCULLIS_REGENERATE=1 cargo test --test walk` writes captures and goldens anew; read the
//! difference before you commit it.

mod cases;
mod frames;

use std::fs;
use std::path::{Path, PathBuf};

use portcullis::control::replay::{
    CaptureInput, CompareRequest, Outputs, ReplayRequest, Report, compare, run,
};
use portcullis::settings::Settings;

use cases::CASES;

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("pcap-tests/walk")
        .join(case)
}

fn settings(folder: &Path) -> Settings {
    let loaded = Settings::load(&folder.join("settings.toml"));
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

fn request(folder: &Path) -> ReplayRequest {
    ReplayRequest {
        settings: settings(folder),
        policies: None,
        captures: vec![CaptureInput {
            path: folder.join("in.pcapng"),
            port: None,
        }],
        write_drops: true,
        measured_passes: 0,
        warm_up_passes: 0,
    }
}

/// Replays into files of a temporary folder; gives the report, verdict lines and capture.
fn replay(request: &ReplayRequest) -> (Report, String, Vec<u8>) {
    let results = tempfile::tempdir().expect("a temporary folder");
    let (verdicts, frames) = (
        results.path().join("verdicts"),
        results.path().join("frames"),
    );
    let create = |path| Some(Box::new(fs::File::create(path).expect("it is ours")) as Box<_>);
    let outputs = Outputs {
        verdicts: create(&verdicts),
        frames: create(&frames),
    };
    let report = run(request, outputs).unwrap_or_else(|error| panic!("{error}"));
    let verdicts = fs::read_to_string(verdicts).expect("it was written");
    (report, verdicts, fs::read(frames).expect("it was written"))
}

fn regenerate() -> bool {
    std::env::var("PORTCULLIS_REGENERATE").is_ok_and(|value| value == "1")
}

#[test]
fn every_frame_of_every_case_ends_as_written() {
    for (case, make) in CASES {
        let folder = folder(case);
        let capture = make();
        if regenerate() {
            fs::write(folder.join("in.pcapng"), &capture).expect("the repository is writable");
        }
        let stored = fs::read(folder.join("in.pcapng")).expect(case);
        assert!(
            stored == capture,
            "{case}/in.pcapng is not what cases.rs makes"
        );
        let (report, verdicts, frames) = replay(&request(&folder));
        assert_eq!(report.damage, None, "{case}");
        if regenerate() {
            fs::write(folder.join("verdicts.jsonl"), &verdicts).expect("it is writable");
            fs::write(folder.join("out.pcapng"), &frames).expect("it is writable");
        }
        let golden = fs::read_to_string(folder.join("verdicts.jsonl")).expect(case);
        for (line, (found, expected)) in verdicts.lines().zip(golden.lines()).enumerate() {
            assert_eq!(found, expected, "{case}/verdicts.jsonl:{}", line + 1);
        }
        assert_eq!(verdicts.lines().count(), golden.lines().count(), "{case}");
        let golden = fs::read(folder.join("out.pcapng")).expect(case);
        assert!(
            frames == golden,
            "{case}/out.pcapng differs; verdicts are the same"
        );
    }
}

#[test]
fn every_folder_is_a_case() {
    let listed = fs::read_dir(folder("")).expect("the folder is there");
    for entry in listed {
        let name = entry.expect("it is readable").file_name();
        let known = CASES.iter().any(|(case, _)| name == *case);
        assert!(known, "pcap-tests/walk/{} has no function", name.display());
    }
}

#[test]
fn two_runs_give_the_same_digest_and_measuring_changes_nothing() {
    let request = request(&folder("routed"));
    let (first, ..) = replay(&request);
    let measured = ReplayRequest {
        measured_passes: 3,
        warm_up_passes: 1,
        ..request.clone()
    };
    let (second, ..) = replay(&measured);
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.verdicts.len(), second.verdicts.len());
    let speed = second.speed.expect("three passes were measured");
    assert_eq!(speed.frames, 3 * first.received.packets);
    assert!(first.speed.is_none());
}

#[test]
fn captures_of_single_ports_are_merged_by_time() {
    let whole = request(&folder("wire"));
    let (expected, verdicts, _) = replay(&whole);
    let parts = tempfile::tempdir().expect("a temporary folder");
    let mut request = whole.clone();
    request.captures.clear();
    for port in ["inside", "outside"] {
        let path = parts.path().join(port);
        let (frames, _) = frames::read(&whole.captures[0].path);
        let of_port = frames.into_iter().filter(|frame| frame.port == port);
        fs::write(&path, frames::pcap(of_port)).expect("it is ours");
        let port = Some(port.to_owned());
        request.captures.push(CaptureInput { path, port });
    }
    let (found, merged, _) = replay(&request);
    assert_eq!(merged, verdicts);
    assert_eq!(found.digest, expected.digest);
}

#[test]
fn a_capture_cut_in_its_middle_is_judged_up_to_there() {
    let mut request = request(&folder("wire"));
    let whole = fs::read(&request.captures[0].path).expect("it is there");
    let cut = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(cut.path(), &whole[..whole.len() - 30]).expect("it is ours");
    let (expected, all, _) = replay(&request);
    request.captures[0].path = cut.path().to_owned();
    let (found, lines, _) = replay(&request);
    assert!(all.starts_with(&lines));
    assert_eq!(found.received.packets + 1, expected.received.packets);
    let damage = found.damage.expect("it is damaged");
    assert!(damage.contains("the file ends inside a record"), "{damage}");
}

#[test]
fn what_cannot_be_replayed_is_refused_by_name() {
    let error = |request: &ReplayRequest| match run(request, Outputs::default()) {
        Ok(_) => panic!("it is refused"),
        Err(error) => error.to_string(),
    };
    let request = request(&folder("wire"));
    let mut other = request.clone();
    other.captures[0].port = Some("elsewhere".to_owned());
    let message = error(&other);
    assert!(message.contains("no port is called elsewhere; there are: inside, outside"));

    let unnamed = tempfile::NamedTempFile::new().expect("a temporary file");
    let (frames, _) = frames::read(&request.captures[0].path);
    fs::write(unnamed.path(), frames::pcap(frames)).expect("it is ours");
    let mut other = request.clone();
    other.captures[0].path = unnamed.path().to_owned();
    let message = error(&other);
    assert!(
        message.contains("frame 1: its interface (unnamed) is no port"),
        "{message}"
    );

    let mut other = request.clone();
    other.policies = Some(folder("wire").join("nowhere"));
    assert!(error(&other).contains("nowhere"));
    let mut other = request;
    other.settings = settings(&folder("routed"));
    other.settings.replay = Default::default();
    let third = other.settings.ports[0].clone();
    other.settings.ports.push(third);
    assert!(error(&other).contains("exactly two ports"));
}

#[test]
fn a_comparison_names_the_flows_that_change_and_what_decides_them() {
    let folder = folder("wire");
    let changed = tempfile::tempdir().expect("a temporary folder");
    let policy = fs::read_to_string(folder.join("policies/server.yaml")).expect("it is there");
    let policy = policy.replace("port: 53, protocol: UDP", "port: 81, protocol: TCP");
    fs::write(changed.path().join("server.yaml"), policy).expect("it is ours");
    let mut request = CompareRequest {
        settings: settings(&folder),
        policies: [folder.join("policies"), changed.path().to_owned()],
        captures: self::request(&folder).captures,
    };
    let found = compare(&request).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((found.flows, found.changed), (8, 4), "{found}");
    let flow = |number: usize| found.changes[number].flows[0].as_str();
    assert_eq!(flow(0), "tcp 198.18.0.2:40001 > 198.18.1.2:81");
    assert_eq!(
        found.changes[0].before.rule.as_deref(),
        Some("NetworkPolicy/shop/*#isolation")
    );
    assert_eq!(
        found.changes[0].after.rule.as_deref(),
        Some("NetworkPolicy/shop/server#0")
    );
    assert_eq!(flow(1), "udp 198.18.0.2:40000 > 198.18.1.2:53");
    assert_eq!(found.changes[1].after.verdict, "drop");
    request.policies[1] = request.policies[0].clone();
    let found = compare(&request).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((found.flows, found.changed), (8, 0));
}
