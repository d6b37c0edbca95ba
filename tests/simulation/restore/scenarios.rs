//! The scenarios. To add one: write a function that returns it, and name it in the list.

use super::invariants::SINCE;
use super::look::{is_succeeded, member_claim, step};
use super::scenario::{Scenario, restore_key, scenario};
use super::subject::{ask_for_originals, scale_up};
use crate::apiserver::Store;
use crate::fault::delete;
use crate::report::enumerated;
use crate::world::NAMESPACE;
use crate::world::cluster::Behaviour::Fails;
use crate::world::database::{Database, STORE};
use crate::world::volumes::claim_key;
use graph_backup_operator::api::names::APPROVE_PLAN_ANNOTATION;
use graph_backup_operator::api::{Reason, StoreId};
use serde_json::json;

/// How many tests there are.
pub const COUNT: usize = ALL;

enumerated! {
    ALL, every_fault_of, enumerate:
    all::succeeds_and_expires,
    all::claims_go_with_the_members,
    all::undone_after_success,
    all::called_off_while_it_stages,
    all::called_off_in_mid_swap,
    all::deleted_when_the_first_member_starts,
    all::the_point_is_damaged,
    all::the_first_member_never_starts,
    all::somebody_scales_up_in_mid_swap,
    all::somebody_scales_up_at_the_end_of_the_swap,
    all::members_start_in_parallel,
    all::approved_by_a_person,
}

fn is_in(store: &Store, wanted: &str) -> bool {
    store.get(&restore_key()).is_some_and(|restore| step(restore) == wanted)
}

/// The first member's own volume has been put aside.
fn is_in_mid_swap(store: &Store) -> bool {
    is_in(store, "Swap") && store.get(&claim_key(NAMESPACE, &member_claim("original", 0))).is_some()
}

fn is_at_the_end_of_the_swap(store: &Store) -> bool {
    let claim = store.get(&claim_key(NAMESPACE, "data-neo4j-0"));
    is_in_mid_swap(store) && claim.is_some_and(|claim| claim["status"]["phase"] == "Bound")
}

fn waits_for_approval(store: &Store) -> bool {
    store.get(&restore_key()).is_some_and(|restore| {
        restore["status"]["phase"] == "WaitingForApproval"
            && restore["metadata"]["annotations"][APPROVE_PLAN_ANNOTATION].is_null()
    })
}

fn approve(store: &mut Store, _: &Database) {
    let change = |restore: &mut serde_json::Value| {
        let hash = restore["status"]["plan"]["hash"].clone();
        restore["metadata"]["annotations"][APPROVE_PLAN_ANNOTATION] = hash;
    };
    store.change(&restore_key(), change).unwrap();
}

mod all {
    use super::*;

    pub fn succeeds_and_expires() -> Scenario {
        scenario("succeeds and expires").one_fault_in(9)
    }

    pub fn claims_go_with_the_members() -> Scenario {
        scenario("claims go with the members")
            .set(|set| set["spec"]["persistentVolumeClaimRetentionPolicy"] = json!({"whenScaled": "Delete"}))
            .one_fault_in(23)
    }

    pub fn undone_after_success() -> Scenario {
        scenario("undone after success")
            .person(
                |store| store.get(&restore_key()).is_some_and(|restore| is_succeeded(restore)),
                |store, database| {
                    database.write(SINCE);
                    ask_for_originals(store);
                },
            )
            .ends("RolledBack", "CalledOff")
            .one_fault_in(23)
    }

    pub fn called_off_while_it_stages() -> Scenario {
        scenario("called off while it stages")
            .person(
                |store| store.get(&claim_key(NAMESPACE, &member_claim("staged", 0))).is_some(),
                |store, _| ask_for_originals(store),
            )
            .ends("RolledBack", "CalledOff")
            .one_fault_in(5)
    }

    pub fn called_off_in_mid_swap() -> Scenario {
        scenario("called off in mid swap")
            .person(is_in_mid_swap, |store, _| ask_for_originals(store))
            .ends("RolledBack", "CalledOff")
            .one_fault_in(23)
    }

    pub fn deleted_when_the_first_member_starts() -> Scenario {
        scenario("deleted when the first member starts")
            .person(|store| is_in(store, "StartFirst"), |store, _| delete(store, &restore_key()))
            .ends("Gone", "")
            .one_fault_in(29)
    }

    pub fn the_point_is_damaged() -> Scenario {
        scenario("the point is damaged")
            .stage_jobs(Fails(Reason::VerificationFailed))
            .ends("RolledBack", "VerificationFailed")
            .one_fault_in(5)
    }

    pub fn the_first_member_never_starts() -> Scenario {
        scenario("the first member never starts")
            .stages(StoreId { random_id: 1, ..STORE })
            .spec("deadlines", json!({"start": "1m"}))
            .ends("RolledBack", "StartingMembers")
            .one_fault_in(41)
    }

    pub fn somebody_scales_up_in_mid_swap() -> Scenario {
        scenario("somebody scales up in mid swap").person(is_in_mid_swap, |store, _| scale_up(store)).one_fault_in(29)
    }

    /// The new volumes are under the members' claims, and nothing has recorded it yet.
    pub fn somebody_scales_up_at_the_end_of_the_swap() -> Scenario {
        scenario("somebody scales up at the end of the swap")
            .person(is_at_the_end_of_the_swap, |store, _| scale_up(store))
            .one_fault_in(29)
    }

    pub fn members_start_in_parallel() -> Scenario {
        scenario("members start in parallel")
            .set(|set| set["spec"]["podManagementPolicy"] = json!("Parallel"))
            .members(3)
            .one_fault_in(41)
    }

    pub fn approved_by_a_person() -> Scenario {
        // The second time for an object that was made anew.
        scenario("approved by a person")
            .spec("approval", json!("Required"))
            .person(waits_for_approval, approve)
            .person(waits_for_approval, approve)
            .members(1)
            .one_fault_in(11)
    }
}
