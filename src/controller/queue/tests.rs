use super::*;
use futures::FutureExt;
use std::sync::atomic::{AtomicUsize, Ordering};

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Passes that take some time, except in the namespace where they hang.
#[derive(Default)]
struct Slow {
    seconds: u64,
    again: Option<Duration>,
    began: Mutex<Vec<(Duration, String)>>,
    running: Arc<AtomicUsize>,
    most: AtomicUsize,
    start: Option<Instant>,
}

impl Slow {
    fn new(seconds: u64, again: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { seconds, again, start: Some(Instant::now()), ..Self::default() })
    }

    /// Seconds at which passes began over an object.
    fn began(&self, of: &str) -> Vec<u64> {
        let began = self.began.lock().unwrap();
        began.iter().filter(|(_, key)| key == of).map(|(at, _)| at.as_secs()).collect()
    }
}

impl Passes for Slow {
    fn pass(&self, key: &Key) -> BoxFuture<'static, Option<Duration>> {
        self.began.lock().unwrap().push((self.start.unwrap().elapsed(), key.to_string()));
        let (running, again, seconds) = (Arc::clone(&self.running), self.again, self.seconds);
        let hangs = key.namespace.starts_with("hangs");
        self.most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(Duration::from_secs(if hangs { 3600 } else { seconds })).await;
            running.fetch_sub(1, Ordering::Relaxed);
            again
        }
        .boxed()
    }
}

async fn run(queue: &Queue, passes: &Arc<Slow>, seconds: u64) {
    let end = tokio::time::sleep(Duration::from_secs(seconds));
    let _ = tokio::time::timeout(Duration::from_secs(seconds + 1), queue.run(Arc::clone(passes), end)).await;
}

#[tokio::test(start_paused = true)]
async fn the_earliest_wish_counts() {
    let queue = Queue::default();
    queue.add(key("a", "x"), Duration::from_secs(50));
    queue.add(key("a", "x"), Duration::from_secs(10));
    queue.add(key("a", "x"), Duration::from_secs(30));
    let passes = Slow::new(1, None);
    run(&queue, &passes, 100).await;
    assert_eq!(passes.began("a/x"), [10]);
}

#[tokio::test(start_paused = true)]
async fn an_object_has_one_pass_at_a_time_and_another_for_what_came_meanwhile() {
    let queue = Arc::new(Queue::default());
    queue.add(key("a", "x"), Duration::ZERO);
    let passes = Slow::new(10, None);
    let later = Arc::clone(&queue);
    tokio::spawn(async move {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            later.add(key("a", "x"), Duration::ZERO);
        }
    });
    run(&queue, &passes, 100).await;
    assert_eq!(passes.began("a/x"), [0, 10]);
    assert_eq!(passes.most.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pass_may_ask_for_the_next_one() {
    let queue = Queue::default();
    queue.add(key("a", "x"), Duration::ZERO);
    let passes = Slow::new(1, Some(Duration::from_secs(20)));
    run(&queue, &passes, 50).await;
    assert_eq!(passes.began("a/x"), [0, 21, 42]);
}

#[tokio::test(start_paused = true)]
async fn passes_that_hang_hold_up_no_other_namespace() {
    let queue = Queue::default();
    for namespace in 0..20 {
        for name in 0..100 {
            queue.add(key(&format!("hangs-{namespace}"), &name.to_string()), Duration::ZERO);
        }
    }
    for name in 0..5 {
        queue.add(key("works", &name.to_string()), Duration::from_secs(1));
    }
    let passes = Slow::new(1, None);
    run(&queue, &passes, 20).await;
    // All shared ones hang; it still has one of its own.
    let began: Vec<u64> = (0..5).flat_map(|name| passes.began(&format!("works/{name}"))).collect();
    assert_eq!(began, [1, 2, 3, 4, 5]);
    assert_eq!(passes.most.load(Ordering::Relaxed), IN_ALL + 1);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_has_its_share_at_most() {
    let queue = Queue::default();
    for name in 0..100 {
        queue.add(key("a", &name.to_string()), Duration::ZERO);
    }
    let passes = Slow::new(10, None);
    run(&queue, &passes, 5).await;
    assert_eq!(passes.most.load(Ordering::Relaxed), PER_NAMESPACE);
}
