use super::*;
use proptest::prelude::*;

const ID: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };
const STORE_VERSION: i64 = 0x0030_2e41_2e30_7606;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn server(port: i32, address: &str, padding: usize) -> Vec<u8> {
    let mut bytes = port.to_be_bytes().to_vec();
    bytes.extend(server_1_2(address, padding));
    bytes
}

fn server_1_2(address: &str, padding: usize) -> Vec<u8> {
    let units: Vec<u16> = address.encode_utf16().collect();
    let mut bytes = vec![u8::try_from(units.len()).unwrap()];
    bytes.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
    bytes.extend(vec![0; padding]);
    bytes
}

fn problem<T: std::fmt::Debug>(result: Result<T, ZnodeError>) -> Problem {
    result.unwrap_err().problem
}

#[test]
fn the_znodes_of_three_real_members() {
    let bytes = hex("000001a202462d5f d1407c3bb8e8fb07 00302e412e307606");
    assert_eq!(pointer("/neo4j.ha", &bytes), Ok(Pointer { store_id: ID, store_version: Some(STORE_VERSION) }));
    assert_eq!(root_name("1795334483295_-3368555925325939961"), Some(ID));

    let mut bytes = hex("000018d9 0e 003100320037002e0030002e0030002e0031003a0036003000300031");
    bytes.extend([0; 95]);
    assert_eq!(bytes.len(), 128);
    let read = member("/R/ha-servers/1", &bytes).unwrap();
    assert_eq!(read, Member { address: "127.0.0.1:6001".into(), backup_port: Some(6361) });
    assert_eq!(read.endpoint(), Some(Endpoint { host: "127.0.0.1".into(), port: 6361 }));

    assert_eq!(published("/R/1_0000000002", &hex("fffffffffffffffe fffffffe")), Ok(Published::Idle));
    let committed = Published::Committed { transaction: 3, master: Some(1) };
    assert_eq!(published("/R/3_0000000011", &hex("0000000000000003 00000001")), Ok(committed));
    assert_eq!(member_id("/R/flush-requested", &hex("fffffffa")), Ok(-6));
    assert_eq!(member_id("/R/master-notify", &hex("ffffffff")), Ok(-1));
    assert_eq!(member_id("/R/master-rebound", &hex("00000001")), Ok(1));
    assert_eq!(election_name("1_0000000002"), Some((1, 2)));
    for other in
        ["ha-servers", "master-notify", "master-rebound", "flush-requested", "compatibility-1.8", "1_", "_2", ""]
    {
        assert_eq!(election_name(other), None, "{other}");
    }
}

#[test]
fn older_layouts() {
    let bytes = hex("000001a202462d5f d1407c3bb8e8fb07");
    assert_eq!(pointer("/neo4j.ha", &bytes), Ok(Pointer { store_id: ID, store_version: None }));
    let committed = Published::Committed { transaction: 3, master: None };
    assert_eq!(published("/R/1_0000000002", &hex("0000000000000003")), Ok(committed));
    let read = member("/R/ha-servers/1", &server_1_2("neo4j-0:6361", 19)).unwrap();
    assert_eq!(read, Member { address: "neo4j-0:6361".into(), backup_port: None });
    assert_eq!(read.endpoint(), Some(Endpoint { host: "neo4j-0".into(), port: 6362 }));
}

#[test]
fn special_values_of_the_election() {
    let of = |transaction: i64, master: i32| {
        let mut bytes = transaction.to_be_bytes().to_vec();
        bytes.extend(master.to_be_bytes());
        published("/R/1_2", &bytes)
    };
    assert_eq!(of(-1, -1), Ok(Published::NotEligible));
    assert_eq!(of(0, -1), Ok(Published::Compatibility));
    assert_eq!(of(1, -1), Ok(Published::Committed { transaction: 1, master: None }));
    for (transaction, master) in [(-3, 1), (-2, 1), (5, -2)] {
        assert_eq!(problem(of(transaction, master)), Problem::Transaction { transaction, master });
    }
}

#[test]
fn a_disabled_backup_port_means_the_default_and_hand_made_znodes_lack_the_padding() {
    let read = member("/R/ha-servers/1", &server(0, "db.example:6361", 0)).unwrap();
    assert_eq!(read.backup_port, Some(0));
    assert_eq!(read.endpoint(), Some(Endpoint { host: "db.example".into(), port: 6362 }));
}

#[test]
fn addresses_that_no_backup_could_use() {
    for address in ["", ":6361", "[::1]:6361", "my_host:6361", "a b:6361", "-a:1"] {
        assert_eq!(member("/R/ha-servers/1", &server(6362, address, 95)).unwrap().endpoint(), None, "{address:?}");
    }
}

#[test]
fn garbage_is_refused_by_name() {
    let error = pointer("/neo4j.ha", b"hello").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the 5 bytes of znode /neo4j.ha are not the store id of a cluster: that has 16 or 24 bytes"
    );
    assert_eq!(problem(pointer("/C", &[0xff; 24])), Problem::StoreVersion(-1));
    assert_eq!(problem(pointer("/C", &[0; 24])), Problem::StoreVersion(0));
    assert_eq!(problem(member_id("/R/master-rebound", &[0; 5])), Problem::Length("4"));
    assert_eq!(problem(published("/R/1_2", &[])), Problem::Length("8 or 12"));
    assert_eq!(problem(member("/R/ha-servers/1", &[])), Problem::Length("5 and more"));
    assert_eq!(problem(member("/R/ha-servers/1", &[0, 0, 24])), Problem::Length("5 and more"));
    assert_eq!(problem(member("/R/ha-servers/1", b"garbage that is text")), Problem::Port(0x6761_7262));
    assert_eq!(problem(member("/R/ha-servers/1", &[0, 1, 0, 0, 0])), Problem::Port(65_536));
    assert_eq!(problem(member("/R/ha-servers/1", &[0, 0, 24, 217, 0x80])), Problem::TextLength(-128));
    let lone = [0, 0, 24, 217, 1, 0xd8, 0];
    assert_eq!(problem(member("/R/ha-servers/1", &lone)), Problem::Utf16);
}

#[test]
fn every_truncation_is_refused() {
    let whole = server(6362, "127.0.0.1:6001", 0);
    for length in 0..whole.len() {
        member("/R/ha-servers/1", &whole[..length]).unwrap_err();
    }
    let whole = hex("000001a202462d5f d1407c3bb8e8fb07 00302e412e307606");
    for length in (0..whole.len()).filter(|length| *length != 16) {
        pointer("/C", &whole[..length]).unwrap_err();
    }
}

#[test]
fn only_names_as_the_database_writes_them_are_roots() {
    assert_eq!(root_name("1_2"), Some(StoreId { creation_time: 1, random_id: 2 }));
    for other in ["zookeeper", "neo4j.ha", "my_cluster", "01_2", "+1_2", "1_2_3", "1_", "_"] {
        assert_eq!(root_name(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (pointer("/", &bytes), published("/", &bytes), member("/", &bytes), member_id("/", &bytes));
    }

    #[test]
    fn no_port_prefix_makes_the_member_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = member("/", &[&[0, 0], &bytes[..]].concat()).map(|member| member.endpoint());
    }

    #[test]
    fn no_text_makes_a_name_parser_panic(name in "\\PC*") {
        let _ = (election_name(&name), root_name(&name));
    }

    #[test]
    fn store_ids_round_trip(creation_time: i64, random_id: i64) {
        let store_id = StoreId { creation_time, random_id };
        let mut bytes = [creation_time.to_be_bytes(), random_id.to_be_bytes()].concat();
        prop_assert_eq!(pointer("/C", &bytes), Ok(Pointer { store_id, store_version: None }));
        bytes.extend(STORE_VERSION.to_be_bytes());
        prop_assert_eq!(pointer("/C", &bytes), Ok(Pointer { store_id, store_version: Some(STORE_VERSION) }));
        prop_assert_eq!(root_name(store_id.root_path().trim_start_matches('/')), Some(store_id));
    }

    #[test]
    fn transactions_round_trip(transaction in 1i64.., master in 0i32..) {
        let bytes = [&transaction.to_be_bytes()[..], &master.to_be_bytes()].concat();
        let read = published("/R/1_2", &bytes);
        prop_assert_eq!(read, Ok(Published::Committed { transaction, master: Some(master) }));
    }

    #[test]
    fn members_round_trip(port: u16, address in "\\PC{0,60}", padding in 0usize..100) {
        let read = member("/R/ha-servers/1", &server(i32::from(port), &address, padding));
        prop_assert_eq!(read, Ok(Member { address, backup_port: Some(port) }));
    }

    #[test]
    fn members_of_1_2_round_trip(address in "\\PC{1,60}", padded: bool) {
        let read = member("/R/ha-servers/1", &server_1_2(&address, if padded { 19 } else { 0 }));
        prop_assert_eq!(read, Ok(Member { address, backup_port: None }));
    }

    #[test]
    fn ids_round_trip(id: i32, sequence in 0i32..) {
        prop_assert_eq!(member_id("/R/master-rebound", &id.to_be_bytes()), Ok(id));
        prop_assert_eq!(election_name(&format!("{id}_{sequence:010}")), Some((id, sequence)));
    }
}
