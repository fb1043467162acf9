//! What the running appliance tells of itself.

use super::support::appliance::Appliance;
use super::support::lab::Lab;
use super::support::policies::{INVENTORY, allow_ports};
use super::support::root;
use super::support::traffic::{Echo, tcp, tcp_denied};

#[test]
fn counters_name_rules_reasons_and_ports_and_survive_a_reload() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let policy = allow_ports("web", &[80]);
    let manifests = [("inventory.yaml", INVENTORY), ("web.yaml", &policy)];
    let appliance = Appliance::start(&lab, "", &manifests);
    let _echo = Echo::start(&lab.server, &[80]);
    assert!(tcp(&lab.client, lab.server4, 80));
    assert!(tcp_denied(&lab.client, lab.server6, 81));
    let rule = "NetworkPolicy/shop/web#0";
    let isolation = "NetworkPolicy/shop/*#isolation";

    let output = appliance.ask(&["status"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for expected in ["inside", "outside", "policy", rule] {
        assert!(text.contains(expected), "status lacks {expected}:\n{text}");
    }
    let data = appliance.status().to_string();
    for expected in ["inside", "outside", "generation", rule] {
        assert!(
            data.contains(expected),
            "status -o json lacks {expected}:\n{data}"
        );
    }
    let metrics = appliance.metrics();
    for expected in [
        "reason=\"policy\"",
        "port=\"inside\"",
        rule,
        isolation,
        "# TYPE",
        "# EOF",
    ] {
        assert!(
            metrics.contains(expected),
            "metrics lack {expected}:\n{metrics}"
        );
    }

    let hits = |metrics: &str| {
        let of_rule = |line: &&str| line.contains(rule) && !line.starts_with('#');
        let line = metrics.lines().find(of_rule).map(str::to_owned);
        let value = line
            .as_ref()
            .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no counter of {rule}:\n{metrics}"))
    };
    let before = hits(&metrics);
    assert!(before >= 1.0);
    // A rule before it in every order: positions change, identities do not.
    appliance.write_policy("aaa.yaml", &allow_ports("aaa", &[90]));
    let (code, printed) = appliance.reload();
    assert_eq!(code, Some(0), "{printed}");
    assert!(tcp(&lab.client, lab.server4, 80));
    assert!(hits(&appliance.metrics()) > before);
}

#[test]
fn without_a_running_instance_the_verbs_say_so() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let appliance = Appliance::prepare(&lab, "", &[]);
    for verb in ["status", "reload"] {
        let output = appliance.ask(&[verb]);
        assert_eq!(output.status.code(), Some(3), "{verb}: {output:?}");
        assert!(!output.stderr.is_empty(), "{verb} says why");
    }
}

#[test]
fn settings_that_cannot_be_used_end_it_with_their_place() {
    if !root() {
        return;
    }
    let lab = Lab::routed();
    let mut appliance = Appliance::prepare(&lab, "[limits]\nflow = 3\n", &[]);
    appliance.launch();
    let ended = super::support::within(super::support::seconds(5), || !appliance.runs());
    assert!(ended, "{}", appliance.log());
    let log = appliance.log();
    assert!(
        log.contains("portcullis.toml:") && log.contains("limits.flow"),
        "{log}"
    );
}
