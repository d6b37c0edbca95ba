//! What time it is by the API server.

use super::call::{CallError, call};
use chrono::{DateTime, Utc};
use kube::api::GetParams;
use kube::client::Body;
use kube::core::Request;
use kube::{Client, Error};

/// When the API server answers a request for this object, by its own clock: the header `Date` of the answer, whatever
/// else is in it. `None` if a proxy removes the header.
pub async fn server_time(client: &Client, path: &str, name: &str) -> Result<Option<DateTime<Utc>>, CallError> {
    let request = Request::new(path).get_metadata(name, &GetParams::default()).map_err(Error::BuildRequest);
    let asked = async { client.send(request?.map(Body::from)).await };
    let answer = call("ask the API server for its time", asked).await?;
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    Ok(date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.with_timezone(&Utc)))
}
