use super::*;
use crate::api::{Endpoint, Movement, Reason};
use futures::future::BoxFuture;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

const R: &str = "/1795334483295_-3368555925325939961";
const STORE_ID: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };

type Tree = BTreeMap<String, Znode>;
/// A change of the tree right before a question is answered, given the question's number from 0 and its path.
type Script = Box<dyn Fn(usize, &str, &mut Tree) -> Result<(), EnsembleError> + Send + Sync>;

/// An ensemble in memory that changes while it is asked.
struct Scripted {
    tree: Mutex<Tree>,
    asked: AtomicUsize,
    script: Script,
}

impl Scripted {
    fn answer<T>(&self, path: &str, read: impl FnOnce(&Tree) -> T) -> Result<T, EnsembleError> {
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        (self.script)(self.asked.fetch_add(1, Ordering::Relaxed), path, &mut tree)?;
        Ok(read(&tree))
    }
}

impl Ensemble for Scripted {
    fn sync(&self) -> BoxFuture<'_, Result<(), EnsembleError>> {
        Box::pin(async { self.answer("sync", |_| ()) })
    }

    fn znode<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Znode>, EnsembleError>> {
        Box::pin(async move { self.answer(path, |tree| tree.get(path).cloned()) })
    }

    fn children<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Vec<String>>, EnsembleError>> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        Box::pin(async move {
            self.answer(path, |tree| {
                let names = tree.keys().filter_map(|key| key.strip_prefix(&prefix)).filter(|name| !name.contains('/'));
                (path == "/" || tree.contains_key(path)).then(|| names.map(str::to_owned).collect())
            })
        })
    }
}

fn put(tree: &mut Tree, path: &str, data: impl AsRef<[u8]>, zxid: i64) {
    let (created_at, session) = (time(zxid), 7_000 + zxid);
    let znode = Znode {
        data: data.as_ref().to_vec(),
        created: zxid,
        modified: zxid,
        created_at,
        modified_at: created_at,
        session,
    };
    tree.insert(path.to_owned(), znode);
}

/// When a transaction of ZooKeeper was: ten milliseconds lie between two.
fn time(zxid: i64) -> i64 {
    1_795_500_000_000 + 10 * zxid
}

fn pointer(store_id: StoreId) -> Vec<u8> {
    [store_id.creation_time.to_be_bytes(), store_id.random_id.to_be_bytes(), 0x0030_2e41_2e30_7606_i64.to_be_bytes()]
        .concat()
}

fn server(address: &str) -> Vec<u8> {
    let mut bytes = vec![0, 0, 24, 218, u8::try_from(address.len()).unwrap()];
    bytes.extend(address.encode_utf16().flat_map(u16::to_be_bytes));
    bytes.extend([0; 95]);
    bytes
}

fn register(tree: &mut Tree, id: i32, zxid: i64) {
    put(tree, &format!("{R}/ha-servers/{id}"), server(&format!("neo4j-{id}:6361")), zxid);
    let idle = [&(-2_i64).to_be_bytes()[..], &(-2_i32).to_be_bytes()].concat();
    put(tree, &format!("{R}/{id}_{zxid:010}"), idle, zxid + 1);
}

/// Three members of 1.8, the first of them master.
fn cluster() -> Tree {
    let mut tree = Tree::new();
    put(&mut tree, "/zookeeper", "", 0);
    put(&mut tree, "/neo4j.ha", pointer(STORE_ID), 3);
    for name in ["", "/ha-servers", "/compatibility-1.8"] {
        put(&mut tree, &format!("{R}{name}"), "", 4);
    }
    put(&mut tree, &format!("{R}/flush-requested"), (-6_i32).to_be_bytes(), 99);
    register(&mut tree, 1, 8);
    register(&mut tree, 2, 20);
    register(&mut tree, 3, 30);
    put(&mut tree, &format!("{R}/master-rebound"), 1_i32.to_be_bytes(), 15);
    put(&mut tree, &format!("{R}/master-notify"), 1_i32.to_be_bytes(), 37);
    tree
}

/// The token of [`cluster`].
fn token() -> MastershipToken {
    token_of(8, 9, 15)
}

/// The token of member 1 by the zxids of its registration, its election node and its declaration.
fn token_of(server: i64, election: i64, rebound: i64) -> MastershipToken {
    MastershipToken {
        member_id: 1,
        endpoint: Endpoint { host: "neo4j-1".into(), port: 6362 },
        server_created: server,
        election_created: election,
        rebound: 1,
        rebound_modified: rebound,
        cluster_modified: 3,
        incarnation: Some(Incarnation {
            server_created_at: time(server),
            server_session: 7_000 + server,
            election_created_at: time(election),
            election_session: 7_000 + election,
            rebound_modified_at: time(rebound),
            cluster_modified_at: time(3),
        }),
    }
}

async fn ask_while(tree: Tree, name: Option<&str>, script: Script) -> Result<Located, DiscoveryError> {
    let ensemble = Scripted { tree: Mutex::new(tree), asked: AtomicUsize::new(0), script };
    master(&ensemble, "zk-0:2181,zk-1:2181", name).await
}

async fn ask(tree: Tree, name: Option<&str>) -> Result<Located, DiscoveryError> {
    ask_while(tree, name, Box::new(|_, _, _| Ok(()))).await
}

#[allow(clippy::unnecessary_wraps, reason = "compared with what a look-up gives")]
fn found(token: MastershipToken) -> Result<Located, DiscoveryError> {
    Ok(Located { store_id: STORE_ID, mastership: Mastership::Master(token) })
}

/// The reason that a tree gives after a change, and that the message has every word of `words`.
async fn reason(name: Option<&str>, change: impl FnOnce(&mut Tree), words: &[&str]) -> Reason {
    let mut tree = cluster();
    change(&mut tree);
    let error = ask(tree, name).await.unwrap_err();
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
    error.reason()
}

#[tokio::test]
async fn the_master_and_its_token() {
    assert_eq!(ask(cluster(), None).await, found(token()));
    assert_eq!(ask(cluster(), Some("neo4j.ha")).await, found(token()));
}

#[tokio::test]
async fn slaves_and_flushes_do_not_move_the_token() {
    let mut tree = cluster();
    tree.retain(|path, _| !path.contains("/3"));
    register(&mut tree, 4, 120);
    put(&mut tree, &format!("{R}/flush-requested"), (-1_i32).to_be_bytes(), 130);
    tree.entry(format!("{R}/1_0000000008")).and_modify(|znode| {
        znode.data = [&7_i64.to_be_bytes()[..], &1_i32.to_be_bytes()].concat();
        znode.modified = 131;
        znode.modified_at = time(131);
    });
    put(&mut tree, &format!("{R}/master-notify"), 1_i32.to_be_bytes(), 132);
    assert_eq!(ask(tree, None).await, found(token()));
}

#[tokio::test]
async fn the_newest_election_node_of_the_master_counts() {
    let mut tree = cluster();
    let data = tree[&format!("{R}/1_0000000008")].data.clone();
    put(&mut tree, &format!("{R}/1_0000000110"), data, 140);
    assert_eq!(ask(tree, None).await, found(token_of(8, 140, 15)));
}

#[tokio::test]
async fn an_unknown_cluster_is_not_replaced_by_one_that_is_there() {
    assert_eq!(
        reason(Some("neo4j.h"), |_| (), &["\"neo4j.h\"", "\"neo4j.ha\"", "zk-0:2181"]).await,
        Reason::ClusterUnknown
    );
    let rename = |tree: &mut Tree| {
        let data = tree.remove("/neo4j.ha").unwrap().data;
        put(tree, "/prod", data, 3);
    };
    assert_eq!(reason(None, rename, &["\"neo4j.ha\"", "they know \"prod\""]).await, Reason::ClusterUnknown);
    assert_eq!(reason(None, Tree::clear, &["none was found"]).await, Reason::ClusterUnknown);
}

#[tokio::test]
async fn a_cluster_without_a_master() {
    let without = |part: &'static str| move |tree: &mut Tree| tree.retain(|path, _| !path.contains(part));
    assert_eq!(reason(None, without("_-33"), &["has ever registered"]).await, Reason::NoMaster);
    let undeclared = format!("{R}/master-rebound, in which the master names itself, is missing");
    assert_eq!(reason(None, without("rebound"), &[&undeclared]).await, Reason::NoMaster);
    let nobody = |tree: &mut Tree| put(tree, &format!("{R}/master-rebound"), (-1_i32).to_be_bytes(), 5);
    assert_eq!(reason(None, nobody, &["become master yet"]).await, Reason::NoMaster);
    let dead = |tree: &mut Tree| tree.retain(|path, _| !path.contains("/1_") && !path.ends_with("ha-servers/1"));
    assert_eq!(reason(None, dead, &["member 1", "not registered"]).await, Reason::NoMaster);
}

#[tokio::test]
async fn an_election_that_runs() {
    let joining = |tree: &mut Tree| tree.retain(|path, _| !path.contains("/1_"));
    assert_eq!(reason(None, joining, &["member 1 is registered"]).await, Reason::ElectionRunning);
    let other = |tree: &mut Tree| put(tree, &format!("{R}/master-notify"), 2_i32.to_be_bytes(), 37);
    assert_eq!(reason(None, other, &["member 1", "found 2"]).await, Reason::ElectionRunning);
}

#[tokio::test]
async fn a_note_about_a_dead_member_or_from_before_says_nothing() {
    let mut tree = cluster();
    put(&mut tree, &format!("{R}/master-notify"), 9_i32.to_be_bytes(), 37);
    assert_eq!(ask(tree, None).await, found(token()), "9 is not registered");
    let mut tree = cluster();
    put(&mut tree, &format!("{R}/master-notify"), 2_i32.to_be_bytes(), 14);
    assert_eq!(ask(tree, None).await, found(token()), "1 took over after the note about 2");
    let mut tree = cluster();
    tree.remove(&format!("{R}/master-notify"));
    assert_eq!(ask(tree, None).await, found(token()));
}

#[tokio::test]
async fn a_master_without_a_usable_address() {
    for address in ["", ":6361", "[::1]:6361", "neo4j_1:6361"] {
        let change = |tree: &mut Tree| put(tree, &format!("{R}/ha-servers/1"), server(address), 8);
        let words = ["ha-servers/1", address, "set its ha.server"];
        assert_eq!(reason(None, change, &words).await, Reason::MemberWithoutAddress);
    }
}

#[tokio::test]
async fn a_master_that_lost_its_registration_is_to_be_restarted_and_not_to_be_configured() {
    let mut tree = cluster();
    tree.retain(|path, _| !path.ends_with("ha-servers/1"));
    let error = ask(tree, None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::MemberWithoutAddress);
    let message = error.to_string();
    for words in ["member 1", "/1_0000000008", "ha-servers/1 is missing", "ZooKeeper was unavailable", "restart"] {
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
    assert!(!message.contains("ha.server "), "{message}");
}

#[tokio::test]
async fn a_fresh_ensemble_that_repeats_every_zxid_has_another_token() {
    let mut tree = cluster();
    for znode in tree.values_mut() {
        znode.created_at += 86_400_000;
        znode.modified_at += 86_400_000;
        znode.session += 1;
    }
    let Mastership::Master(fresh) = ask(tree, None).await.unwrap().mastership else { panic!("it is a token") };
    assert_eq!(MastershipToken { incarnation: token().incarnation, ..fresh.clone() }, token());
    assert!(matches!(Mastership::Master(token()).movement(&Mastership::Master(fresh)), Movement::Moved(_)));
}

#[tokio::test]
async fn garbage_in_any_znode_is_named() {
    for path in [
        "/neo4j.ha",
        &format!("{R}/master-rebound"),
        &format!("{R}/master-notify"),
        &format!("{R}/ha-servers/1"),
        &format!("{R}/1_0000000008"),
    ] {
        let change = |tree: &mut Tree| tree.get_mut(path).unwrap().data = b"garbage".to_vec();
        assert_eq!(reason(None, change, &[path, "7 bytes"]).await, Reason::ZnodeUnreadable);
    }
    // Other members' znodes are not read: what they hold cannot stop a backup.
    let mut tree = cluster();
    tree.get_mut(&format!("{R}/ha-servers/2")).unwrap().data.clear();
    put(&mut tree, &format!("{R}/my_znode"), "", 1);
    assert_eq!(ask(tree, None).await, found(token()));
}

/// What 1.3 leaves: a store id of 16 bytes, election data of 8.
fn of_1_3(name: &str) -> Tree {
    let mut tree = cluster();
    let mut data = tree.remove("/neo4j.ha").unwrap().data;
    data.truncate(16);
    put(&mut tree, name, data, 3);
    tree.get_mut(&format!("{R}/1_0000000008")).unwrap().data.truncate(8);
    tree.get_mut(&format!("{R}/1_0000000008")).unwrap().data.copy_from_slice(&5_i64.to_be_bytes());
    tree
}

#[tokio::test]
async fn the_only_cluster_of_an_old_ensemble_needs_no_name() {
    assert_eq!(ask(of_1_3("/neo4j.ha"), None).await, found(token()));
    assert_eq!(ask(of_1_3("/other"), Some("other")).await, found(token()));
    assert_eq!(ask(of_1_3("/my_cluster"), None).await, found(token()));
    let error = ask(of_1_3("/other"), Some("another")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ClusterUnknown);
    assert!(error.to_string().contains("\"other\""), "{error}");
}

#[tokio::test]
async fn a_root_that_nothing_leads_to_is_not_taken() {
    let mut tree = of_1_3("/other");
    tree.remove("/other");
    assert_eq!(ask(tree, None).await.unwrap_err().reason(), Reason::ClusterUnknown);
}

#[tokio::test]
async fn two_roots_in_an_old_ensemble() {
    for (name, asked) in [("/neo4j.ha", None), ("/other", Some("other")), ("/other", None)] {
        let mut tree = of_1_3(name);
        put(&mut tree, "/1_2", "", 50);
        let error = ask(tree, asked).await.unwrap_err();
        assert_eq!(error.reason(), Reason::MultipleRoots, "{error}");
        assert!(error.to_string().contains(&format!("{R}, /1_2")), "{error}");
    }
    // Other software's znode with an underscore is no root.
    let mut tree = of_1_3("/neo4j.ha");
    put(&mut tree, "/my_queue", "", 50);
    assert_eq!(ask(tree, None).await, found(token()));
    // From 1.5.1 on an ensemble may hold several clusters.
    let mut tree = cluster();
    put(&mut tree, "/1_2", "", 50);
    assert_eq!(ask(tree, None).await, found(token()));
}

/// The master steps down and returns: registration, election node and declaration are new.
fn return_of_1(tree: &mut Tree) {
    tree.retain(|path, _| !path.contains("/1_"));
    register(tree, 1, 190);
    put(tree, &format!("{R}/master-rebound"), 1_i32.to_be_bytes(), 196);
}

#[tokio::test]
async fn a_change_between_any_two_questions_gives_the_old_or_the_new_token_never_a_mixture() {
    let new = token_of(190, 191, 196);
    for at in 0..12 {
        let script = move |asked, _: &str, tree: &mut Tree| {
            if asked == at {
                return_of_1(tree);
            }
            Ok(())
        };
        let answer = ask_while(cluster(), None, Box::new(script)).await;
        assert!(answer == found(token()) || answer == found(new.clone()), "changed at question {at}: {answer:?}");
        if at == 1 {
            assert_eq!(answer, found(new.clone()));
        }
    }
}

#[tokio::test]
async fn a_master_that_never_settles_is_an_election() {
    let script = |asked: usize, path: &str, tree: &mut Tree| {
        if path.ends_with("rebound") {
            put(tree, path, 1_i32.to_be_bytes(), 200 + i64::try_from(asked).unwrap());
        }
        Ok(())
    };
    let error = ask_while(cluster(), None, Box::new(script)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ElectionRunning);
    assert!(error.to_string().contains("changed while it was read"), "{error}");
}

#[tokio::test]
async fn a_lost_session_at_any_question_is_an_ensemble_that_is_unavailable() {
    for at in 0..10 {
        let script = move |asked, _: &str, _: &mut Tree| match asked {
            asked if asked == at => Err(EnsembleError::Unavailable("reading /x: connection to server has lost".into())),
            _ => Ok(()),
        };
        let error = ask_while(cluster(), None, Box::new(script)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::EnsembleUnavailable, "lost at question {at}");
    }
}

#[tokio::test]
async fn a_znode_that_may_not_be_read_is_named() {
    let script = |_, path: &str, _: &mut Tree| match path {
        "/neo4j.ha" => Err(EnsembleError::Refused { path: path.to_owned(), detail: "not authorized".to_owned() }),
        _ => Ok(()),
    };
    let error = ask_while(cluster(), None, Box::new(script)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ZnodeUnreadable);
    assert!(error.to_string().contains("/neo4j.ha may not be read: not authorized"), "{error}");
}

#[tokio::test]
async fn a_znode_that_is_too_large_is_named_unless_it_is_somebody_else_s() {
    let of = |large: &'static str| -> Script {
        Box::new(move |_, path, _| {
            let error = EnsembleError::Oversized { path: path.to_owned(), detail: "it holds 70000 bytes".to_owned() };
            if path == large { Err(error) } else { Ok(()) }
        })
    };
    let error = ask_while(cluster(), None, of("/neo4j.ha")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ZnodeUnreadable);
    assert!(error.to_string().contains("znode /neo4j.ha is not read: it holds 70000 bytes"), "{error}");
    let mut tree = cluster();
    put(&mut tree, "/another-service", "", 1);
    let error = ask_while(tree, Some("orders"), of("/another-service")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ClusterUnknown);
    assert!(error.to_string().contains("they know \"neo4j.ha\""), "{error}");
}

#[tokio::test]
async fn the_registered_members_are_told_with_what_they_publish() {
    let listed = async |change: fn(&mut Tree)| {
        let mut tree = cluster();
        change(&mut tree);
        let ensemble =
            Scripted { tree: Mutex::new(tree), asked: AtomicUsize::new(0), script: Box::new(|_, _, _| Ok(())) };
        members(&ensemble, "zk-0:2181", None).await
    };
    let registered = |id: i32| {
        let endpoint = Endpoint { host: format!("neo4j-{id}"), port: 6362 };
        Registered { id, endpoint: Some(endpoint) }
    };
    let jmx = |tree: &mut Tree| put(tree, &format!("{R}/ha-servers/1-jmx"), "", 9);
    assert_eq!(listed(jmx).await, Ok(vec![registered(1), registered(2), registered(3)]));
    let gone = |tree: &mut Tree| drop(tree.remove(&format!("{R}/ha-servers/3")));
    assert_eq!(listed(gone).await, Ok(vec![registered(1), registered(2)]));
    let nameless = |tree: &mut Tree| put(tree, &format!("{R}/ha-servers/2"), server("neo4j_2:6361"), 20);
    assert_eq!(listed(nameless).await.unwrap()[1], Registered { id: 2, endpoint: None });
    let garbage = |tree: &mut Tree| put(tree, &format!("{R}/ha-servers/2"), "x", 20);
    assert_eq!(listed(garbage).await.unwrap_err().reason(), Reason::ZnodeUnreadable);
    let unknown = |tree: &mut Tree| drop(tree.remove("/neo4j.ha"));
    assert_eq!(listed(unknown).await.unwrap_err().reason(), Reason::ClusterUnknown);
}
