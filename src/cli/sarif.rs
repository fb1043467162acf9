//! Findings as SARIF 2.1.0 (OASIS standard), the form that code review tools show beside the lines.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::policy::{Finding, Severity};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// One run of `portcullis check` as a SARIF log. Rules are the ids met, each with the place of its
/// explanation; a finding's object and field path are part of its message.
pub fn log(findings: &[Finding]) -> Value {
    let ids: BTreeSet<&str> = findings.iter().map(|finding| finding.id).collect();
    let rules: Vec<Value> = ids
        .iter()
        .map(|id| json!({"id": id, "helpUri": format!("docs/lint.md#{id}")}))
        .collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "portcullis",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let parts = [&*finding.object, &*finding.path, &*finding.message];
    let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    json!({
        "ruleId": finding.id,
        "level": match finding.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        },
        "message": {"text": said.join(": ")},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": finding.place.file},
            "region": {
                "startLine": finding.place.line,
                "startColumn": finding.place.column,
            },
        }}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Place;

    #[test]
    fn a_finding_is_a_result_with_its_rule_level_and_place() {
        let finding = Finding {
            severity: Severity::Warning,
            id: "selects-nothing",
            place: Place {
                file: "policies/web.yaml".into(),
                line: 7,
                column: 3,
            },
            document: 1,
            object: "NetworkPolicy/shop/web".into(),
            path: "spec.podSelector".into(),
            message: "no effect".into(),
        };
        let log = log(&[finding.clone(), finding]);
        let run = &log["runs"][0];
        assert_eq!(
            run["tool"]["driver"]["rules"].as_array().map(Vec::len),
            Some(1)
        );
        let result = &run["results"][1];
        assert_eq!(result["ruleId"], "selects-nothing");
        assert_eq!(result["level"], "warning");
        assert_eq!(
            result["message"]["text"],
            "NetworkPolicy/shop/web: spec.podSelector: no effect"
        );
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "policies/web.yaml");
        assert_eq!(place["region"]["startLine"], 7);
    }
}
