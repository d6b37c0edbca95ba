//! Prometheus metrics of the operator. No label is taken from an object: the number of series is fixed.

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

/// All metrics, and the registry that prints them.
pub struct Metrics {
    registry: Registry,
    passes: Family<Label, Counter>,
    pass_seconds: Histogram,
    backups: Family<Label, Counter>,
    attempts_failed: Family<Label, Counter>,
    undecodable: Family<Label, Counter>,
    copied_bytes: Counter,
    backup_seconds: Histogram,
    last_success: Gauge,
    leader: Gauge,
    watch_ages: Family<Label, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("graphbackup"),
            passes: Family::default(),
            pass_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            backups: Family::default(),
            attempts_failed: Family::default(),
            undecodable: Family::default(),
            copied_bytes: Counter::default(),
            backup_seconds: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            last_success: Gauge::default(),
            leader: Gauge::default(),
            watch_ages: Family::default(),
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
    }

    /// One pass; `failure` is the category of its error.
    pub fn pass(&self, duration: Duration, failure: Option<&'static str>) {
        self.passes.get_or_create(&[("outcome", failure.unwrap_or("ok").to_owned())]).inc();
        self.pass_seconds.observe(duration.as_secs_f64());
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
