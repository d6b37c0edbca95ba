//! An index whose name is not ASCII: the engine names a folder like it, in the letters of its locale.

use crate::support::{Backup, Copy, Database, claim, client, marker};
use serde_json::json;

const CLAIM: &str = "index";
const NAME: &str = "Bücher";
const NAME_IN_URL: &str = "B%C3%BCcher";

#[tokio::test]
async fn an_index_whose_name_is_not_ascii_is_found_in_the_copy() {
    let client = client().await;
    let database = Database::ready(&client).await;
    claim(&client, CLAIM, "1Gi").await;
    let title = marker("faust");
    database.index(NAME_IN_URL, &title, 3).await;

    // The image sets no locale, and neither does the object.
    let backup = Backup::create(&client, "index", CLAIM, json!({})).await;
    let status = backup.succeeded().await;
    let copy = Copy { claim: CLAIM, directory: status.directory.as_deref().unwrap() };
    let folder = format!("{}/store/index/lucene/node/{NAME}", copy.directory);
    let listing = copy.listing(&client).await;
    assert!(listing.contains(&folder), "{listing}");
    let open = format!(
        "cp -r /backups/{}/store /tmp/store && LC_ALL=C.UTF-8 neo4j-count-nodes /tmp/store {NAME} title {title}",
        copy.directory
    );
    let said = copy.run(&client, &open).await;
    assert!(said.lines().last().unwrap_or_default().contains("\"hits\":3,"), "{said}");
    backup.delete().await;
}
