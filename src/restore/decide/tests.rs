//! Whole restores in memory: what they leave, whenever they are interrupted.

use super::refused;
use crate::api::names::{APPROVE_PLAN_ANNOTATION, ROLL_BACK_ANNOTATION};
use crate::api::{Direction, Reason, RestorePhase, RestoreStep};
use crate::contract::failure::Failure;
use crate::contract::verdict::Verdict;
use crate::restore::step::Refusal;
use crate::restore::testing::Play;
use chrono::TimeDelta;
use serde_json::json;

const ORIGINALS: [&str; 3] = ["original 0", "original 1", "original 2"];
const RESTORED: [&str; 3] = ["point"; 3];

fn reason(play: &Play) -> &str {
    let told = play.status.conditions.iter().find(|condition| condition.type_ == "Succeeded");
    told.map(|told| told.reason.as_str()).unwrap_or_default()
}

/// Reclaim policy of the volume of each member.
fn policies(play: &Play) -> Vec<&str> {
    let claims = (0..3).map(|ordinal| &play.claims[&format!("data-neo4j-{ordinal}")]);
    claims.map(|claim| play.volumes[claim.volume.as_ref().unwrap()].policy.as_str()).collect()
}

/// The originals are somewhere, whatever has happened.
fn keeps_originals(play: &Play) {
    for original in ORIGINALS {
        let kept = play.volumes.values().filter(|volume| volume.data == original).count();
        assert_eq!(kept, 1, "{original} is gone\n{}", play.log.join("\n"));
    }
}

#[test]
fn a_restore_puts_the_point_under_every_member_and_keeps_the_originals() {
    let mut play = Play::new();
    play.until(RestoreStep::Ended);
    assert_eq!((reason(&play), play.status.phase), ("Restored", Some(RestorePhase::Succeeded)));
    assert_eq!((play.data(), play.replicas), (RESTORED.map(str::to_owned).to_vec(), 3));
    assert_eq!(policies(&play), ["Delete"; 3], "the live volumes have the policy of the originals");
    for ordinal in 0..3 {
        let claim = format!("undo-original-{ordinal}");
        assert_eq!(play.data_of(&claim), ORIGINALS[usize::try_from(ordinal).unwrap()]);
        assert_eq!(play.volumes[play.claims[&claim].volume.as_ref().unwrap()].policy, "Retain");
    }
    assert!(play.status.downtime.as_ref().unwrap().to.is_some() && !play.locked && play.is_kept());
    // The first member starts alone.
    let scales: Vec<_> = play.log.iter().filter(|line| line.starts_with("scale")).collect();
    assert_eq!(scales, ["scale to 0", "scale to 1", "scale to 3"]);
}

#[test]
fn a_finished_restore_is_undone_by_the_hash_of_its_plan_and_by_nothing_else() {
    let mut play = Play::new();
    play.until(RestoreStep::Ended);
    play.annotate(ROLL_BACK_ANNOTATION, "yes");
    play.pass(None);
    assert_eq!(play.status.direction, Direction::Forward);
    let hash = play.status.plan.clone().unwrap().hash;
    play.annotate(ROLL_BACK_ANNOTATION, &hash);
    play.pass(None);
    play.until(RestoreStep::Stop);
    play.until(RestoreStep::Ended);
    assert_eq!((play.status.phase, reason(&play)), (Some(RestorePhase::RolledBack), "RolledBack"));
    assert_eq!((play.data(), policies(&play)), (ORIGINALS.map(str::to_owned).to_vec(), vec!["Delete"; 3]));
    for ordinal in 0..3 {
        assert_eq!(play.data_of(&format!("undo-replaced-{ordinal}")), "point", "what served meanwhile is kept");
    }
}

#[test]
fn the_originals_go_the_way_of_their_policy_when_their_time_is_over() {
    let mut play = Play::new();
    play.until(RestoreStep::Ended);
    play.now += TimeDelta::hours(167);
    play.pass(None);
    keeps_originals(&play);
    play.now += TimeDelta::hours(2);
    for _ in 0..6 {
        play.pass(None);
    }
    assert!(!play.claims.keys().any(|name| name.starts_with("undo-original")));
    assert_eq!(play.volumes.values().filter(|volume| volume.data.starts_with("original")).count(), 0);
    assert_eq!((play.data(), play.is_kept()), (RESTORED.map(str::to_owned).to_vec(), false));
}

#[test]
fn wherever_it_is_interrupted_it_ends_the_same() {
    for at in 0..60 {
        for made in 0..3 {
            let mut play = Play::new();
            for pass in 0..200 {
                let crash = (pass == at).then_some(made);
                play.pass(crash);
                keeps_originals(&play);
                if play.status.step == RestoreStep::Ended {
                    break;
                }
            }
            assert_eq!((reason(&play), play.data()), ("Restored", RESTORED.map(str::to_owned).to_vec()), "{at} {made}");
        }
    }
}

#[test]
fn wherever_it_is_called_off_the_originals_serve_again() {
    for deleted in [false, true] {
        for at in 0..60 {
            let mut play = Play::new();
            for pass in 0..300 {
                if pass == at && play.status.step != RestoreStep::Ended {
                    if deleted { play.delete() } else { play.annotate(ROLL_BACK_ANNOTATION, "now") }
                }
                play.pass((pass == at + 3).then_some(0));
                keeps_originals(&play);
                if play.status.step == RestoreStep::Ended {
                    break;
                }
            }
            assert_eq!(
                (play.status.step, play.replicas),
                (RestoreStep::Ended, 3),
                "{at}: {:?}",
                play.status.conditions
            );
            if reason(&play) != "Restored" {
                assert_eq!(play.data(), ORIGINALS, "{at}: {}", play.log.join("\n"));
                assert_eq!(policies(&play), ["Delete"; 3], "{at}");
                assert!(!play.claims.keys().any(|name| name.contains("staged")), "{at}: {:?}", play.claims.keys());
            }
            play.pass(None);
            assert!(!deleted || reason(&play) == "Restored" || !play.is_kept(), "{at}");
        }
    }
}

#[test]
fn a_corrupt_point_ends_before_any_member_is_stopped() {
    let mut play = Play::new();
    let failure = Failure::new(Reason::VerificationFailed, "neostore has other content");
    play.staging = Some(Verdict::Failed(failure));
    play.until(RestoreStep::Ended);
    assert_eq!(play.status.phase, Some(RestorePhase::RolledBack));
    let cause = play.status.cause.clone().unwrap();
    assert!(cause.reason == "VerificationFailed" && cause.message.contains("neostore"), "{cause:?}");
    assert!(!play.log.iter().any(|line| line.starts_with("scale")));
    assert_eq!(play.volumes.len(), 3, "what was staged is gone");
    assert_eq!((play.data(), policies(&play)), (ORIGINALS.map(str::to_owned).to_vec(), vec!["Delete"; 3]));
}

#[test]
fn a_member_that_does_not_become_master_is_rolled_back_and_what_it_served_is_kept() {
    let mut play = Play::new();
    play.never_master = true;
    play.until(RestoreStep::StartFirst);
    for _ in 0..3 {
        play.pass(None);
    }
    assert_eq!((reason(&play), play.replicas), ("SeedNotMaster", 1), "no other member starts");
    play.now += TimeDelta::minutes(31);
    play.until(RestoreStep::Ended);
    assert_eq!(play.status.cause.clone().unwrap().reason, "SeedNotMaster");
    assert_eq!((play.data(), play.data_of("undo-replaced-0")), (ORIGINALS.map(str::to_owned).to_vec(), "point".into()));
}

#[test]
fn with_hold_a_late_step_stays_until_a_person_decides() {
    let mut play = Play::new();
    play.object["spec"]["onFailure"] = json!("Hold");
    play.never_master = true;
    play.until(RestoreStep::StartFirst);
    play.now += TimeDelta::minutes(31);
    play.pass(None);
    assert_eq!((play.status.step, play.status.phase), (RestoreStep::StartFirst, Some(RestorePhase::Held)));
    play.annotate(ROLL_BACK_ANNOTATION, "yes");
    play.until(RestoreStep::Ended);
    assert_eq!(play.data(), ORIGINALS);
}

#[test]
fn the_plan_waits_for_its_own_approval() {
    let mut play = Play::new();
    play.object["spec"]["approval"] = json!("Required");
    play.annotate(APPROVE_PLAN_ANNOTATION, "0000000000000000");
    for _ in 0..10 {
        play.pass(None);
    }
    assert_eq!((reason(&play), play.status.phase), ("WaitingForApproval", Some(RestorePhase::WaitingForApproval)));
    assert!(!play.locked && play.finalizers.is_empty() && play.claims.len() == 3, "nothing has begun");
    // A volume that somebody exchanges meanwhile makes another plan.
    let hash = play.status.plan.clone().unwrap().hash;
    play.claims.remove("data-neo4j-2");
    play.provision("data-neo4j-2", None, "original 2b");
    play.annotate(APPROVE_PLAN_ANNOTATION, &hash);
    for _ in 0..10 {
        play.pass(None);
    }
    assert_eq!(reason(&play), "WaitingForApproval");
    let hash = play.status.plan.clone().unwrap().hash;
    play.annotate(APPROVE_PLAN_ANNOTATION, &hash);
    play.until(RestoreStep::Ended);
    assert_eq!(reason(&play), "Restored");
}

#[test]
fn somebody_who_scales_up_in_the_gap_gets_no_member_onto_an_unknown_volume() {
    for at in 0..40 {
        let mut play = Play::new();
        play.until(RestoreStep::Swap);
        for pass in 0..200 {
            if pass == at && play.status.step == RestoreStep::Swap {
                play.scale(3);
            }
            play.pass(None);
            keeps_originals(&play);
            if play.status.step == RestoreStep::Ended {
                break;
            }
        }
        // A member that started on a new volume may have copied from one that was not changed yet.
        let wanted = if reason(&play) == "Restored" { RESTORED } else { ORIGINALS };
        assert_eq!((play.status.step, play.data()), (RestoreStep::Ended, wanted.map(str::to_owned).to_vec()), "{at}");
        let strays: Vec<_> = play.claims.keys().filter(|name| name.contains("stray")).collect();
        let recorded: usize = play.status.journal.iter().flat_map(|j| &j.members).map(|m| m.strays.len()).sum();
        assert_eq!(strays.len(), recorded, "{at}: a volume that came meanwhile is kept under a name");
    }
}

#[test]
fn a_foreign_member_and_another_store_are_refused_before_anything_is_changed() {
    let mut play = Play::new();
    play.object["spec"]["into"]["workload"]["statefulSet"] = json!("neo4");
    for _ in 0..3 {
        play.pass(None);
    }
    assert_eq!(reason(&play), "StoreIdInUse");
    play.now += TimeDelta::hours(3);
    play.pass(None);
    assert_eq!((play.status.step, play.status.phase), (RestoreStep::Ended, Some(RestorePhase::Failed)));
    assert_eq!(reason(&play), "StoreIdInUse", "the reason stays the one that held it up");
    assert!(play.log.is_empty(), "{:?}", play.log);
}

#[test]
fn what_is_refused_after_the_end_does_not_take_it_back() {
    let mut play = Play::new();
    play.until(RestoreStep::Ended);
    let refusal = Refusal::Refused(Reason::VolumeRefused);
    let told = refused(&play.valid(), &play.status, (&refusal, "forbidden"), play.now);
    assert_eq!((&told.status, told.actions.len()), (&play.status, 0));
}

#[test]
fn a_lock_that_an_interrupted_end_left_is_given_back() {
    let mut play = Play::new();
    play.until(RestoreStep::Ended);
    play.locked = true;
    play.pass(None);
    assert!(!play.locked);
}

#[test]
fn claims_that_went_with_the_members_are_made_anew_to_read_from() {
    let mut play = Play::new();
    play.until(RestoreStep::Carry);
    for ordinal in 0..3 {
        drop(play.claims.remove(&format!("data-neo4j-{ordinal}")));
    }
    play.until(RestoreStep::Ended);
    assert_eq!((reason(&play), play.data()), ("Restored", RESTORED.map(str::to_owned).to_vec()));
    keeps_originals(&play);
}

#[test]
fn a_claim_that_somebody_exchanges_on_the_way_back_is_put_aside_again() {
    let mut play = Play::new();
    play.until(RestoreStep::StartFirst);
    play.annotate(ROLL_BACK_ANNOTATION, "now");
    play.pass(None);
    play.until(RestoreStep::StartAll);
    drop(play.claims.remove("data-neo4j-1"));
    play.provision("data-neo4j-1", None, "somebody's");
    play.until(RestoreStep::Ended);
    assert_eq!((reason(&play), play.data()), ("RolledBack", ORIGINALS.map(str::to_owned).to_vec()));
    assert_eq!(play.data_of("undo-stray-1-0"), "somebody's");
}

#[test]
fn what_a_member_wrote_on_a_new_volume_on_the_way_back_is_kept() {
    let mut play = Play::new();
    play.until(RestoreStep::Swap);
    while play.data()[0] != "point" || !play.claims["data-neo4j-0"].is_bound {
        play.pass(None);
    }
    play.annotate(ROLL_BACK_ANNOTATION, "now");
    play.pass(None);
    play.until(RestoreStep::Swap);
    play.scale(3);
    play.pass(None);
    play.until(RestoreStep::Ended);
    assert_eq!((reason(&play), play.data()), ("RolledBack", ORIGINALS.map(str::to_owned).to_vec()));
    assert_eq!(play.data_of("undo-replaced-0"), "point");
}
