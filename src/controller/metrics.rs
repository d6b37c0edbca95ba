//! Prometheus metrics of the operator. Only those of schedules have labels that are taken from an object: there are as
//! many series as schedules. The number of all others is fixed.

use crate::api::Reason;
use crate::contract::verdict::Published;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// One label.
type Label = [(&'static str, String); 1];
/// Namespace and name of a schedule.
type OfSchedule = [(&'static str, String); 2];

/// All metrics, and the registry that prints them.
pub struct Metrics {
    registry: Registry,
    passes: Family<Label, Counter>,
    pass_seconds: Histogram,
    backups: Family<Label, Counter>,
    restores: Family<Label, Counter>,
    attempts_failed: Family<Label, Counter>,
    undecodable: Family<Label, Counter>,
    copied_bytes: Counter,
    backup_seconds: Histogram,
    last_success: Gauge,
    leader: Gauge,
    watch_ages: Family<Label, Gauge<f64, AtomicU64>>,
    schedule_fresh: Family<OfSchedule, Gauge>,
    schedule_data: Family<OfSchedule, Gauge>,
    schedule_next: Family<OfSchedule, Gauge>,
    schedule_failures: Family<OfSchedule, Gauge>,
    schedule_skipped: Family<OfSchedule, Gauge>,
}

/// What is told of a schedule in its metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScheduleFacts {
    /// Whether the newest data is fresh enough; `None` if the schedule does not say what that means.
    pub is_fresh: Option<bool>,
    /// Time of the newest data, Unix seconds.
    pub data_from: Option<i64>,
    /// Time of the next slot, Unix seconds.
    pub next_slot: Option<i64>,
    /// Failures since the last success.
    pub failures: i64,
    /// Slots that were skipped since the schedule was created.
    pub skipped: i64,
}

fn of_schedule(namespace: &str, name: &str) -> OfSchedule {
    [("namespace", namespace.to_owned()), ("schedule", name.to_owned())]
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("graphbackup"),
            passes: Family::default(),
            pass_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            backups: Family::default(),
            restores: Family::default(),
            attempts_failed: Family::default(),
            undecodable: Family::default(),
            copied_bytes: Counter::default(),
            backup_seconds: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            last_success: Gauge::default(),
            leader: Gauge::default(),
            watch_ages: Family::default(),
            schedule_fresh: Family::default(),
            schedule_data: Family::default(),
            schedule_next: Family::default(),
            schedule_failures: Family::default(),
            schedule_skipped: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("reconcile_passes", "Passes over an object, by outcome", self.passes.clone());
        registry.register("reconcile_pass_seconds", "Duration of a pass", self.pass_seconds.clone());
        registry.register("backups_finished", "Backups that ended, by reason", self.backups.clone());
        registry.register("restores_finished", "Restores that ended, by reason", self.restores.clone());
        registry.register(
            "attempts_failed",
            "Attempts that failed and may be repeated, by reason",
            self.attempts_failed.clone(),
        );
        registry.register(
            "undecodable_objects",
            "Objects seen that this version cannot read, by kind",
            self.undecodable.clone(),
        );
        registry.register("copied_bytes", "Bytes in the recovery points of this process", self.copied_bytes.clone());
        registry.register("tool_seconds", "Duration of the tool in successful backups", self.backup_seconds.clone());
        registry.register(
            "last_success_timestamp_seconds",
            "Unix time up to which the newest recovery point of this process holds everything",
            self.last_success.clone(),
        );
        registry.register("leader", "1 while this replica leads", self.leader.clone());
        registry.register(
            "watch_age_seconds",
            "Age of the last word from the API server, of the watch that has had none for the longest time, by kind",
            self.watch_ages.clone(),
        );
        self.register_schedules();
    }

    fn register_schedules(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("schedule");
        registry.register("fresh", "1 while the newest data is within freshness.maxAge", self.schedule_fresh.clone());
        registry.register(
            "data_timestamp_seconds",
            "Unix time up to which the newest recovery point of a schedule holds everything",
            self.schedule_data.clone(),
        );
        registry.register(
            "next_slot_timestamp_seconds",
            "Unix time of the next slot of a schedule",
            self.schedule_next.clone(),
        );
        registry.register(
            "failures_in_a_row",
            "Backups of a schedule that failed since its last success",
            self.schedule_failures.clone(),
        );
        registry.register(
            "skipped_slots",
            "Slots of a schedule without a backup since it was created",
            self.schedule_skipped.clone(),
        );
    }

    /// How a schedule is.
    pub fn schedule(&self, namespace: &str, name: &str, facts: ScheduleFacts) {
        let of = of_schedule(namespace, name);
        let set = |family: &Family<OfSchedule, Gauge>, value: Option<i64>| match value {
            Some(value) => {
                family.get_or_create(&of).set(value);
            }
            None => {
                family.remove(&of);
            }
        };
        set(&self.schedule_fresh, facts.is_fresh.map(i64::from));
        set(&self.schedule_data, facts.data_from);
        set(&self.schedule_next, facts.next_slot);
        set(&self.schedule_failures, Some(facts.failures));
        set(&self.schedule_skipped, Some(facts.skipped));
    }

    /// A schedule is gone.
    pub fn schedule_gone(&self, namespace: &str, name: &str) {
        let of = of_schedule(namespace, name);
        for family in [
            &self.schedule_fresh,
            &self.schedule_data,
            &self.schedule_next,
            &self.schedule_failures,
            &self.schedule_skipped,
        ] {
            family.remove(&of);
        }
    }

    /// One pass; `failure` is the category of its error.
    pub fn pass(&self, duration: Duration, failure: Option<&'static str>) {
        self.passes.get_or_create(&[("outcome", failure.unwrap_or("ok").to_owned())]).inc();
        self.pass_seconds.observe(duration.as_secs_f64());
    }

    /// A restore has ended: a success, a failure, or with the original volumes.
    pub fn restore_finished(&self, reason: &str) {
        self.restores.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// A backup ended.
    pub fn finished(&self, reason: Reason) {
        self.backups.get_or_create(&[("reason", reason.to_string())]).inc();
    }

    /// A backup succeeded.
    pub fn succeeded(&self, reason: Reason, point: &Published) {
        self.finished(reason);
        self.copied_bytes.inc_by(point.bytes);
        self.last_success.set(point.data_from.timestamp());
        let ran = (point.data_to - point.data_from).to_std().unwrap_or_default();
        self.backup_seconds.observe(ran.as_secs_f64());
    }

    /// An attempt failed.
    pub fn attempt_failed(&self, reason: Reason) {
        self.attempts_failed.get_or_create(&[("reason", reason.to_string())]).inc();
    }

    /// An object could not be decoded.
    pub fn undecodable(&self, kind: &str) {
        self.undecodable.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// How long the watches have heard nothing: for each kind the longest time.
    pub fn watches(&self, ages: &[(&'static str, Duration)]) {
        for (kind, age) in ages {
            self.watch_ages.get_or_create(&[("kind", (*kind).to_owned())]).set(age.as_secs_f64());
        }
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
