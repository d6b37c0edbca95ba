//! The definition of the schedules is removed and added again while the operator runs, with its watches.

use super::invariants::skipped;
use super::look::schedule_key;
use super::standin::suffix;
use super::subject::KIND;
use super::whole::{Whole, taken};
use crate::apiserver::{ApiServer, Kind, Mishaps, Record};
use crate::clock::in_paused_time;
use crate::world::NAMESPACE;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A slot every ten minutes; the backups of all of them stay.
fn fields() -> Value {
    json!({"incremental": {"schedule": "*/10 * * * *"}})
}

/// Tells when a request comes.
fn at_request(number: usize) -> (Mishaps, Arc<Notify>) {
    let came = Arc::new(Notify::new());
    let tell = Arc::clone(&came);
    let mishaps = Box::new(move |record: &Record| {
        if record.index == number {
            tell.notify_one();
        }
        None
    });
    (mishaps, came)
}

/// What becomes of the objects when their definition is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Objects {
    /// The API server stops serving them, as while it is upgraded.
    Stay,
    /// They go with it, and somebody creates them anew when it is back.
    Go,
}

/// Removes the definition for so many seconds.
async fn remove(whole: &Whole, seconds: u64, objects: Objects) {
    let (server, health) = (whole.server.clone(), Arc::clone(&whole.health));
    let old = server.with(|store| store.get(&schedule_key()).map(|old| Value::clone(old))).unwrap();
    if objects == Objects::Go {
        server.with(|store| crate::fault::delete(store, &schedule_key()));
    }
    server.define(KIND, false);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    if seconds > 240 {
        let silent = health.silent().unwrap_or_default();
        assert!(silent.contains(KIND) && silent.contains("CustomResourceDefinition"), "{silent:?}");
    }
    if objects == Objects::Go {
        create(&server, &old);
    }
    server.define(KIND, true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(health.silent(), None);
}

fn create(server: &ApiServer, old: &Value) {
    let fresh = json!({"metadata": {"name": old["metadata"]["name"]}, "spec": old["spec"]});
    server.with(|store| store.create(Kind::named(KIND), NAMESPACE, fresh).map(|_| ())).unwrap();
}

/// Every slot has one backup or is counted; of an object that was created anew, every slot since then.
fn assert_kept(whole: &Whole, slots: usize, objects: Objects, what: &str) {
    whole.assert_sound();
    let records = whole.server.records();
    let names = taken(&records);
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len(), "{what}: a slot has two backups: {names:?}");
    let schedule = whole.schedule();
    let counted = usize::try_from(skipped(&schedule)).unwrap();
    if objects == Objects::Stay {
        assert_eq!(names.len() + counted, slots, "{what}: {names:?}, {counted} are counted");
        return;
    }
    let created = schedule["metadata"]["creationTimestamp"].as_str().unwrap().to_owned();
    let created = created.replace(['-', ':'], "").replace('T', "-");
    let since = distinct.iter().filter(|name| suffix(name) > &created[..13]).count();
    let due = slots - slots_until(&created);
    assert_eq!(since + counted, due, "{what}: {names:?} since {created}, {counted} are counted");
}

/// Slots from 06:10 up to a time such as `20261124-072055Z`.
fn slots_until(time: &str) -> usize {
    let number = |from: usize| time[from..from + 2].parse::<usize>().unwrap();
    (number(9) - 6) * 6 + number(11) / 10
}

#[test]
fn removed_for_seconds_and_for_hours() {
    for objects in [Objects::Stay, Objects::Go] {
        for at in [590, 599, 600, 601, 625, 900] {
            for seconds in [1, 20, 300, 2400] {
                in_paused_time(async {
                    let whole = Whole::new(&fields());
                    let run = whole.run(0, 7190);
                    let removal = async {
                        whole.clock.wait_until(Duration::from_secs(at)).await;
                        remove(&whole, seconds, objects).await;
                    };
                    futures::join!(run, removal);
                    assert_kept(&whole, 11, objects, &format!("{objects:?} at {at} s for {seconds} s"));
                });
            }
        }
    }
}

#[test]
fn removed_at_every_request() {
    for objects in [Objects::Stay, Objects::Go] {
        let mut number = 0;
        // As long as there are requests before the end.
        while removed_at(number, objects) {
            number += 1;
        }
        assert!(number > 30, "{number} requests");
    }
}

/// Whether the request came.
fn removed_at(number: usize, objects: Objects) -> bool {
    in_paused_time(async {
        let (mishaps, came) = at_request(number);
        let whole = Whole::with_mishaps(&fields(), mishaps);
        let run = whole.run(0, 3590);
        let removal = async {
            tokio::select! {
                () = came.notified() => {}
                () = whole.clock.wait_until(Duration::from_secs(1300)) => return false,
            }
            remove(&whole, 700, objects).await;
            true
        };
        let ((), came) = futures::join!(run, removal);
        if came {
            assert_kept(&whole, 5, objects, &format!("{objects:?} at request {number}"));
        }
        came
    })
}
