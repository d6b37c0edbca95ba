//! A target volume that is really full: each volume of the test cluster is a file system of its claim's size.

use crate::support::{Backup, Copy, Database, claim, client};
use serde_json::json;

/// Leaves two MiB.
const FILL: &str = "dd if=/dev/zero of=/backups/ballast bs=1M count=2 2>/dev/null && sync && \
    { dd if=/dev/zero of=/backups/filler bs=64k 2>/dev/null || true; } && sync && rm /backups/ballast && sync && \
    df -k /backups | tail -1 | awk '{print $(NF-2)}'";

#[tokio::test]
async fn a_volume_that_fills_up_in_mid_copy_fails_typed_and_is_tidied_up() {
    let client = client().await;
    Database::ready(&client).await;
    claim(&client, "whole", "1Gi").await;
    claim(&client, "full", "300Mi").await;
    let measured = Backup::create(&client, "measured", "whole", json!({})).await;
    let needed = measured.succeeded().await.point.unwrap().bytes / 1024;
    measured.delete().await;
    let volume = Copy { claim: "full", directory: "" };
    let free: i64 = volume.change(&client, FILL).await.trim().parse().unwrap();
    assert!(free > 512 && free < needed, "{free} KiB free, {needed} KiB needed: the copy would not end in the middle");

    let backup = Backup::create(&client, "full", "full", json!({"retry": {"limit": 3}})).await;
    let status = backup.failed("TargetFull", &["free space", "larger"]).await;
    assert_eq!(status.attempts.len(), 1, "running again cannot help");
    let listing = volume.listing(&client).await;
    assert!(!listing.contains(".partial-") && !listing.contains("manifest.json"), "{listing}");

    volume.change(&client, "rm /backups/filler").await;
    let again = Backup::create(&client, "full-no-more", "full", json!({})).await;
    again.succeeded().await;
    for backup in [backup, again] {
        backup.delete().await;
    }
}
