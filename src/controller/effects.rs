//! Effects: all that a controller writes, as data, and the one loop that executes them.
//!
//! A pass decides on a step, the step becomes an ordered list of effects, and [`Executor::execute`] executes the list.
//! Each effect can be repeated: a crash between two of them leaves a state in which the same list, or the next one, is
//! decided again.

mod effect;
mod objects;
mod volumes;
#[cfg(test)]
mod words;

pub use effect::{Effect, OtherObject, ScaleTo, record};
pub use volumes::VolumePatch;

use super::call::{CallError, call};
use super::job::JobRef;
use super::lock::ClusterLocks;
use crate::api::Owner;
use chrono::{DateTime, Utc};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

/// Field manager of status writes.
const STATUS_MANAGER: &str = "graph-backup-operator-status";

/// Why a list of effects was not executed to its end.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A call to the API server.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Something that is written cannot be encoded as JSON.
    #[error("failed to encode what is written: {0}")]
    Encode(#[from] serde_json::Error),
    /// This process is not the leader any more.
    #[error("failed to continue: this replica is no longer the leader")]
    NotLeading,
}

impl EffectError {
    /// Static word for metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Call(error) => error.category(),
            Self::Encode(_) => "bug",
            Self::NotLeading => "not_leading",
        }
    }
}

/// How a list of effects ended that met no error.
#[derive(Debug)]
pub enum Outcome<R> {
    /// All were executed.
    Done,
    /// One was refused whose refusal has a meaning; the ones after it were not executed.
    Refused {
        /// What it means.
        refusal: R,
        /// The API server's words, or who has the lock.
        message: String,
        /// Version of the object after the effects before it.
        resource_version: String,
    },
}

/// The object that effects are about, as it was read.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Kind, namespace, name and UID.
    pub owner: &'a Owner,
    /// `metadata.resourceVersion`.
    pub resource_version: &'a str,
}

/// Executes effects: the only writer.
pub struct Executor<'a> {
    /// Client of the API server.
    pub client: &'a Client,
    /// The locks of the database clusters.
    pub locks: &'a ClusterLocks,
    /// Asked right before every effect.
    pub leading: &'a (dyn Fn() -> bool + Send + Sync),
}

impl Executor<'_> {
    /// Executes a list in its order, for an object of kind `K`, until one effect fails or is refused.
    pub async fn execute<K, R>(
        &self,
        subject: &Subject<'_>,
        effects: Vec<Effect<R>>,
        now: DateTime<Utc>,
    ) -> Result<Outcome<R>, EffectError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), &subject.owner.namespace);
        let mut run = Run { executor: self, subject, api, version: subject.resource_version.to_owned(), now };
        for effect in effects {
            self.require_leadership()?;
            if let Some((refusal, message)) = run.effect(effect).await? {
                return Ok(Outcome::Refused { refusal, message, resource_version: run.version });
            }
        }
        Ok(Outcome::Done)
    }

    fn require_leadership(&self) -> Result<(), EffectError> {
        if (self.leading)() { Ok(()) } else { Err(EffectError::NotLeading) }
    }

    fn namespaced<O>(&self, subject: &Subject<'_>) -> Api<O>
    where
        O: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &subject.owner.namespace)
    }
}

/// One execution of a list.
struct Run<'a, K> {
    executor: &'a Executor<'a>,
    subject: &'a Subject<'a>,
    api: Api<PartialObjectMeta<K>>,
    /// `metadata.resourceVersion` after the effects so far.
    version: String,
    now: DateTime<Utc>,
}

impl<K> Run<'_, K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    /// Executes one effect. A refusal that has a meaning is given back with its words.
    async fn effect<R>(&mut self, effect: Effect<R>) -> Result<Option<(R, String)>, EffectError> {
        match effect {
            Effect::RequireUnchanged => self.require_unchanged().await?,
            Effect::TakeLock { store, held } => {
                let other = self.executor.locks.take(store, self.subject.owner, self.now).await?;
                return Ok(other.map(|lock| (held, lock.to_string())));
            }
            Effect::ReleaseLocks => self.release_locks().await?,
            Effect::DeleteLock(lock) => self.executor.locks.delete(&lock).await?,
            Effect::CreateEvent(event) => self.create_event(&event).await?,
            Effect::RecordStatus(status) => self.record_status(&status).await?,
            Effect::ReplaceStatus(status) => self.replace_status(&status).await?,
            Effect::SetFinalizers(finalizers) => self.set_finalizers(&finalizers).await?,
            Effect::CreateJob { job, refusal } => {
                return meaning(self.create_job(&job).await.map_err(Into::into), refusal);
            }
            Effect::DeleteJob(job) => self.delete_job(&job).await?,
            Effect::Scale { to, refusal } => return meaning(self.scale(&to).await.map_err(Into::into), refusal),
            Effect::CreateObject { kind, object, exists, refusal } => {
                return match self.create_object(kind, *object).await {
                    Err(EffectError::Call(error @ CallError::Exists { .. })) => Ok(Some((exists, error.to_string()))),
                    done => meaning(done, Some(refusal)),
                };
            }
            Effect::DeleteObject { object, refusal } => {
                return meaning(self.delete_object(&object).await.map_err(Into::into), Some(refusal));
            }
            Effect::CreateClaim { claim, refusal } => {
                return meaning(self.create_claim(&claim).await.map_err(Into::into), Some(refusal));
            }
            Effect::DeleteClaim { name, uid, refusal } => {
                return meaning(self.delete_claim(&name, &uid).await.map_err(Into::into), Some(refusal));
            }
            Effect::MarkClaim { name, uid, refusal } => {
                return meaning(self.mark_claim(&name, &uid).await.map_err(Into::into), Some(refusal));
            }
            Effect::ChangeVolume { volume, refusal } => {
                return meaning(self.change_volume(&volume).await.map_err(Into::into), Some(refusal));
            }
            Effect::DeletePod { name, uid, refusal } => {
                return meaning(self.delete_pod(&name, &uid).await.map_err(Into::into), Some(refusal));
            }
            Effect::RecordOn { object, status } => self.record_on(&object, &status).await?,
            Effect::MarkAndDelete { object, mark, refusal } => {
                return meaning(self.mark_and_delete(object, mark).await, Some(refusal));
            }
            Effect::ChangeMetadata { object, change, refusal } => {
                let changed = self.change_metadata("change the metadata of a backup", &object, change).await;
                return meaning(changed.map(|_| ()).map_err(Into::into), Some(refusal));
            }
        }
        Ok(None)
    }

    fn name(&self) -> &str {
        &self.subject.owner.name
    }

    async fn require_unchanged(&self) -> Result<(), CallError> {
        let action = "find the object as it was read";
        let object = call(action, self.api.get_metadata(self.name())).await?;
        if object.metadata.resource_version.as_ref() == Some(&self.version) {
            Ok(())
        } else {
            Err(CallError::Conflict { action })
        }
    }

    async fn release_locks(&self) -> Result<(), EffectError> {
        let released = async {
            for lock in self.executor.locks.held_by(self.subject.owner).await? {
                self.executor.require_leadership()?;
                self.executor.locks.delete(&lock).await?;
            }
            Ok(())
        };
        match released.await {
            Err(EffectError::Call(CallError::Refused { message, .. })) => {
                tracing::warn!(%message, "the lock of a cluster could not be released");
                Ok(())
            }
            released => released,
        }
    }

    async fn create_event(&self, event: &Event) -> Result<(), CallError> {
        let events: Api<Event> = self.executor.namespaced(self.subject);
        match call("create an Event", events.create(&PostParams::default(), event)).await {
            Ok(_) | Err(CallError::Exists { .. }) => Ok(()),
            Err(CallError::Refused { message, .. }) => {
                tracing::warn!(%message, "an Event was refused");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn record_status(&mut self, status: &Value) -> Result<(), CallError> {
        let kind = self.subject.owner.kind;
        let patch = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": {"resourceVersion": self.version},
            "status": status,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        let patch = Patch::Apply(&patch);
        let written = self.api.patch_status(self.name(), &params, &patch);
        let written = call("write the status of the object", written).await?;
        self.version = written.metadata.resource_version.unwrap_or_default();
        Ok(())
    }

    async fn replace_status(&mut self, status: &Value) -> Result<(), CallError> {
        let patch = json!({"metadata": {"resourceVersion": self.version}, "status": status});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let written = self.api.patch_status(self.name(), &params, &patch);
        let written = call("replace the status of the object", written).await?;
        self.version = written.metadata.resource_version.unwrap_or_default();
        Ok(())
    }

    async fn set_finalizers(&mut self, finalizers: &[String]) -> Result<(), CallError> {
        let patch = json!({"metadata": {"resourceVersion": self.version, "finalizers": finalizers}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let written = self.api.patch_metadata(self.name(), &params, &patch);
        match call("write the finalizers of the object", written).await {
            Ok(written) => {
                self.version = written.metadata.resource_version.unwrap_or_default();
                Ok(())
            }
            Err(CallError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn create_job(&self, job: &Job) -> Result<(), CallError> {
        let jobs: Api<Job> = self.executor.namespaced(self.subject);
        match call("create a Job", jobs.create(&PostParams::default(), job)).await {
            Ok(_) | Err(CallError::Exists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_job(&self, job: &JobRef) -> Result<(), CallError> {
        let jobs: Api<Job> = self.executor.namespaced(self.subject);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(job.uid.clone()), resource_version: None }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match call("delete a Job", jobs.delete(&job.name, &params)).await {
            Ok(_) | Err(CallError::NotFound { .. } | CallError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn scale(&self, to: &ScaleTo) -> Result<(), CallError> {
        let sets: Api<StatefulSet> = self.executor.namespaced(self.subject);
        let patch = json!({"metadata": {"resourceVersion": to.resource_version}, "spec": {"replicas": to.replicas}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        match call("scale the StatefulSet of the members", sets.patch_scale(&to.stateful_set, &params, &patch)).await {
            Ok(_) | Err(CallError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Tells a refusal that has a meaning from every other error.
fn meaning<R>(done: Result<(), EffectError>, refusal: Option<R>) -> Result<Option<(R, String)>, EffectError> {
    match (done, refusal) {
        (Ok(()), _) => Ok(None),
        (Err(EffectError::Call(refused @ CallError::Refused { .. })), Some(refusal)) => {
            Ok(Some((refusal, refused.to_string())))
        }
        (Err(error), _) => Err(error),
    }
}
