//! A long time of hourly and weekly slots through the real controller, with outages of every length: one backup for each
//! slot that was due, and none else; and retention keeps what a reference keeps that was written on its own.

use super::invariants::skipped;
use super::look::schedule_key;
use super::standin::{End, SCHEDULE, Script, Standin, data_from, is_good, suffix};
use super::subject::{KIND, View, context, known_schedule};
use crate::apiserver::{ApiServer, Change, ChangeType, Key, Kind, Object, Record, Store, Verb};
use crate::clock::{Clock, in_paused_time};
use crate::world::NAMESPACE;
use chrono::{DateTime, Datelike, TimeDelta, TimeZone, Timelike, Utc, Weekday};
use chrono_tz::Europe::Berlin;
use graph_backup_operator::schedule::controller;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The name of the period that a moment is in.
type Period = fn(&DateTime<chrono_tz::Tz>) -> String;

const DAY: u64 = 86_400;
const KEEP: (usize, usize, usize, usize) = (6, 7, 5, 4);

/// From and until when the operator is down: each outage is longer than the one before.
fn outages(days: u64) -> Vec<(u64, u64)> {
    let (mut outages, mut at, mut length) = (Vec::new(), 5 * 3600 + 7, 61);
    while at + length < days * DAY {
        outages.push((at, at + length));
        at += length + 7 * 3600 + length % 4000;
        length = if length > 3 * DAY { 61 } else { length * 13 / 10 + 17 };
    }
    outages
}

fn is_full(slot: DateTime<Utc>) -> bool {
    let local = slot.with_timezone(&Berlin);
    local.weekday() == Weekday::Sun && (local.hour(), local.minute()) == (3, 0)
}

/// The slots that have a backup, and how many were due: at each the operator is up, or the newest one of those that it missed, a full one first.
fn reference(begin: DateTime<Utc>, days: u64, outages: &[(u64, u64)]) -> (BTreeSet<String>, usize) {
    let mut slots = BTreeSet::new();
    let (mut full, mut incremental, mut busy, mut due) = (None, None, begin, 0);
    for second in (60..days * DAY).step_by(60) {
        let now = begin + TimeDelta::seconds(i64::try_from(second).unwrap());
        let up = !outages.iter().any(|(from, until)| (*from..*until).contains(&second));
        // What was missed is caught up when the operator starts, not at the next full minute.
        if is_full(now) {
            full = Some(now);
            due += 1;
        }
        if now.minute() == 15 {
            incremental = Some(now);
            due += 1;
        }
        let restarts = outages.iter().any(|(_, until)| (second..second + 60).contains(until));
        if up && now < busy {
            // Only a backup that was caught up late is still at work.
            incremental = None;
            continue;
        }
        if (up || restarts)
            && let Some(slot) = full.take().or_else(|| incremental.take())
        {
            // A full one stands for the incremental ones that were missed before it.
            incremental = None;
            let restart = outages.iter().map(|(_, until)| *until).find(|until| (second..second + 60).contains(until));
            let created = begin + TimeDelta::seconds(i64::try_from(restart.unwrap_or(second)).unwrap());
            busy = (slot + TimeDelta::seconds(120)).max(created + TimeDelta::seconds(30));
            slots.insert(slot.format("%Y%m%d-%H%M").to_string());
        }
    }
    (slots, due)
}

/// What stays: the newest points, and the newest of each of the newest days, weeks and months.
fn kept(points: &BTreeMap<String, DateTime<Utc>>) -> BTreeSet<String> {
    let mut newest: Vec<(&String, DateTime<chrono_tz::Tz>)> =
        points.iter().map(|(name, from)| (name, Berlin.from_utc_datetime(&from.naive_utc()))).collect();
    newest.sort_by_key(|(_, from)| std::cmp::Reverse(*from));
    let mut kept: BTreeSet<String> = newest.iter().take(KEEP.0).map(|(name, _)| (*name).clone()).collect();
    let periods: [(usize, Period); 3] = [
        (KEEP.1, |from| from.format("%F").to_string()),
        (KEEP.2, |from| from.format("%G-%V").to_string()),
        (KEEP.3, |from| from.format("%Y-%m").to_string()),
    ];
    for (count, period) in periods {
        let mut seen = Vec::new();
        for (name, from) in &newest {
            if !seen.contains(&period(from)) && seen.len() < count {
                seen.push(period(from));
                kept.insert((*name).clone());
            }
        }
    }
    kept
}

#[test]
fn outages_of_every_length() {
    let days = std::env::var("SIMULATION_DAYS").ok().and_then(|days| days.parse().ok()).unwrap_or(366);
    in_paused_time(passes(days));
}

/// What has happened.
#[derive(Default)]
struct Past {
    backups: BTreeMap<Key, Arc<Object>>,
    points: BTreeMap<String, DateTime<Utc>>,
    taken: Vec<String>,
    removed: Vec<String>,
}

impl Past {
    fn note(&mut self, changes: &[Change], records: &[Record]) {
        for change in changes.iter().filter(|change| change.object["kind"] == "GraphBackup") {
            let key = Key::of(&change.object);
            if is_good(&change.object) {
                self.points.insert(key.name.clone(), data_from(&change.object));
            }
            match change.what {
                ChangeType::Deleted => self.backups.remove(&key),
                _ => self.backups.insert(key, Arc::clone(&change.object)),
            };
        }
        for record in records.iter().filter(|record| record.applied() && record.call.kind.name == "GraphBackup") {
            match record.call.verb {
                Verb::Create => self.taken.push(record.call.name.clone()),
                Verb::Delete => self.removed.push(record.call.name.clone()),
                _ => {}
            }
        }
    }

    fn judge(&self, wanted: &BTreeSet<String>) {
        let slots: BTreeSet<String> = self.taken.iter().map(|name| suffix(name).to_owned()).collect();
        assert_eq!(slots.len(), self.taken.len(), "a slot has two backups");
        let missing: Vec<_> = wanted.difference(&slots).collect();
        let new: Vec<_> = slots.difference(wanted).collect();
        assert!(missing.is_empty() && new.is_empty(), "missing {missing:?}, new {new:?}");
        let good = self.backups.values().filter(|backup| is_good(backup));
        let there: BTreeSet<String> = good.map(|backup| Key::of(backup).name).collect();
        assert_eq!(there, kept(&self.points));
        let removed: BTreeSet<&String> = self.removed.iter().collect();
        assert_eq!(removed.len(), self.removed.len(), "a point is removed twice");
        assert_eq!(there.len() + removed.len(), self.points.len());
    }
}

fn objects(clock: Clock) -> Store {
    let mut store = Store::new(clock);
    let (last, daily, weekly, monthly) = KEEP;
    let schedule = json!({"metadata": {"name": SCHEDULE}, "spec": {
        "full": {"schedule": "0 3 * * 0"}, "incremental": {"schedule": "15 * * * *"}, "jitter": "0s",
        "timeZone": "Europe/Berlin",
        "retention": {"keepLast": last, "keepDaily": daily, "keepWeekly": weekly, "keepMonthly": monthly},
        "template": {"source": {"uri": "ha://zk"}, "target": {"claimName": "c"}, "tool": {"image": "neo4j:1.8"}},
    }});
    store.create(Kind::named(KIND), NAMESPACE, schedule).unwrap();
    store
}

async fn passes(days: u64) {
    let clock = Clock::start(Duration::ZERO);
    let (begin, outages) = (clock.now(), outages(days));
    let script = Script { ends: |_| End::Good(120), people: Vec::new(), down: outages.clone() };
    let mut world = Standin::new(clock, script);
    let past = (objects(clock), Vec::new());
    let server = ApiServer::new(clock, past, Box::new(|_| None), |_| false, Box::new(|_| Vec::new()));
    let view = View::default();
    let context = context(clock, server.client(0), Arc::new(view.clone()), Arc::new(AtomicBool::new(true)));
    let (mut past, mut seen, mut pass_at) = (Past::default(), 0, Duration::ZERO);
    while clock.elapsed() < Duration::from_secs(days * DAY) {
        let changes = server.with(|store| {
            world.act(store);
            let changes = store.changes_since(seen).unwrap().to_vec();
            seen = store.version();
            store.compact();
            changes
        });
        past.note(&changes, &server.take_records());
        if !changes.is_empty() {
            pass_at = clock.elapsed();
        }
        let down = world.down_until();
        if clock.elapsed() < down {
            pass_at = down;
        } else if pass_at <= clock.elapsed() {
            view.set(past.backups.values().cloned().collect());
            let object = server.with(|store| Arc::clone(store.get(&schedule_key()).unwrap()));
            let again = controller::pass(&object.typed(known_schedule), &context).await.unwrap();
            pass_at = clock.elapsed() + again.unwrap();
            continue;
        }
        clock.wait_until(world.next().map_or(pass_at, |next| next.min(pass_at))).await;
    }
    let (wanted, due) = reference(begin, days, &outages);
    past.judge(&wanted);
    let counted = server.with(|store| skipped(store.get(&schedule_key()).unwrap()));
    assert_eq!(past.taken.len() + usize::try_from(counted).unwrap(), due, "every slot has a backup or a reason");
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "simulation: {days} days, {} outages, {} backups", outages.len(), past.taken.len());
}
