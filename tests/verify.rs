//! `verify`, `check` and `explain` as a user runs them: exit codes and every word of the output.
//!
//! The outputs are kept beside the inputs in `tests/verify/`. `PORTCULLIS_BLESS=1 cargo test --test
//! verify` writes them anew; read the difference before you commit it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify")
}

fn portcullis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .current_dir(directory())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command, and holds exit code and both outputs against the file of this name.
#[track_caller]
fn golden(name: &str, exit: i32, arguments: &[&str]) {
    let output = portcullis(arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "{stdout}{stderr}");
    let mut got = stdout;
    if !stderr.is_empty() {
        got = format!("{got}--- standard error\n{stderr}");
    }
    let path = directory().join(name);
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(&path, &got).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, expected, "{name} differs");
}

fn explain(name: &str, exit: i32, arguments: &str) {
    let mut all = vec!["explain", "--policies", "policies"];
    all.extend(arguments.split_whitespace());
    golden(name, exit, &all);
}

#[test]
fn the_example_cases_agree() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cases");
    let output = portcullis(&["verify", cases.to_str().unwrap()]);
    let stdout = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{stdout}{}",
        text(&output.stderr)
    );
    assert_eq!(text(&output.stderr), "");
    let passed: usize = stdout
        .strip_suffix(" passed, 0 failed\n")
        .unwrap()
        .parse()
        .unwrap();
    assert!(passed >= 140, "only {passed}");
}

/// Case files from elsewhere: `PORTCULLIS_CASES=DIR cargo test --test verify`.
#[test]
fn further_cases_agree() {
    let Some(cases) = std::env::var_os("PORTCULLIS_CASES") else {
        eprintln!("PORTCULLIS_CASES names no directory of case files: nothing run");
        return;
    };
    let cases = std::fs::canonicalize(cases).unwrap();
    let output = portcullis(&["verify", cases.to_str().unwrap()]);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
}

#[test]
fn what_differs_is_told_with_the_deciding_rule() {
    golden("differs.text", 1, &["verify", "differs.yaml"]);
    golden("differs.json", 1, &["verify", "differs.yaml", "-o", "json"]);
}

#[test]
fn bad_input_is_told_with_its_place_and_the_rest_is_run() {
    golden("bad.text", 2, &["verify", "bad.yaml"]);
    golden("nothing.text", 2, &["verify", "no-such-file.yaml"]);
}

#[test]
fn cases_come_from_standard_input_too() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["verify", "-"])
        .current_dir(directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let case = b"manifests_dir: policies\nprobes:\n\
        - {from: a/cli, to: b/web, proto: tcp, port: 443, expect: allow}\n\
        - {from: a/cli, to: b/web, proto: tcp, port: 444, expect: allow}\n";
    child.stdin.take().unwrap().write_all(case).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    assert!(
        stdout.starts_with("<stdin>:4:3: document 1: probes[1]: a/cli > b/web"),
        "{stdout}"
    );
    assert!(stdout.ends_with("\n1 passed, 1 failed\n"), "{stdout}");
}

#[test]
fn each_json_line_but_the_last_is_an_object_with_the_promised_keys() {
    let output = portcullis(&["verify", "differs.yaml", "-o", "json"]);
    let stdout = text(&output.stdout);
    let mut lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.pop(), Some("1 passed, 15 failed"));
    assert_eq!(lines.len(), 16);
    for line in lines {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        let mut keys: Vec<_> = object
            .as_object()
            .unwrap()
            .keys()
            .map(|key| &**key)
            .collect();
        keys.sort_unstable();
        let promised = [
            "case", "expect", "file", "got", "line", "probe", "reason", "rule", "stage",
        ];
        assert_eq!(keys, promised);
    }
}

#[test]
fn explanations_of_denials() {
    explain(
        "explain-port.text",
        1,
        "--from a/cli --to b/web --proto tcp --port 80",
    );
    explain(
        "explain-peer.text",
        1,
        "--from a/other --to b/web --proto tcp --port 9095",
    );
    explain(
        "explain-except.text",
        1,
        "--from ip:203.0.113.7 --to b/web --proto sctp --port 9",
    );
    explain(
        "explain-both.text",
        1,
        "--from b/db --to b/web --proto tcp --port 80",
    );
    explain(
        "explain-reply.text",
        1,
        "--from b/web --to a/cli --proto tcp --port 40000 --src-port 80 --state reply",
    );
    explain(
        "explain-port.json",
        1,
        "--from a/cli --to b/web --proto tcp --port 80 -o json",
    );
}

#[test]
fn explanations_of_allowed_packets() {
    explain(
        "explain-rule.text",
        0,
        "--from a/cli --to b/web --proto tcp --port 8080",
    );
    explain(
        "explain-service.text",
        0,
        "--from a/cli --to svc:b/web --proto tcp --port 80",
    );
    explain(
        "explain-node.text",
        0,
        "--from node:n1 --to b/web --proto tcp --port 22",
    );
    explain(
        "explain-self.text",
        0,
        "--from b/web --to b/web --proto udp --port 1 --family 6",
    );
    explain("explain-arp.text", 0, "--from a/cli --to b/web --proto arp");
    explain(
        "explain-open.text",
        0,
        "--from a/cli --to ip:203.0.113.9 --proto icmp",
    );
    explain(
        "explain-kept.text",
        0,
        "--policies-before before --compat established=keep --from a/cli --to b/web --proto tcp \
         --port 80 --state established",
    );
}

#[test]
fn explain_refuses_what_it_cannot_answer() {
    for (arguments, message) in [
        (
            "--from a/cly --to b/web --proto tcp --port 80",
            "no pod a/cly in the manifests; \
          namespace a has cli, other",
        ),
        (
            "--from a/cli --to b/web --proto tcp",
            "tcp needs a destination port",
        ),
        (
            "--from cli --to b/web --proto tcp --port 80",
            "\"cli\" is no endpoint",
        ),
        (
            "--from a/cli --to b/web --proto any --port 80",
            "\"any\" is no protocol",
        ),
        (
            "--from a/cli --to b/web --proto icmp --compat icmp=never",
            "allowed: as-any-protocol",
        ),
        (
            "--from svc:b/web --to a/cli --proto tcp --port 80",
            "sends no packets of its own",
        ),
    ] {
        let mut all = vec!["explain", "--policies", "policies"];
        all.extend(arguments.split_whitespace());
        let output = portcullis(&all);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
}

#[test]
fn check_says_what_is_wrong_and_where() {
    golden(
        "check-clean.text",
        0,
        &[
            "check",
            "policies",
            "--allow",
            "inert-rules",
            "--allow",
            "egress-without-dns",
        ],
    );
    golden("check-warned.text", 1, &["check", "warned"]);
    golden(
        "check-allowed.text",
        0,
        &["check", "warned", "--allow", "selects-nothing"],
    );
    golden("check-broken.text", 2, &["check", "broken"]);
    golden(
        "check-broken.short",
        2,
        &["check", "broken", "--format", "short"],
    );
    golden("check-broken.json", 2, &["check", "broken", "-o", "json"]);
    golden(
        "check-settings.text",
        2,
        &["check", "warned", "--config", "wrong.toml"],
    );
    // An error is no matter of taste.
    let output = portcullis(&["check", "broken", "--allow", "invalid-value"]);
    assert_eq!(output.status.code(), Some(2));
}

/// The documentation's examples are what the program does.
#[test]
fn the_documented_example_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documentation = std::fs::read_to_string(root.join("docs/verify.md")).unwrap();
    let (_, case) = documentation.split_once("```yaml\n").unwrap();
    let (case, _) = case.split_once("```").unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("web.yaml");
    std::fs::write(&path, case).unwrap();
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["verify", "web.yaml"])
            .current_dir(temporary.path())
            .output()
            .unwrap();
        text(&output.stdout)
    };
    assert_eq!(run(), "3 passed, 0 failed\n");
    std::fs::write(&path, case.replacen("expect: allow", "expect: deny", 1)).unwrap();
    let differs = run();
    assert!(documentation.contains(&differs), "{differs}");

    let explained = std::fs::read_to_string(root.join("docs/explain.md")).unwrap();
    let golden = std::fs::read_to_string(directory().join("explain-port.text")).unwrap();
    assert!(explained.contains(&golden));
}
