//! Attempts to load manifests, one at a time, and what comes of them.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::Supervisor;
use crate::control::admin::ReloadOutcome;
use crate::control::plan;
use crate::control::policy::{Prepared, activate};
use crate::control::reload::{Attempt, ReloadCause};
use crate::control::report;
use crate::control::rule_slots::SlotsExhausted;
use crate::policy::{Finding, LaterFindings};

impl Supervisor {
    /// Starts an attempt beside the loop, or notes that one more is wanted.
    pub(super) fn reload(
        &mut self,
        cause: ReloadCause,
        mut answers: Vec<oneshot::Sender<ReloadOutcome>>,
    ) {
        if self.attempt_running {
            let (waiting_cause, waiting) = self.waiting.get_or_insert((cause, Vec::new()));
            if cause == ReloadCause::Request {
                *waiting_cause = cause;
            }
            waiting.append(&mut answers);
            return;
        }
        self.attempt_running = true;
        let (reloader, done) = (self.reloader.clone(), self.attempt_done.clone());
        tokio::task::spawn_blocking(move || {
            let attempt = reloader.attempt(cause);
            // The loop has ended when this fails.
            let _ = done.blocking_send((attempt, answers));
        });
    }

    pub(super) fn attempt_ended(
        &mut self,
        attempt: Attempt,
        answers: Vec<oneshot::Sender<ReloadOutcome>>,
    ) {
        self.attempt_running = false;
        self.conclude(attempt);
        let refused = !self.policy.refused.is_empty();
        let outcome = ReloadOutcome {
            in_force: !refused,
            generation: self.policy.generation,
            findings: match refused {
                true => self.policy.refused.clone(),
                false => self.policy.warnings.clone(),
            },
        };
        for answer in answers {
            let _ = answer.send(outcome.clone());
        }
        if let Some((cause, answers)) = self.waiting.take() {
            self.reload(cause, answers);
        }
    }

    /// Puts a prepared policy in force, or reports why the present one stays.
    pub(super) fn conclude(&mut self, attempt: Attempt) {
        let seen = self.reloader.has_seen(&attempt);
        self.reloader.remember(&attempt);
        let refused = match attempt {
            Attempt::Unchanged => return,
            Attempt::Refused(refused, _) => refused.lines(),
            Attempt::Prepared(prepared, _) => match self.put_in_force(prepared) {
                Ok(()) => return,
                Err(error) => vec![error.to_string()],
            },
        };
        self.policy.loads_refused += 1;
        let generation = self.policy.generation;
        // Watch and request meet on one change, and either may come first: it is told once.
        if seen && self.policy.refused == refused {
            tracing::info!(generation, "the same manifests, refused as before");
            return;
        }
        match generation {
            0 => tracing::error!("no policy in force, everything is dropped: policy refused"),
            _ => tracing::error!(generation, "policy refused, the one in force stays"),
        }
        for line in &refused {
            tracing::error!("{line}");
        }
        self.policy.refused = refused;
    }

    fn put_in_force(&mut self, prepared: Arc<Prepared>) -> Result<(), SlotsExhausted> {
        let generation = self.policy.generation + 1;
        let workers = self.workers.as_ref();
        let totals = |slot| {
            let report = workers.map(|workers| workers.report.rule(slot));
            report.unwrap_or_default()
        };
        let segments = plan::port_segments(&self.settings);
        let in_force = self.publisher.policy();
        let before = self
            .prepared
            .as_deref()
            .zip(in_force.map(|policy| &**policy));
        let slots = &mut self.slots;
        let snapshot = activate(&prepared, generation, slots, totals, &segments, before)?;
        self.publisher.set_policy(Arc::new(snapshot));
        self.policy.generation = generation;
        self.policy.loads += 1;
        self.policy.refused.clear();
        self.policy.warnings = prepared.findings.iter().map(ToString::to_string).collect();
        self.policy.stages = report::stages(&prepared);
        self.in_force_since = Instant::now();
        let set = prepared.decider.policy();
        let (policies, pods) = (set.policies.len(), set.inventory.pods().len());
        tracing::info!(generation, policies, pods, "policy in force");
        for warning in &self.policy.warnings {
            tracing::warn!("{warning}");
        }
        self.find_later(&prepared);
        self.prepared = Some(prepared);
        Ok(())
    }

    /// Has the warnings worked out that a large set came into force without.
    fn find_later(&self, prepared: &Arc<Prepared>) {
        if prepared.later.is_none() {
            return;
        }
        let (prepared, found) = (prepared.clone(), self.later_found.clone());
        let generation = self.policy.generation;
        tokio::task::spawn_blocking(move || {
            let later = prepared.later.iter().flat_map(LaterFindings::find);
            // The loop has ended when this fails.
            let _ = found.blocking_send((generation, later.collect()));
        });
    }

    /// Adds warnings about the policy in force, if it still is.
    pub(super) fn found_later(&mut self, generation: u32, findings: Vec<Finding>) {
        if generation != self.policy.generation {
            return;
        }
        for warning in findings.iter().map(ToString::to_string) {
            tracing::warn!("{warning}");
            self.policy.warnings.push(warning);
        }
    }
}
