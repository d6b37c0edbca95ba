//! What the operator costs with many finished backups: `make bench`, or `make scale OBJECTS=1000 NAMESPACES=10` for a
//! quick look.
//!
//! The test cluster's etcd and API server run alone on loopback, beside one real ZooKeeper server and one real member.
//! The operator runs as it ships (`GBO_PROGRAM`). A driver plays the Job controller, the kubelet and the agent. One
//! backup runs first; the finished ones differ from it in names and UIDs only, and their managed fields come from the
//! API server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "no product code"
)]

mod burst;
mod driver;
mod objects;
mod operator;
mod plane;
#[path = "../../tests/support/mod.rs"]
mod support;

use driver::{Driver, PLAYED, Seen};
use graph_backup_operator::controller::watch::PAGE;
use graph_backup_operator::discovery::DEFAULT_CLUSTER_NAME;
use kube::Client;
use objects::{TEMPLATE, backup, backups, namespace};
use operator::{Memory, Operator};
use plane::{Plane, Requests};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};
use support::{Ensemble, Folder, Member};
use tokio::sync::mpsc::UnboundedReceiver;

/// Times that everything is listed anew.
const RELISTS: usize = 3;
/// Longest time until everything is listed anew: a watch that is not ended ends by itself within five minutes.
const RELIST_BOUND: Duration = Duration::from_secs(330);
/// Longest time of one backup.
const BACKUP_BOUND: Duration = Duration::from_secs(60);

/// More places than any run needs.
const WITHOUT_LIMIT: usize = 1_000_000;
/// Places by default.
const DEFAULT_LIMIT: usize = 20;

/// How much of everything.
struct Size {
    objects: usize,
    namespaces: usize,
    backups: usize,
    /// Schedules whose slots come in the same minute.
    schedules: usize,
    /// Whether the whole cluster is watched instead of a list.
    cluster: bool,
}

impl Size {
    fn read() -> Self {
        let number = |name: &str, otherwise| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.map_or(otherwise, |value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
        };
        Self {
            objects: number("OBJECTS", 10_000),
            namespaces: number("NAMESPACES", 100),
            backups: number("BACKUPS", 200),
            schedules: number("SCHEDULES", 1000),
            cluster: std::env::var("SCOPE").is_ok_and(|scope| scope == "cluster"),
        }
    }

    /// Number of watches of one kind.
    const fn scopes(&self) -> usize {
        if self.cluster { 1 } else { self.namespaces }
    }

    /// Number of pages of a list of all `GraphBackups`, at least.
    const fn pages(&self) -> usize {
        let scopes = self.scopes();
        scopes * (self.objects / scopes).div_ceil(PAGE as usize)
    }

    /// What the operator is told to watch.
    fn scope(&self) -> String {
        let all: Vec<String> = (0..self.namespaces).map(namespace).collect();
        if self.cluster { "*".to_owned() } else { all.join(",") }
    }
}

#[tokio::main]
async fn main() {
    let size = Size::read();
    machine();
    let ensemble = Ensemble::start(1).await;
    let mut member = Member::new(1, &ensemble, DEFAULT_CLUSTER_NAME);
    member.start();
    let plane = Plane::start().await;
    let client = plane.client().await;
    objects::define(&client).await;
    objects::namespaces(&client, size.namespaces).await;
    member.ready().await;
    let (uri, folder) = (ensemble.uri().to_string(), Folder::new("operator"));
    let bench = Bench { plane, client, uri, ensemble, folder, size };
    bench.run().await;
}

fn machine() {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    println!("{count} x {}", model.unwrap_or("unknown processor"));
}

struct Bench {
    plane: Plane,
    client: Client,
    uri: String,
    ensemble: Ensemble,
    folder: Folder,
    size: Size,
}

impl Bench {
    async fn run(&self) {
        let (objects, namespaces) = (self.size.objects, self.size.namespaces);
        let scope = self.size.scope();
        let mut driver = Driver::start(&self.client);
        line("", "measured", "peak", "goal");
        let one = self.idle(&namespace(0)).await;
        memory_line("RSS, one namespace, no objects", one, "11.6");
        let all = self.idle(&scope).await;
        let scope_said =
            if self.size.cluster { "the whole cluster".to_owned() } else { format!("{namespaces} namespaces") };
        memory_line(&format!("RSS, {scope_said}, no objects"), all, "< 20");

        let operator = self.start(&scope).await;
        self.one_backup(0, TEMPLATE, &mut driver.seen).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        operator.stop();
        let template = backups(&self.client, &namespace(0)).get(TEMPLATE).await.unwrap();
        let bytes = serde_json::to_string(&template).unwrap().len();
        let begin = Instant::now();
        objects::finished(&self.client, &template, objects, namespaces).await;
        let made = format!(
            "{objects} finished backups of {bytes} bytes of JSON made in {:.0} s",
            begin.elapsed().as_secs_f64()
        );
        println!("({made})");

        let mark = self.plane.mark();
        let mut operator = self.start(&scope).await;
        let quiet = operator.quiet().await;
        let requests = self.plane.requests_since(mark);
        memory_line(&format!("RSS, {objects} finished, after the start"), operator.memory(), "< 48");
        line("quiet after the start", &seconds(quiet), "", "3.0 s");
        line("writes at the start", &requests.writes.to_string(), "", "0");
        operator.kill();
        let mut operator = self.start(&scope).await;
        operator.quiet().await;
        memory_line("RSS, after a restart", operator.memory(), "< 48");
        self.relists(&mut operator).await;
        self.latencies(&mut driver.seen).await;
        operator.quiet().await;
        memory_line("RSS, after these backups", operator.memory(), "< 48");
        operator.stop();
        if self.size.schedules > 0 {
            self.bursts(&mut driver).await;
        }
        driver.stop().await;
    }

    async fn start(&self, scope: &str) -> Operator {
        Operator::start(&self.plane, scope, &self.folder, WITHOUT_LIMIT).await
    }

    /// Slots in the same minute: without limit and jitter, by a bare client, and with both at their defaults.
    async fn bursts(&self, driver: &mut Driver) {
        let Size { schedules: count, namespaces, .. } = self.size;
        let scope = self.size.scope();
        burst::clusters(&self.ensemble, count).await;
        let slot = burst::slot_in(100);
        burst::schedule(&self.client, &self.uri, count, namespaces, slot, "0s").await;
        let mark = self.plane.mark();
        let mut operator = self.start(&scope).await;
        line(&format!("{count} schedules: quiet after the first start"), &seconds(operator.quiet().await), "", "< 9 s");
        let writes = self.plane.requests_since(mark).writes as f64 / count as f64;
        line("writes per schedule", &format!("{writes:.2}"), "", "<= 1");
        operator.kill();
        let mark = self.plane.mark();
        let mut operator = self.start(&scope).await;
        line("quiet after a restart", &seconds(operator.quiet().await), "", "< 3 s");
        line("writes", &self.plane.requests_since(mark).writes.to_string(), "", "0");
        memory_line("RSS with the schedules", operator.memory(), "< 48");
        operator.forget_peak();
        let refused = burst::refused(&self.client).await;
        let mark = self.plane.mark();
        driver.hold(true);
        let burst = burst::watch(&mut driver.seen, slot, count, namespaces, false).await;
        let took = burst.to_job.last().copied().unwrap_or_default();
        line("slots in one minute -> Jobs, p50 / p99", &percentiles(&mut burst.to_job.clone()), "", "p99 < 9 s");
        let Requests { gets, lists, writes, events, .. } = self.plane.requests_since(mark);
        println!(
            "(all after {}; until then {gets} gets, {lists} lists, {writes} writes, {events} Events)",
            seconds(took)
        );
        operator.quiet().await;
        memory_line("RSS while all of them run", operator.memory(), "peak < 96");
        driver.hold(false);
        burst::ends(&mut driver.seen, count).await;
        operator.quiet().await;
        memory_line("RSS after it", operator.memory(), "peak < 96");
        let refused = burst::refused(&self.client).await - refused;
        line(
            "refused with 429; schedules with skips",
            &format!("{refused}; {}", burst::skipped(&self.client, namespaces).await),
            "",
            "0; 0",
        );
        operator.stop();
        let job = burst::example(&self.client, &namespace(0)).await;
        driver.hold(true);
        let bare = burst::bare(&self.client, &self.uri, (count, namespaces), &job, &mut driver.seen).await;
        driver.hold(false);
        let ratio = took.as_secs_f64() / bare.as_secs_f64();
        line("the same writes by a bare client; ratio", &format!("{}; {ratio:.2}", seconds(bare)), "", "<= 1.5");
        self.calm(&mut driver.seen).await;
        println!("(the status of a schedule has {} bytes)", burst::status_bytes(&self.client).await);
    }

    async fn calm(&self, seen: &mut UnboundedReceiver<Seen>) {
        let Size { schedules: count, namespaces, .. } = self.size;
        let slot = burst::slot_in(60);
        let mut operator = Operator::start(&self.plane, &self.size.scope(), &self.folder, DEFAULT_LIMIT).await;
        operator.quiet().await;
        burst::schedule(&self.client, &self.uri, count, namespaces, slot, "1m").await;
        let refused = burst::refused(&self.client).await;
        let burst = burst::watch(seen, slot, count, namespaces, true).await;
        let refused = burst::refused(&self.client).await - refused;
        line("the same with default limit and jitter", &percentiles(&mut burst.to_job.clone()), "", "all");
        line("refused with 429; a namespace ahead by", &format!("{refused}; {}", burst.ahead), "", "0; few");
        operator.stop();
    }

    /// Memory without any object.
    async fn idle(&self, scope: &str) -> Memory {
        let mut operator = self.start(scope).await;
        operator.quiet().await;
        let memory = operator.memory();
        operator.stop();
        memory
    }

    /// A harmless change of the definition, several times.
    async fn relists(&self, operator: &mut Operator) {
        for number in 1..=RELISTS {
            operator.forget_peak();
            let (mark, begin) = (self.plane.mark(), Instant::now());
            let revision = objects::touch_definition(&self.client, number).await;
            self.plane.compact(&revision).await;
            while self.plane.requests_since(mark).backup_lists < self.size.pages() {
                assert!(begin.elapsed() < RELIST_BOUND, "not everything was listed anew");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let quiet = operator.quiet_since(begin).await;
            let Requests { backup_lists, writes, .. } = self.plane.requests_since(mark);
            memory_line(&format!("RSS, after relist {number} of everything"), operator.memory(), "< 48");
            println!("(quiet after {}, {backup_lists} pages, {writes} writes)", seconds(quiet));
        }
    }

    /// Backups, one after the other, in one namespace after the other.
    async fn latencies(&self, seen: &mut UnboundedReceiver<Seen>) {
        let mark = self.plane.mark();
        let (mut to_job, mut to_end) = (Vec::new(), Vec::new());
        for number in 0..self.size.backups {
            let (job, end) = self.one_backup(number % self.size.namespaces, &format!("played-{number:04}"), seen).await;
            to_job.push(job);
            to_end.push(end);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let Requests { gets, lists, writes, events, .. } = self.plane.requests_since(mark);
        line("created -> Job, p50 / p99", &percentiles(&mut to_job), "", "35 / 57 ms");
        line("pod ended -> finished, p50 / p99", &percentiles(&mut to_end), "", "38 / 127 ms");
        let per = |count: usize| format!("{:.1}", count as f64 / self.size.backups as f64);
        line("writes per backup, and Events", &format!("{} + {}", per(writes), per(events)), "", "<= 6");
        line(
            "reads per backup",
            &format!("{} ({} gets, {} lists)", per(gets + lists), per(gets), per(lists)),
            "",
            "<= 6",
        );
    }

    /// Time from its creation to its Job, and from the end of its pod to its own.
    async fn one_backup(
        &self,
        namespace_number: usize,
        name: &str,
        seen: &mut UnboundedReceiver<Seen>,
    ) -> (Duration, Duration) {
        let backups = backups(&self.client, &namespace(namespace_number));
        let object = backup(name, &self.uri, &json!({PLAYED: "yes"}));
        let created = Instant::now();
        objects::apply(&backups, &object).await;
        let (mut job, mut ended, mut finished, mut complete) = (None, None, None, false);
        let all = async {
            while finished.is_none() || !complete {
                match seen.recv().await.expect("the driver ended") {
                    Seen::Job(of, at) if of == name => job = Some(at),
                    Seen::PodEnded(of, at) if of == name => ended = Some(at),
                    Seen::Finished(of, at) if of == name => {
                        finished.get_or_insert(at);
                    }
                    Seen::JobComplete(of) if of == name => complete = true,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(BACKUP_BOUND, all)
            .await
            .unwrap_or_else(|_| panic!("{name} did not end: see {:?}", self.folder));
        (job.unwrap() - created, finished.unwrap() - ended.unwrap())
    }
}

fn line(what: &str, measured: &str, peak: &str, goal: &str) {
    println!("{what:42} {measured:>24} {peak:>12} {goal:>12}");
}

fn memory_line(what: &str, memory: Memory, goal: &str) {
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    line(what, &mib(memory.now), &mib(memory.peak), goal);
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |percent: usize| (times.len() * percent).div_ceil(100).max(1) - 1;
    format!("{} / {} ms", times[at(50)].as_millis(), times[at(99)].as_millis())
}
