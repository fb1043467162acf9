//! Packet scenarios against a running appliance: what passes, how it is rewritten, what is
//! answered.
//!
//! The scenarios and their runner are no part of the project. `PORTCULLIS_SCENARIOS` names a folder
//! that holds both: `ctrun.py` (`--inside`, `--outside`, `--reset`) and `conntrack/*.yaml`;
//! `PORTCULLIS_SCENARIO_WORKERS` how many workers there are (1). `device.sh` here makes the
//! appliance the runner's device, with the policies and settings its scenarios name. Without the
//! variable the test says so and passes. Needs root, and Python with scapy and yaml.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The device, removed with its value.
struct Device {
    name: String,
    workers: String,
}

impl Device {
    fn command(&self, action: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conntrack/device.sh");
        let mut command = Command::new(script);
        command
            .args([action, &self.name])
            .env("PORTCULLIS", env!("CARGO_BIN_EXE_portcullis"))
            .env("CT_WORKERS", &self.workers);
        command
    }

    fn run(&self, action: &str) {
        let status = self.command(action).status().expect("bash is installed");
        assert!(status.success(), "device.sh {action}");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.command("down").output();
    }
}

fn scenarios() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("PORTCULLIS_SCENARIOS") else {
        eprintln!("not run: PORTCULLIS_SCENARIOS names no folder of scenarios");
        return None;
    };
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: needs root");
        return None;
    }
    Some(PathBuf::from(folder))
}

#[test]
fn every_scenario_agrees() {
    let Some(folder) = scenarios() else { return };
    let workers = std::env::var("PORTCULLIS_SCENARIO_WORKERS").unwrap_or_else(|_| "1".to_owned());
    let device = Device {
        name: format!("pc-ct{}", std::process::id() % 100_000),
        workers,
    };
    device.run("up");
    let reset = device.command("reset");
    let script = reset.get_program().to_string_lossy().into_owned();
    let output = Command::new("ip")
        .args([
            "netns",
            "exec",
            &format!("{}i", device.name),
            "/usr/bin/python3",
        ])
        .arg(folder.join("ctrun.py"))
        .args(["--inside", "i0", "--outside", "o0"])
        .args(["--reset", &format!("{script} reset {}", device.name)])
        .arg(folder.join("conntrack"))
        .env("PORTCULLIS", env!("CARGO_BIN_EXE_portcullis"))
        .env("CT_WORKERS", &device.workers)
        .output()
        .expect("ip is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
}
