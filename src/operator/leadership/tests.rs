use super::*;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use std::collections::VecDeque;
use tokio::time::advance;

fn held_by(holder: &str) -> Lease {
    renewed(Lease::default(), holder, true, DateTime::from_timestamp(0, 0).unwrap())
}

#[test]
fn a_lease_is_taken_only_when_free_mine_or_unchanged_for_its_duration() {
    let short = Duration::from_secs(15);
    assert_eq!(evaluate(None, "a", short), Move::Create);
    assert_eq!(evaluate(Some(&held_by("a")), "a", short), Move::Take { transition: false });
    assert_eq!(evaluate(Some(&held_by("")), "a", Duration::ZERO), Move::Take { transition: true });
    // Its renew time is long past, yet only our own watch counts.
    assert_eq!(evaluate(Some(&held_by("b")), "a", short), Move::Wait);
    assert_eq!(evaluate(Some(&held_by("b")), "a", short + Duration::from_millis(1)), Move::Take { transition: true });
}

#[test]
fn leading_ends_by_our_own_clock() {
    let leading = Leading::default();
    assert!(!leading.now());
    leading.set(Some(Instant::now() + Duration::from_mins(1)));
    assert!(leading.now());
    leading.set(Some(Instant::now()));
    assert!(!leading.now());
}

#[test]
fn transitions_are_counted_and_renewals_are_not() {
    let lease = renewed(held_by("b"), "a", true, Utc::now());
    assert_eq!(lease.spec.as_ref().and_then(|spec| spec.lease_transitions), Some(2));
    let lease = renewed(lease, "a", false, Utc::now());
    assert_eq!(lease.spec.and_then(|spec| spec.lease_transitions), Some(2));
}

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fails,
    Hangs,
    /// It is done, and the answer is lost.
    Lost,
}

/// An API server with one Lease. What happens to the next requests is said beforehand; afterwards all of them are
/// served.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    fates: VecDeque<Fate>,
    /// When requests came.
    asked: Vec<Instant>,
}

impl Server {
    fn answer(&mut self, method: &Method, body: &[u8]) -> Response<Body> {
        let status = match (method, &self.lease) {
            (&Method::GET, Some(_)) => StatusCode::OK,
            (&Method::GET | &Method::PUT, None) => StatusCode::NOT_FOUND,
            (&Method::POST, Some(_)) => StatusCode::CONFLICT,
            (_, current) => {
                let mut lease: Lease = serde_json::from_slice(body).unwrap();
                let expected = current.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
                if lease.metadata.resource_version == expected {
                    self.version += 1;
                    lease.metadata.resource_version = Some(self.version.to_string());
                    self.lease = Some(lease);
                    StatusCode::OK
                } else {
                    StatusCode::CONFLICT
                }
            }
        };
        let body = if status.is_success() { serde_json::to_vec(&self.lease).unwrap() } else { refusal(status) };
        Response::builder().status(status).body(Body::from(body)).unwrap()
    }

    /// Somebody else writes the Lease.
    fn give_to(&mut self, holder: &str) {
        self.version += 1;
        let mut lease = held_by(holder);
        lease.metadata.name = Some(LEASE_NAME.to_owned());
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
    }
}

fn refusal(status: StatusCode) -> Vec<u8> {
    let reason = if status == StatusCode::NOT_FOUND { "NotFound" } else { "Conflict" };
    serde_json::to_vec(&serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status.as_u16(),
    }))
    .unwrap()
}

/// A replica that has just begun to lead, and its API server.
async fn leader() -> (Leadership, Arc<Mutex<Server>>) {
    let server = Arc::new(Mutex::new(Server::default()));
    let shared = Arc::clone(&server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&shared);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let fate = {
                let mut server = server.lock().unwrap();
                server.asked.push(Instant::now());
                server.fates.pop_front()
            };
            let serve = || server.lock().unwrap().answer(&head.method, &body);
            match fate {
                None => Ok(serve()),
                Some(Fate::Fails) => Err(std::io::Error::other("connection refused")),
                Some(Fate::Hangs) => std::future::pending().await,
                Some(Fate::Lost) => {
                    serve();
                    Err(std::io::Error::other("connection reset"))
                }
            }
        }
    });
    let mut leadership = Leadership::new(Client::new(service, "default"), "default", "me".to_owned());
    leadership.acquire().await;
    assert!(leadership.leading().now());
    (leadership, server)
}

/// Holds the leadership for a minute under these fates, and says when it ended, if it did, after its last renewal
/// began.
async fn held(fates: &[Fate]) -> (Option<Duration>, Arc<Mutex<Server>>) {
    let (mut leadership, server) = leader().await;
    let leading = leadership.leading();
    let start = Instant::now();
    server.lock().unwrap().fates.extend(fates);
    let ended = timeout(Duration::from_mins(1), leadership.hold()).await.is_ok();
    assert_eq!(leading.now(), !ended);
    (ended.then(|| start.elapsed()), server)
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_while_the_leadership_lasts() {
    for fates in [
        &[Fate::Fails][..],
        &[Fate::Fails, Fate::Fails],
        &[Fate::Fails; 6],
        &[Fate::Hangs],
        &[Fate::Lost],
        &[Fate::Lost, Fate::Fails, Fate::Lost],
        &[Fate::Hangs, Fate::Fails, Fate::Fails],
    ] {
        assert_eq!(held(fates).await.0, None, "{fates:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_leadership_ends_with_its_window_whatever_the_api_server_does() {
    for (fate, tries) in [(Fate::Fails, 7), (Fate::Hangs, 2)] {
        let (ended, server) = held(&[fate; 100]).await;
        assert_eq!(ended, Some(LEADS), "{fate:?}");
        // Two requests were those with which it began to lead.
        assert_eq!(server.lock().unwrap().asked.len() - 2, tries, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_counts_from_its_start() {
    let (mut leadership, server) = leader().await;
    let start = Instant::now();
    // The first renewal is done and its answer lost, the second one is answered: from then on nothing is.
    server.lock().unwrap().fates.push_back(Fate::Lost);
    let fates = async {
        sleep(PERIOD + RETRY + Duration::from_millis(1)).await;
        server.lock().unwrap().fates.extend([Fate::Hangs; 100]);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = leadership.hold() => {}
        () = fates => {}
    }
    assert_eq!(start.elapsed(), PERIOD + RETRY + LEADS);
}

#[tokio::test(start_paused = true)]
async fn the_leadership_ends_at_once_where_another_replica_has_the_lease() {
    let (mut leadership, server) = leader().await;
    server.lock().unwrap().give_to("another");
    let start = Instant::now();
    leadership.hold().await;
    assert_eq!(start.elapsed(), PERIOD + RETRY, "the renewal is refused, and the next look tells why");
    assert!(!leadership.leading().now());
    leadership.release().await;
    let holder = server.lock().unwrap().lease.as_ref().unwrap().spec.as_ref().unwrap().holder_identity.clone();
    assert_eq!(holder.as_deref(), Some("another"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deletes_is_created_again() {
    let (mut leadership, server) = leader().await;
    server.lock().unwrap().lease = None;
    timeout(Duration::from_mins(1), leadership.hold()).await.expect_err("the leadership ended");
    assert!(server.lock().unwrap().lease.is_some());
}

#[tokio::test(start_paused = true)]
async fn nobody_leads_after_the_process_has_stood_still() {
    let (mut leadership, server) = leader().await;
    let asked = server.lock().unwrap().asked.len();
    advance(LEADS).await;
    assert!(!leadership.leading().now());
    leadership.hold().await;
    assert_eq!(server.lock().unwrap().asked.len(), asked, "a lease is not renewed after its time");
}

#[test]
fn the_durations_fit_together() {
    assert!(PERIOD + TRY + RETRY + TRY <= LEADS, "a renewal that hangs leaves time for another one");
    // A pod's own clock may be slow, and a write may be under way: a third of the duration is for both.
    assert!(LEADS + DURATION / 3 <= DURATION);
}
