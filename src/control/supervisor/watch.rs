//! Once a second: is everything still where it was put? And the workers' events.

use super::Supervisor;
use crate::control::reload::ReloadCause;
use crate::dataplane::event::Event;
use crate::dataplane::snapshot::Stage;
use crate::dataplane::verdict::PortId;
use crate::dataplane::xdp::AttachState;

/// A worker whose loop has not come round for this long is reported.
const PULSE_LATE_MS: u64 = 1000;

impl Supervisor {
    pub(super) fn tick(&mut self) {
        self.publisher.collect();
        self.log_budget.refill();
        self.logged_budget.refill();
        if self.settings.policy.watch {
            self.reload(ReloadCause::Watch, Vec::new());
        }
        self.check_steering();
        self.check_workers();
    }

    /// Alarm when a steering program is not where it was put: the port may be open.
    fn check_steering(&mut self) {
        for (number, steering) in self.steering.iter().enumerate() {
            let state = steering.state().unwrap_or(AttachState::Detached);
            let alarm = (state != AttachState::Attached).then_some(state);
            if alarm != self.steering_alarms[number] {
                let interface = steering.interface();
                match &alarm {
                    Some(state) => tracing::error!(interface, ?state, "steering program lost"),
                    None => tracing::info!(interface, "steering program attached again"),
                }
                self.steering_alarms[number] = alarm;
            }
        }
    }

    fn check_workers(&mut self) {
        let Some(workers) = &self.workers else { return };
        for (number, row) in workers.report.rows(self.now_us()).into_iter().enumerate() {
            let late = row.pulse_age_ms > PULSE_LATE_MS;
            if late != self.late_workers[number] {
                let (core, age_ms) = (row.core, row.pulse_age_ms);
                match late {
                    true => tracing::error!(number, core, age_ms, "worker does not come round"),
                    false => tracing::info!(number, core, "worker comes round again"),
                }
                self.late_workers[number] = late;
            }
        }
    }

    pub(super) fn log_events(&mut self) {
        let Some(workers) = &self.workers else { return };
        while let Some(event) = workers.next_event() {
            let budget = match event {
                Event::Denied { .. } | Event::Pressure { .. } => &mut self.log_budget,
                Event::Logged { .. } => &mut self.logged_budget,
            };
            if budget.take() {
                self.log_event(event);
            }
        }
    }

    fn log_event(&self, event: Event) {
        let port = |port: PortId| &self.settings.ports[port.0 as usize].name;
        let rule = |rule| self.slots.label(rule).unwrap_or("-");
        match event {
            Event::Denied {
                port: from,
                key,
                rule: by,
                stage,
                established,
            } => {
                let policy = self.publisher.policy();
                let stage = policy.and_then(|policy| policy.stages.get(stage as usize));
                let stage = stage.map(Stage::name);
                let stage = stage.as_deref().unwrap_or("-");
                let (port, rule) = (port(from), rule(by));
                tracing::info!(port, flow = %key, stage, rule, established, "denied");
            }
            Event::Pressure {
                begins: true,
                flows,
                flows_max,
            } => {
                tracing::warn!(
                    flows,
                    flows_max,
                    "flow table under pressure: timeouts shrink"
                );
            }
            Event::Pressure {
                flows, flows_max, ..
            } => tracing::info!(flows, flows_max, "flow table no longer under pressure"),
            Event::Logged {
                port: from,
                key,
                rule: by,
            } => {
                let (port, rule) = (port(from), rule(by));
                tracing::info!(port, flow = %key, rule, "matched");
            }
        }
    }
}

/// Lines a second for one kind of event; the rest is counted.
pub(super) struct LogBudget {
    lines_per_second: u32,
    left: u32,
    suppressed: u64,
}

impl LogBudget {
    pub(super) fn new(lines_per_second: u32) -> Self {
        LogBudget {
            lines_per_second,
            left: lines_per_second,
            suppressed: 0,
        }
    }

    fn take(&mut self) -> bool {
        let allowed = self.left > 0;
        match allowed {
            true => self.left -= 1,
            false => self.suppressed += 1,
        }
        allowed
    }

    fn refill(&mut self) {
        if self.suppressed > 0 {
            tracing::warn!(lines = self.suppressed, "log lines suppressed");
        }
        (self.left, self.suppressed) = (self.lines_per_second, 0);
    }
}
