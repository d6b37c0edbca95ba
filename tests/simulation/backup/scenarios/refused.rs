//! The cluster does not do what is wanted, or something claims what is not true.

use crate::apiserver::{Call, Kind, Store, Verb};
use crate::backup::jobs::{backup, inspect};
use crate::backup::scenario::{BACKUP, Scenario, backup_uid, create_backup, create_claim, scenario};
use crate::world::NAMESPACE;
use crate::world::cluster::Behaviour::{Dies, Forges, Stuck};
use crate::world::pods::Stuck::{Image, Unschedulable};
use graph_backup_operator::api::{Mastership, Reason, StoreId, names};
use serde_json::json;

pub fn claim_comes_later() -> Scenario {
    scenario("claim comes later").without_claim().at(30, create_claim).succeeds(&[backup(1)])
}

pub fn claim_never_comes() -> Scenario {
    scenario("claim never comes")
        .tight()
        .without_claim()
        .spec("/deadlines/run", json!("1m"))
        .fails(Reason::TargetClaimMissing, &[])
}

pub fn image_cannot_be_pulled_at_first() -> Scenario {
    scenario("image cannot be pulled at first").backup_job(Stuck(Image)).succeeds(&[backup(1), backup(2)])
}

pub fn no_node_takes_the_pod() -> Scenario {
    scenario("no node takes the pod")
        .spec("/retry/limit", json!(0))
        .backup_job(Stuck(Unschedulable))
        .fails(Reason::PodCannotStart, &[backup(1)])
}

pub fn quota_refuses_every_job() -> Scenario {
    scenario("quota refuses every Job").tight().refusing(is_job_create).fails(Reason::JobRefused, &[])
}

pub fn quota_refuses_the_first_job() -> Scenario {
    scenario("quota refuses the first Job")
        .tight()
        .refusing(|call| is_job_create(call) && call.name.ends_with("-1"))
        .succeeds(&[backup(2)])
}

fn is_job_create(call: &Call) -> bool {
    call.verb == Verb::Create && call.kind.name == "Job"
}

pub fn a_foreign_job_has_the_name() -> Scenario {
    scenario("a foreign Job has the name")
        .prepared(|store, _| foreign_job(store, &names::backup_job(BACKUP, &backup_uid(store), 1)))
        .fails(Reason::JobRefused, &[])
}

pub fn a_foreign_job_has_the_name_of_the_question() -> Scenario {
    scenario("a foreign Job has the name of the question")
        .prepared(|store, _| foreign_job(store, &names::inspect_job(BACKUP, &backup_uid(store), 1, 1)))
        .backup_job(Dies { published: true })
        .succeeds(&[backup(1), inspect(1, 2)])
}

/// It runs something else, for ever, and belongs to nobody.
fn foreign_job(store: &mut Store, name: &str) {
    let job = json!({"metadata": {"name": name}, "spec": {"template": {}}});
    store.create(Kind::named("Job"), NAMESPACE, job).unwrap();
}

pub fn a_verdict_about_another_object() -> Scenario {
    scenario("a verdict about another object")
        .spec("/retry/limit", json!(0))
        .backup_job(Forges(|point| point.owner_uid.push('0')))
        .fails(Reason::ManifestMissing, &[backup(1)])
}

pub fn a_verdict_without_a_digest() -> Scenario {
    scenario("a verdict without a digest")
        .spec("/retry/limit", json!(0))
        .backup_job(Forges(|point| point.manifest_digest.clear()))
        .fails(Reason::ManifestMissing, &[backup(1)])
}

pub fn a_verdict_about_another_store() -> Scenario {
    scenario("a verdict about another store")
        .backup_job(Forges(|point| point.store_id = StoreId { creation_time: 1, random_id: 2 }))
        .fails(Reason::StoreMismatch, &[backup(1)])
}

/// The agent's two readings agree, but not with the look-up that its Job was created for.
pub fn a_verdict_from_another_master() -> Scenario {
    scenario("a verdict from another master")
        .spec("/retry/limit", json!(0))
        .backup_job(Forges(|point| {
            if let Mastership::Master(token) = &mut point.mastership_before {
                token.election_created += 1;
            }
            point.mastership_after = point.mastership_before.clone();
        }))
        .fails(Reason::MasterChanged, &[backup(1)])
}

pub fn a_specification_that_contradicts_itself() -> Scenario {
    scenario("a specification that contradicts itself")
        .spec("/source", json!({"uri": "single://neo4j-0.neo4j", "clusterName": "neo4j.ha"}))
        .fails(Reason::InvalidSpec, &[])
}

pub fn an_object_of_another_version() -> Scenario {
    scenario("an object of another version").spec("/type", json!("FromTheFuture")).stays_untouched()
}

pub fn an_object_of_another_version_beside_a_good_one() -> Scenario {
    scenario("an object of another version beside a good one")
        .prepared(|store, spec| {
            let mut other = spec.clone();
            other["type"] = json!("FromTheFuture");
            create_backup(store, "future", &other);
        })
        .succeeds(&[backup(1)])
}
