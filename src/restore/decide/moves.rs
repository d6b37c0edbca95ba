//! What the exchange of volumes says of one member, taken up into what a pass does.

use crate::api::{MemberRecord, Reason};
use crate::restore::step::{Action, Obstacle};
use crate::restore::swap::{Move, STRAYS_MAX};

/// Takes up what brings a member nearer to its layout; an error is what cannot be done.
pub(super) fn make(
    member: &mut MemberRecord,
    next: Move,
    actions: &mut Vec<Action>,
    waits: &mut Vec<Obstacle>,
) -> Result<(), Obstacle> {
    match next {
        Move::Done => {}
        Move::Make(action) => actions.push(action),
        Move::Wait(obstacle) => waits.push(obstacle),
        Move::Stray(volume) if member.strays.len() < STRAYS_MAX => {
            waits.push(Obstacle::new(
                Reason::Swapping,
                format!("volume {} came under claim {} meanwhile; it is put aside", volume.name, member.claim.name),
            ));
            member.strays.push(volume);
        }
        Move::Stray(volume) => {
            let (volume, claim) = (&volume.name, &member.claim.name);
            let message = format!("volume {volume} came under claim {claim}: somebody keeps scaling the StatefulSet");
            return Err(Obstacle::new(Reason::ClaimHeld, message));
        }
        Move::Lost(obstacle) => return Err(obstacle),
    }
    Ok(())
}
