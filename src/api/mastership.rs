//! The mastership: what must not change between the start and the end of a backup. Kept in status and manifest.

use super::StoreId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A host and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Host name or IPv4 address.
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What ZooKeeper reports about the master at one moment.
///
/// If two readings in one run are equal, the same member was master without interruption. Slaves that join or leave do
/// not change the token. A master that steps down and comes back does, because its znodes are recreated and
/// `master-rebound` is written.
///
/// An equal token proves nothing about the history of an *earlier* point; only a transaction proves that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MastershipToken {
    /// Member id (`ha.server_id`) of the master.
    pub member_id: i32,
    /// Host and backup port that the master publishes.
    pub endpoint: Endpoint,
    /// Creation zxid of `R/ha-servers/<id>`.
    pub server_created: i64,
    /// Creation zxid of `R/<id>_<seq>`, the master's election node.
    pub election_created: i64,
    /// Value of `R/master-rebound`.
    pub rebound: i32,
    /// Modification zxid of `R/master-rebound`.
    pub rebound_modified: i64,
    /// Modification zxid of `/C`, the cluster's store id.
    pub cluster_modified: i64,
    /// What an ensemble that starts afresh cannot repeat. Absent from tokens that earlier versions of the operator
    /// wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
}

/// The times and sessions of the znodes that a [`MastershipToken`] is made of.
///
/// Zxids start over when an ensemble loses its data, and the same cluster, started in the same order, then has the same
/// zxids. Times are those of the ensemble's leader, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incarnation {
    /// Creation time (ctime) of `R/ha-servers/<id>`.
    pub server_created_at: i64,
    /// Session that owns `R/ha-servers/<id>` (ephemeral owner).
    pub server_session: i64,
    /// Creation time of `R/<id>_<seq>`.
    pub election_created_at: i64,
    /// Session that owns `R/<id>_<seq>`.
    pub election_session: i64,
    /// Modification time (mtime) of `R/master-rebound`.
    pub rebound_modified_at: i64,
    /// Modification time of `/C`.
    pub cluster_modified_at: i64,
}

/// What the member itself reports on its backup port; the only reading that a `single://` source allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeMark {
    /// Host and backup port that was asked.
    pub endpoint: Endpoint,
    /// Identity of the store that the member serves.
    pub store_id: StoreId,
}

/// A reading of the mastership, taken right before and right after the tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mastership {
    /// From ZooKeeper (`ha://`).
    Master(MastershipToken),
    /// From the member (`single://`): whether the master changed cannot be observed.
    Probe(ProbeMark),
}

/// Whether the mastership changed between two readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Movement {
    /// Both readings are equal: one uninterrupted mastership.
    None,
    /// The readings differ. The text says how, for a message.
    Moved(String),
}

impl Mastership {
    /// Compares a later reading with this one.
    ///
    /// If one of the tokens has no incarnation, the tokens are compared without it.
    pub fn movement(&self, later: &Self) -> Movement {
        let equal = match (self, later) {
            (Self::Master(before), Self::Master(after)) => before.agrees_with(after),
            _ => self == later,
        };
        if equal {
            return Movement::None;
        }
        Movement::Moved(match (self, later) {
            (Self::Master(before), Self::Master(after)) => describe(before, after),
            (Self::Probe(before), Self::Probe(after)) if before.store_id != after.store_id => {
                format!("{} served store {} and now serves {}", before.endpoint, before.store_id, after.store_id)
            }
            (Self::Probe(before), Self::Probe(after)) => format!("asked {}, then {}", before.endpoint, after.endpoint),
            _ => "the two readings are of different kinds".to_owned(),
        })
    }

    /// Host and backup port of the member that was read.
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Master(token) => &token.endpoint,
            Self::Probe(mark) => &mark.endpoint,
        }
    }
}

impl MastershipToken {
    fn agrees_with(&self, later: &Self) -> bool {
        let comparable = self.incarnation.is_some() && later.incarnation.is_some();
        let part =
            |token: &Self| Self { incarnation: token.incarnation.clone().filter(|_| comparable), ..token.clone() };
        part(self) == part(later)
    }

    /// When `/C` was written: zxid and, if known, time.
    fn cluster_written(&self) -> (i64, Option<i64>) {
        (self.cluster_modified, self.incarnation.as_ref().map(|incarnation| incarnation.cluster_modified_at))
    }
}

fn describe(before: &MastershipToken, after: &MastershipToken) -> String {
    if before.cluster_written() != after.cluster_written() {
        return "the cluster's store id was rewritten".to_owned();
    }
    if before.member_id != after.member_id {
        return format!("member {} was master, member {} is now", before.member_id, after.member_id);
    }
    if before.endpoint != after.endpoint {
        return format!("member {} moved from {} to {}", before.member_id, before.endpoint, after.endpoint);
    }
    format!("member {} lost its registration or its mastership and took it back", before.member_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> MastershipToken {
        MastershipToken {
            member_id: 1,
            endpoint: Endpoint { host: "neo4j-0".into(), port: 6362 },
            server_created: 8,
            election_created: 9,
            rebound: 1,
            rebound_modified: 15,
            cluster_modified: 3,
            incarnation: Some(Incarnation {
                server_created_at: 1_795_500_000_080,
                server_session: 0x01a2_0246_0000_0001,
                election_created_at: 1_795_500_000_090,
                election_session: 0x01a2_0246_0000_0002,
                rebound_modified_at: 1_795_500_000_150,
                cluster_modified_at: 1_795_500_000_030,
            }),
        }
    }

    fn born(token: &mut MastershipToken) -> &mut Incarnation {
        token.incarnation.as_mut().unwrap()
    }

    #[test]
    fn every_part_of_the_token_changes_the_mastership() {
        let before = Mastership::Master(token());
        assert_eq!(before.movement(&before.clone()), Movement::None);
        let changes: [fn(&mut MastershipToken); 13] = [
            |t| t.member_id = 2,
            |t| t.endpoint.port = 1,
            |t| t.server_created = 100,
            |t| t.election_created = 100,
            |t| t.rebound = 2,
            |t| t.rebound_modified = 100,
            |t| t.cluster_modified = 100,
            |t| born(t).server_created_at += 1,
            |t| born(t).server_session += 1,
            |t| born(t).election_created_at += 1,
            |t| born(t).election_session += 1,
            |t| born(t).rebound_modified_at += 1,
            |t| born(t).cluster_modified_at += 1,
        ];
        for change in changes {
            let mut after = token();
            change(&mut after);
            assert!(matches!(before.movement(&Mastership::Master(after)), Movement::Moved(_)));
        }
    }

    #[test]
    fn a_token_of_before_there_were_incarnations_is_read_and_compared_by_what_it_has() {
        let mut written = serde_json::to_value(token()).unwrap();
        written.as_object_mut().unwrap().remove("incarnation");
        let old: MastershipToken = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(old, MastershipToken { incarnation: None, ..token() });
        assert_eq!(serde_json::to_value(&old).unwrap(), written);
        for (before, after) in [(old.clone(), token()), (token(), old.clone()), (old.clone(), old.clone())] {
            assert_eq!(Mastership::Master(before).movement(&Mastership::Master(after)), Movement::None);
        }
        let moved = MastershipToken { rebound_modified: 100, ..token() };
        assert!(matches!(Mastership::Master(old).movement(&Mastership::Master(moved)), Movement::Moved(_)));
    }

    #[test]
    fn a_fresh_ensemble_that_repeats_every_zxid_changes_the_mastership() {
        let mut fresh = token();
        born(&mut fresh).cluster_modified_at += 3_600_000;
        let Movement::Moved(text) = Mastership::Master(token()).movement(&Mastership::Master(fresh)) else {
            panic!("it moved")
        };
        assert_eq!(text, "the cluster's store id was rewritten");
    }

    #[test]
    fn a_move_says_who_was_master_and_who_is() {
        let after = MastershipToken { member_id: 2, ..token() };
        let Movement::Moved(text) = Mastership::Master(token()).movement(&Mastership::Master(after)) else {
            panic!("it moved")
        };
        assert_eq!(text, "member 1 was master, member 2 is now");
    }
}
