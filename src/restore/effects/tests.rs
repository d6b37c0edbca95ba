//! Every list of effects records before it changes.

use super::*;
use crate::api::RestoreStep;
use crate::restore::testing::Play;

/// Effects that change something which no later pass can take back by itself.
fn changes<R>(effect: &Effect<R>) -> bool {
    matches!(
        effect,
        Effect::CreateClaim { .. }
            | Effect::DeleteClaim { .. }
            | Effect::ChangeVolume { .. }
            | Effect::Scale { .. }
            | Effect::DeletePod { .. }
            | Effect::CreateJob { .. }
            | Effect::DeleteJob(_)
    )
}

#[test]
fn every_change_follows_its_recorded_intent() {
    let mut play = Play::new();
    let owner = play.valid().owner;
    let mut seen = 0;
    for _ in 0..200 {
        let before = play.status.clone();
        let decision = play.pass(None);
        let settings = Settings { owner: &owner, resource_version: "1", instance: "operator", now: play.now };
        let effects = effects(&decision, Some(&before), settings).unwrap();
        let first = effects.iter().position(changes);
        let record =
            effects.iter().position(|effect| matches!(effect, Effect::RecordStatus(_) | Effect::RequireUnchanged));
        if let Some(first) = first {
            seen += 1;
            assert!(record.is_some_and(|record| record < first), "{effects:?}");
        }
        if decision.status.step == RestoreStep::Ended {
            break;
        }
    }
    assert!(seen > 15, "{seen}");
}
