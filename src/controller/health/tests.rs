use super::*;
use tokio::time::advance;

fn namespace(name: &str) -> Scope {
    Scope::Namespace(name.to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_oldest_word_of_each_kind_is_told() {
    let health = Health::default();
    let old = health.watch("Job", &namespace("a"));
    advance(Duration::from_secs(30)).await;
    health.watch("Job", &namespace("b"));
    health.watch("Pod", &namespace("a"));
    advance(Duration::from_secs(10)).await;
    let ages = || {
        let mut ages = health.ages();
        ages.sort_unstable();
        ages
    };
    assert_eq!(ages(), [("Job", Duration::from_secs(40)), ("Pod", Duration::from_secs(10))]);
    health.heard(&old);
    assert_eq!(ages(), [("Job", Duration::from_secs(10)), ("Pod", Duration::from_secs(10))]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_namespace_makes_nobody_unready_while_another_works() {
    let health = Health::default();
    let (gone, works) = (health.watch("Job", &namespace("gone")), health.watch("Job", &namespace("works")));
    health.failed(&gone, true, "403 no");
    advance(SILENT_AFTER + Duration::from_secs(1)).await;
    health.heard(&works);
    assert_eq!(health.silent(), None);
    // Without any answer it does, whatever the others hear.
    health.failed(&gone, false, "late");
    assert!(health.silent().unwrap().contains("namespace gone"));
    // And so it does when all are refused.
    health.failed(&gone, true, "403 no");
    health.failed(&works, true, "403 no");
    advance(SILENT_AFTER + Duration::from_secs(1)).await;
    let silent = health.silent().unwrap();
    assert!(
        silent.contains("403 no: check that the CustomResourceDefinition and the operator's Role are there"),
        "{silent}"
    );
    health.heard(&works);
    assert_eq!(health.silent(), None);
}

#[tokio::test(start_paused = true)]
async fn many_failures_write_few_lines() {
    let health = Health::default();
    let lines = |pulses: &[Arc<Pulse>]| {
        let told =
            |pulse: &&Arc<Pulse>| locked(&pulse.state).failure.as_ref().is_some_and(|failure| failure.line.is_some());
        pulses.iter().filter(told).count()
    };
    let pulses: Vec<_> = (0..100).map(|number| health.watch("Job", &namespace(&number.to_string()))).collect();
    for pulse in &pulses {
        health.failed(pulse, false, "late");
    }
    assert_eq!(lines(&pulses), 1);
    advance(LINE_EVERY).await;
    for pulse in &pulses {
        health.failed(pulse, false, "late");
    }
    assert_eq!(lines(&pulses), 2);
}
