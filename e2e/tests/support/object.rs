//! A `GraphBackup` under test.

use super::{NAMESPACE, SOURCE, TOOL_IMAGE, eventually};
use graph_backup_operator::api::{GraphBackup, GraphBackupStatus, condition};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::time::Duration;

/// Longest time that any backup of these tests may take.
const LIMIT: Duration = Duration::from_secs(240);

/// A backup that is deleted with its Jobs when the test is over.
pub struct Backup {
    api: Api<GraphBackup>,
    /// Its name.
    pub name: String,
}

impl Backup {
    /// Creates a backup of the test cluster onto `claim`; `spec` is merged over the usual one.
    pub async fn create(client: &Client, name: &str, claim: &str, spec: Value) -> Self {
        Self::create_in(NAMESPACE, client, name, claim, spec).await
    }

    /// The same in another namespace than the database's.
    pub async fn create_in(namespace: &str, client: &Client, name: &str, claim: &str, spec: Value) -> Self {
        let mut object = json!({
            "apiVersion": "graphbackup.dev/v1alpha1",
            "kind": "GraphBackup",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "source": {"uri": SOURCE},
                "target": {"claimName": claim},
                "tool": {"image": TOOL_IMAGE},
                "retry": {"limit": 0},
                "deadlines": {"run": "3m", "podStart": "1m"},
            }
        });
        merge(&mut object["spec"], spec);
        let api: Api<GraphBackup> = Api::namespaced(client.clone(), namespace);
        let _ = api.delete(name, &DeleteParams::default()).await;
        eventually("the object of an earlier run is gone", LIMIT, || async {
            api.get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
        let object: GraphBackup = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        Self { api, name: name.to_owned() }
    }

    /// An object that somebody else created.
    pub fn existing(client: &Client, name: &str) -> Self {
        Self { api: Api::namespaced(client.clone(), NAMESPACE), name: name.to_owned() }
    }

    /// The present status.
    pub async fn status(&self) -> GraphBackupStatus {
        self.api.get(&self.name).await.unwrap().status.unwrap_or_default()
    }

    /// UID of the object.
    pub async fn uid(&self) -> String {
        self.api.get(&self.name).await.unwrap().metadata.uid.unwrap()
    }

    /// Waits until the status is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&GraphBackupStatus) -> bool) -> GraphBackupStatus {
        eventually(&format!("{}: {what}", self.name), LIMIT, || async {
            Some(self.status().await).filter(|status| wanted(status))
        })
        .await
    }

    /// Waits for the end; gives the status and the truth, reason and message of `Succeeded`.
    pub async fn finished(&self) -> (GraphBackupStatus, Outcome) {
        let status = self.until("finished", |status| status.completion_time.is_some()).await;
        let outcome = Outcome::of(&status);
        (status, outcome)
    }

    /// Waits for success.
    pub async fn succeeded(&self) -> GraphBackupStatus {
        let (status, outcome) = self.finished().await;
        assert_eq!(outcome.truth, "True", "{}: {} {}", self.name, outcome.reason, outcome.message);
        status
    }

    /// Waits for failure; it must have this reason and a message that tells these things.
    pub async fn failed(&self, reason: &str, tells: &[&str]) -> GraphBackupStatus {
        let (status, outcome) = self.finished().await;
        assert_eq!(
            (outcome.truth.as_str(), outcome.reason.as_str()),
            ("False", reason),
            "{}: {}",
            self.name,
            outcome.message
        );
        for word in tells {
            assert!(outcome.message.contains(word), "{}: {:?} does not tell {word:?}", self.name, outcome.message);
        }
        assert!(status.point.is_none());
        status
    }

    /// Waits until `Succeeded` is `Unknown` with this reason: the operator waits, and says for what.
    pub async fn waits(&self, reason: &str) -> Outcome {
        Outcome::of(&self.until(&format!("waits with {reason}"), |status| Outcome::of(status).reason == reason).await)
    }

    /// Deletes it.
    pub async fn delete(self) {
        self.api.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

/// The condition `Succeeded`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// True, False, Unknown, or empty when the operator has not seen the object yet.
    pub truth: String,
    /// The typed reason.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Outcome {
    fn of(status: &GraphBackupStatus) -> Self {
        let found = status.conditions.iter().find(|c| c.type_ == condition::SUCCEEDED);
        found
            .map(|c| Self { truth: c.status.clone(), reason: c.reason.clone(), message: c.message.clone() })
            .unwrap_or_default()
    }
}

/// Makes a claim of the given size, when it is not there yet.
pub async fn claim(client: &Client, name: &str, size: &str) {
    claim_in(NAMESPACE, client, name, size).await;
}

/// The same in another namespace than the database's.
pub async fn claim_in(namespace: &str, client: &Client, name: &str, size: &str) {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let object = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    }))
    .unwrap();
    if api.get_opt(name).await.unwrap().is_none() {
        api.create(&PostParams::default(), &object).await.unwrap();
    }
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
