//! The operator's client of the API server, which takes only so many requests at the same time.

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Request;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config, Error};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tower::{Layer, Service};

/// Requests that wait for their answers at the same time.
///
/// Each has a connection of its own, because kube speaks HTTP/1.1: a thousand slots in one minute would open hundreds,
/// each with a TLS handshake and tens of KiB on both sides, and be no faster for it.
const AT_ONCE: usize = 32;

/// A client for passes: its requests take turns, and watches, which last, count for none.
pub fn client(config: Config) -> Result<Client, Error> {
    Ok(ClientBuilder::try_from(config)?.with_layer(&TakeTurns(Arc::new(Semaphore::new(AT_ONCE)))).build())
}

/// Lets only so many requests be sent at the same time, in the order in which they came.
struct TakeTurns(Arc<Semaphore>);

impl<S> Layer<S> for TakeTurns {
    type Service = InTurn<S>;

    fn layer(&self, inner: S) -> InTurn<S> {
        InTurn { inner, turns: Arc::clone(&self.0) }
    }
}

/// A service that waits for its turn.
#[derive(Clone)]
struct InTurn<S> {
    inner: S,
    turns: Arc<Semaphore>,
}

impl<S> Service<Request<Body>> for InTurn<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (is_watch, turns) = (is_watch(&request), Arc::clone(&self.turns));
        // Nothing is sent before it is polled.
        let answer = self.inner.call(request);
        async move {
            // The semaphore is never closed.
            let _turn = if is_watch { None } else { turns.acquire().await.ok() };
            answer.await
        }
        .boxed()
    }
}

fn is_watch(request: &Request<Body>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::{ServiceExt, service_fn};

    fn request(uri: &str) -> Request<Body> {
        Request::get(uri).body(Body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn requests_take_turns_and_watches_do_not_wait() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, highest) = (Arc::clone(&now), Arc::clone(&most));
        let inner = service_fn(move |_: Request<Body>| {
            let (now, most) = (Arc::clone(&counted), Arc::clone(&highest));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        });
        let service = TakeTurns(Arc::new(Semaphore::new(AT_ONCE))).layer(inner);
        let begin = tokio::time::Instant::now();
        let gets: Vec<_> =
            (0..3 * AT_ONCE).map(|_| tokio::spawn(service.clone().oneshot(request("/api/v1/pods")))).collect();
        tokio::task::yield_now().await;
        service.clone().oneshot(request("/api/v1/pods?limit=1&watch=true")).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), 1, "a watch waited");
        for get in gets {
            get.await.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::Relaxed), AT_ONCE + 1);
        assert_eq!(begin.elapsed().as_secs(), 3);
    }
}
