use super::*;

/// What two servers sent over one connection each; `tests/recorded/zookeeper/README.md` says to which requests.
const SERVERS: [&[u8]; 2] = [
    include_bytes!("../../../../tests/recorded/zookeeper/3.3.2"),
    include_bytes!("../../../../tests/recorded/zookeeper/3.9.3"),
];

/// The frames that a server sent.
fn frames(mut sent: &[u8]) -> [&[u8]; 9] {
    let mut frames = Vec::new();
    while let Some((head, rest)) = sent.split_first_chunk() {
        let (frame, rest) = rest.split_at(frame_length(*head).unwrap());
        frames.push(frame);
        sent = rest;
    }
    frames.try_into().unwrap()
}

fn result(xid: i32, frame: &[u8]) -> &[u8] {
    match reply(xid, frame).unwrap() {
        Reply::Result(result) => result,
        Reply::Refused(code) => panic!("refused with {code}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn requests_as_servers_of_both_releases_took_them() {
    let connect = format!("0000002d{}00001f40{}00000010{}00", "00".repeat(12), "00".repeat(8), "00".repeat(16));
    assert_eq!(super::connect(Duration::from_secs(8)), bytes(&connect));
    assert_eq!(Request::Sync.frame(5), bytes("0000000d0000000500000009000000012f"));
    assert_eq!(
        Request::Data("/eph".into()).frame(7),
        bytes(
            "0000001100000007000000040000\
        00042f65706800"
        )
    );
    assert_eq!(Request::Children("/".into()).frame(12), bytes("0000000e0000000c00000008000000012f00"));
    assert_eq!(Request::Close.frame(15), bytes("000000080000000ffffffff5"));
}

#[test]
fn sessions_of_servers_with_and_without_the_read_only_byte() {
    let [old, new] = SERVERS.map(|sent| frames(sent)[0]);
    assert_eq!((old.len(), new.len()), (36, 37));
    for granted in [old, new] {
        session(granted).unwrap();
        for (at, what) in [(4..8, "timeout"), (8..16, "number")] {
            let mut refused = granted.to_vec();
            refused[at].fill(0);
            assert_eq!(session(&refused), Err(WireError::NoSession), "without a {what}");
        }
        let mut negative = granted.to_vec();
        negative[4] = 0xff;
        assert_eq!(session(&negative), Err(WireError::NoSession));
        let mut other = granted.to_vec();
        other[3] = 1;
        assert_eq!(session(&other), Err(WireError::Version(1)));
    }
    assert_eq!(session(&[old, &[1]].concat()), Err(WireError::ReadOnly));
}

#[test]
fn replies_of_both_releases() {
    for sent in SERVERS {
        let [granted, sync, persistent, ephemeral, null, closed, none, list, leaf] = frames(sent);
        result(5, sync);
        let persistent = znode(result(6, persistent)).unwrap();
        assert_eq!((persistent.data.as_slice(), persistent.session), (&b"0123456789abcdef"[..], 0));
        assert_eq!((persistent.created, persistent.modified), (2, 2));
        let ephemeral = znode(result(7, ephemeral)).unwrap();
        assert_eq!((ephemeral.data.as_slice(), Ok(ephemeral.session)), (&b"x"[..], session(granted)));
        // Both servers ran in November 2026.
        assert!((1_793_491_200_000..1_796_083_200_000).contains(&ephemeral.created_at));
        assert_eq!(ephemeral.modified_at, ephemeral.created_at);
        let null = znode(result(8, null)).unwrap();
        assert_eq!((null.data.as_slice(), null.created), (&b""[..], 4));
        assert_eq!((reply(9, closed), reply(10, none)), (Ok(Reply::Refused(-102)), Ok(Reply::Refused(-101))));
        let names = ["closed", "a", "zookeeper", "eph", "null", "neo4j.ha"].map(str::to_owned);
        let mut found = children(result(12, list)).unwrap();
        found.sort_by_key(|name| names.iter().position(|known| known == name));
        assert_eq!(found, names);
        assert_eq!(children(result(13, leaf)), Ok(vec![]));
        assert_eq!(reply(6, sync), Err(WireError::Xid { expected: 6, found: 5 }));
    }
    assert_eq!(children(&[0xff; 4]), Ok(vec![]), "null");
}

#[test]
fn every_number_of_a_znode_stands_where_the_protocol_puts_it() {
    let numbers: Vec<u8> = (1..=68).collect();
    let found = znode(&[&[0; 4], &numbers[..]].concat()).unwrap();
    let at = |first: usize| i64::from_be_bytes(numbers[first..first + 8].try_into().unwrap());
    assert_eq!((found.created, found.modified), (at(0), at(8)));
    assert_eq!((found.created_at, found.modified_at, found.session), (at(16), at(24), at(44)));
}

#[test]
fn a_name_that_is_not_utf_8_does_not_hide_the_others() {
    // U+1F600 as Java writes it: both halves of the pair by themselves.
    let names = b"\0\0\0\x02\0\0\0\x06\xed\xa0\xbd\xed\xb8\x80\0\0\0\x01a";
    assert_eq!(children(names).unwrap()[1], "a");
}

#[test]
fn records_that_are_cut_anywhere_are_errors() {
    let cuts = |whole: &[u8], decode: &dyn Fn(&[u8]) -> Option<WireError>| {
        for length in 0..whole.len() {
            let error = decode(&whole[..length]);
            assert!(matches!(error, Some(WireError::Truncated(_))), "{length} of {} bytes: {error:?}", whole.len());
        }
        assert_eq!(decode(whole), None);
    };
    let [granted, _, persistent, .., none, list, _] = frames(SERVERS[0]);
    cuts(granted, &|bytes| session(bytes).err());
    cuts(none, &|bytes| reply(10, bytes).err());
    cuts(result(6, persistent), &|bytes| znode(bytes).err());
    cuts(result(12, list), &|bytes| children(bytes).err());
}

#[test]
fn lengths_that_no_server_sends_are_errors() {
    for announced in [i32::MIN, -1, 0, (1 << 20) + 1, i32::MAX] {
        assert_eq!(frame_length(announced.to_be_bytes()), Err(WireError::FrameLength(announced)));
    }
    assert_eq!(frame_length((1_i32 << 20).to_be_bytes()), Ok(FRAME_BYTES_MAX));
    // What a web server says first.
    frame_length(*b"HTTP").unwrap_err();
    for length in [i32::MIN, -2] {
        for decode in [|bytes: &[u8]| znode(bytes).err(), |bytes: &[u8]| children(bytes).err()] {
            let error = decode(&length.to_be_bytes());
            assert!(matches!(error, Some(WireError::Length { length: found, .. }) if found == length), "{error:?}");
        }
    }
}

#[test]
fn what_no_member_writes_is_not_taken() {
    let long = |length: usize| [&i32::try_from(length).unwrap().to_be_bytes()[..], &vec![0; length + 68]].concat();
    assert_eq!(znode(&long(DATA_BYTES_MAX)).unwrap().data.len(), DATA_BYTES_MAX);
    let error = znode(&long(DATA_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(error, WireError::Oversized("it holds 65537 bytes, more than 65536".to_owned()));
    let many = |count: usize| [&i32::try_from(count).unwrap().to_be_bytes()[..], &vec![0; 4 * count]].concat();
    assert_eq!(children(&many(CHILDREN_MAX)).unwrap().len(), CHILDREN_MAX);
    let error = children(&many(CHILDREN_MAX + 1)).unwrap_err();
    assert_eq!(error, WireError::Oversized("it has 10001 children, more than 10000".to_owned()));
}
