//! A target volume that is really full: each volume of the test cluster is a file system of its claim's size.

use crate::lost::wait_for_log;
use crate::support::{Backup, Copy, Database, claim, client, marker};
use kube::Client;
use serde_json::json;

const MIB: u64 = 1 << 20;
/// Written to the database before, so that its store cannot be smaller.
const STORE_MIN: u64 = 8 * MIB;
/// Left free on the volume: some of the store's files fit.
const LEFT_FREE: u64 = 4 * MIB;

const VOLUME: Copy = Copy { claim: "full", directory: "" };

/// Fills the volume; gives the bytes that are left free.
async fn fill(client: &Client) -> u64 {
    let script = format!(
        "free() {{ echo $(($(stat -f -c '%a * %S' /backups))); }}
         fallocate -l $(($(free) - {LEFT_FREE})) /backups/filler && free"
    );
    VOLUME.change(client, &script).await.trim().parse().unwrap()
}

async fn make_room(client: &Client) {
    VOLUME.change(client, "rm /backups/filler").await;
}

#[tokio::test]
async fn a_volume_that_fills_up_in_mid_copy_keeps_nothing_of_it_and_serves_again_when_there_is_room() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, "full", "300Mi").await;
    VOLUME.change(&client, "rm -rf /backups/*").await;
    let written = marker("full");
    database.write(&written, STORE_MIN / MIB, MIB).await;
    let free = fill(&client).await;
    assert!((1..STORE_MIN).contains(&free), "{free} bytes were left free");

    let backup = Backup::create(&client, "no-room", "full", json!({"retry": {"limit": 3}})).await;
    // What the tool itself ran into, and what to do.
    let tells = ["java.io.IOException: No space left on device", "free space on the target claim", "make it larger"];
    let status = backup.failed("TargetFull", &tells).await;
    assert_eq!(status.attempts.len(), 1, "running again cannot help");
    // A dot of the tool is a file that it has copied.
    wait_for_log(&client, &status.attempts[0].job, r#""line":".."#).await;
    let listing = VOLUME.listing(&client).await;
    let left: Vec<_> = listing.lines().filter(|path| path.contains(&backup.name) || path.contains("store")).collect();
    assert!(left.is_empty() && !listing.contains(".partial-"), "{listing}");
    backup.delete().await;

    make_room(&client).await;
    let backup = Backup::create(&client, "room-again", "full", json!({})).await;
    let status = backup.succeeded().await;
    let bytes = u64::try_from(status.point.as_ref().unwrap().bytes).unwrap();
    assert!(bytes > free, "the store of {bytes} bytes had room in {free}: the test proves nothing");
    let copy = Copy { directory: status.directory.as_deref().unwrap(), ..VOLUME };
    assert_eq!(copy.count(&client, &written).await, STORE_MIN / MIB);
    backup.delete().await;

    // Now it is known how much a copy needs: the tool is not even started.
    fill(&client).await;
    let backup = Backup::create(&client, "no-room-again", "full", json!({})).await;
    backup.failed("TargetFull", &["nothing was copied", "room-again", "free space on the target claim"]).await;
    backup.delete().await;
    make_room(&client).await;
}
