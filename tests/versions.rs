//! What earlier versions wrote, as a real cluster gave it: this version reads all of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it wants in the fewest words")]

use graph_backup_operator::api::GraphBackup;
use graph_backup_operator::backup::known::Known;
use graph_backup_operator::contract::verdict::Verdict;
use graph_backup_operator::controller::store::Kept;
use serde_json::Value;

/// Objects, by the version that wrote their status.
const OBJECTS: [(&str, &str); 1] = [("0.1.0", include_str!("recorded/object/0.1.0.json"))];
/// Termination messages, by the version of the agent.
const VERDICTS: [(&str, &str); 1] = [("0.1.0", include_str!("recorded/verdict/0.1.0.json"))];

#[test]
fn the_status_of_every_version_is_read_whole_and_its_point_can_be_a_parent() {
    for (version, text) in OBJECTS {
        let object: GraphBackup = serde_json::from_str(text).unwrap();
        let written: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&object.status).unwrap(), written["status"], "{version}");
        let known = Known::keep(object);
        assert!(known.is_settled(), "{version}");
        let (over, point) = known.point().unwrap();
        assert!(point.as_parent(&over.name).is_some(), "{version}");
    }
}

#[test]
fn the_verdict_of_every_version_is_read_whole() {
    for (version, text) in VERDICTS {
        let written: Value = serde_json::from_str(text).unwrap();
        let verdict = Verdict::read(&written.to_string()).unwrap();
        assert!(matches!(verdict, Verdict::Published(_)), "{version}");
        assert_eq!(serde_json::to_value(&verdict).unwrap(), written, "{version}");
    }
}
