//! Fuzz targets: for any bytes, what must hold of the decoder that reads them. Each panics if it does not.
//!
//! Run by `cargo test` with a fixed number of inputs, and by libFuzzer from `fuzz/` for as long as one likes.

use graph_backup_operator::agent::stop::Stop;
use graph_backup_operator::agent::store::header::{self, StoreHeaderError};
use graph_backup_operator::agent::store::history::Identity;
use graph_backup_operator::agent::store::manifest::FORMAT_VERSION;
use graph_backup_operator::agent::store::manifest_file::{self, ManifestError};
use graph_backup_operator::agent::store::transaction_log::{self, LogError};
use graph_backup_operator::agent::tool::boot;
use graph_backup_operator::agent::tool::output::{self, ToolOutput};
use graph_backup_operator::agent::tool::stream::{END_BYTES_MAX, End, LINE_BYTES_MAX, Lines};
use graph_backup_operator::contract::failure::FAILURE_BYTES_MAX;
use graph_backup_operator::contract::verdict::Verdict;
use graph_backup_operator::discovery::probe::{self, Answer, ENTRIES_BYTES_MAX, ProbeError, Transaction};
use graph_backup_operator::discovery::znode::{self, Member, Published as LastTransaction, Published::*};
use graph_backup_operator::discovery::zookeeper::read_frame;
use graph_backup_operator::discovery::zookeeper::wire::{self, CHILDREN_MAX, DATA_BYTES_MAX, FRAME_BYTES_MAX, Reply};
use graph_backup_operator::discovery::{SourceUri, SourceUriError};
use std::path::Path;

#[path = "object.rs"]
pub mod object;
#[path = "seeds.rs"]
pub mod seeds;

/// One target.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What must hold for any bytes.
    pub check: fn(&[u8]),
    /// Real inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "zookeeper", check: zookeeper, seeds: seeds::zookeeper },
    Target { name: "znode", check: znode, seeds: seeds::znode },
    Target { name: "manifest", check: manifest, seeds: seeds::manifest },
    Target { name: "verdict", check: object::verdict, seeds: seeds::verdict },
    Target { name: "tool-output", check: tool_output, seeds: seeds::tool_output },
    Target { name: "store-header", check: store_header, seeds: seeds::store_header },
    Target { name: "probe", check: probe, seeds: seeds::probe },
    Target { name: "history", check: history, seeds: seeds::history },
    Target { name: "transaction-log", check: transaction_log, seeds: seeds::transaction_log },
    Target { name: "source", check: source, seeds: seeds::source },
];

/// What a message quotes of foreign bytes stays short.
fn is_short(error: &impl ToString) {
    let message = error.to_string();
    assert!(!message.is_empty() && message.len() < 1024, "{message:?}");
}

/// No frame holds more than was sent, and what a reply says stands in its bytes where the protocol puts it.
///
/// Bytes: what a server sends, lengths included; the first frame answers the connect request.
fn zookeeper(mut bytes: &[u8]) {
    let mut first = true;
    loop {
        let before = bytes;
        // Bytes in memory are always ready.
        let frame = match futures::FutureExt::now_or_never(read_frame(&mut bytes)).unwrap() {
            Ok(frame) => frame.bytes,
            Err(error) => return is_short(&error),
        };
        assert!(before[4..].starts_with(&frame) && before.len() == 4 + frame.len() + bytes.len());
        assert!((1..=FRAME_BYTES_MAX).contains(&frame.len()));
        if first {
            match wire::session(&frame) {
                Ok(session) => assert!(session != 0 && frame[8..].starts_with(&session.to_be_bytes())),
                Err(error) => is_short(&error),
            }
        }
        first = false;
        let Some(xid) = frame.first_chunk().map(|xid| i32::from_be_bytes(*xid)) else { continue };
        wire::reply(xid ^ 1, &frame).unwrap_err();
        match wire::reply(xid, &frame) {
            Ok(Reply::Result(result)) => result_is(result),
            Ok(Reply::Refused(code)) => assert!(code != 0 && frame[12..16] == code.to_be_bytes()),
            Err(error) => is_short(&error),
        }
    }
}

fn result_is(result: &[u8]) {
    let buffer = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let null = result.starts_with(&[0xff; 4]);
    match wire::znode(result) {
        Ok(znode) => {
            assert!(znode.data.len() <= DATA_BYTES_MAX);
            let data = if null { vec![0xff; 4] } else { buffer(&znode.data) };
            let numbers = [znode.created, znode.modified, znode.created_at, znode.modified_at];
            let known: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
            assert!(result.starts_with(&[data.clone(), known].concat()));
            assert!(result[data.len() + 44..].starts_with(&znode.session.to_be_bytes()));
            assert!(result.len() >= data.len() + 68);
        }
        Err(error) => is_short(&error),
    }
    match wire::children(result) {
        Ok(names) if null => assert!(names.is_empty()),
        Ok(names) => {
            assert!(names.len() <= CHILDREN_MAX && names.len() <= result.len() / 4);
            // A byte that is not UTF-8 becomes a character of three.
            assert!(names.iter().map(String::len).sum::<usize>() <= 3 * result.len());
            // Null and the empty name decode to the same.
            let has_one_form = |name: &String| !name.is_empty() && !name.contains(char::REPLACEMENT_CHARACTER);
            if names.iter().all(has_one_form) {
                let mut encoded = u32::try_from(names.len()).unwrap().to_be_bytes().to_vec();
                encoded.extend(names.iter().flat_map(|name| buffer(name.as_bytes())));
                assert!(result.starts_with(&encoded));
            }
        }
        Err(error) => is_short(&error),
    }
}

/// What decodes is encoded as the database would have written it.
fn znode(bytes: &[u8]) {
    match znode::pointer("/c", bytes) {
        Ok(pointer) => {
            let numbers =
                [Some(pointer.store_id.creation_time), Some(pointer.store_id.random_id), pointer.store_version];
            let encoded: Vec<u8> = numbers.iter().flatten().flat_map(|number| number.to_be_bytes()).collect();
            assert_eq!(encoded, bytes);
            assert_eq!(znode::root_name(&pointer.store_id.root_path()[1..]), Some(pointer.store_id));
        }
        Err(error) => is_short(&error),
    }
    match znode::published("/1_2", bytes) {
        Ok(published) => published_is(published, bytes),
        Err(error) => is_short(&error),
    }
    match znode::member("/1", bytes) {
        Ok(member) => member_is(&member, bytes),
        Err(error) => is_short(&error),
    }
    match znode::member_id("/master-rebound", bytes) {
        Ok(id) => assert_eq!(id.to_be_bytes(), bytes),
        Err(error) => is_short(&error),
    }
    if let Ok(name) = str::from_utf8(bytes) {
        if let Some((id, sequence)) = znode::election_name(name) {
            assert_eq!(znode::election_name(&format!("{id}_{sequence}")), Some((id, sequence)));
        }
        if let Some(store_id) = znode::root_name(name) {
            assert_eq!(store_id.root_path()[1..], *name);
        }
    }
}

fn published_is(published: LastTransaction, bytes: &[u8]) {
    let (transaction, master) = bytes.split_at(8);
    let master = master.try_into().map(i32::from_be_bytes).ok();
    let transaction = i64::from_be_bytes(transaction.try_into().unwrap());
    match published {
        Idle => assert_eq!((transaction, master), (-2, Some(-2))),
        NotEligible => assert_eq!(transaction, -1),
        Compatibility => assert_eq!((transaction, master), (0, Some(-1))),
        Committed { transaction: read, master: by } => {
            assert_eq!((read, by), (transaction, master.filter(|master| *master >= 0)));
            assert!(read >= 0);
        }
    }
}

fn member_is(member: &Member, bytes: &[u8]) {
    let port: Vec<u8> = member.backup_port.map(|port| i32::from(port).to_be_bytes().to_vec()).unwrap_or_default();
    let units: Vec<u16> = member.address.encode_utf16().collect();
    let mut encoded = port;
    encoded.push(u8::try_from(units.len()).unwrap());
    assert!(units.len() <= 127);
    encoded.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
    assert!(bytes.starts_with(&encoded), "{member:?}");
    if let Some(endpoint) = member.endpoint() {
        // Whatever a member publishes, the tool is told a host and a port that it can be told.
        assert_eq!(format!("single://{endpoint}").parse(), Ok(SourceUri::Single(endpoint)));
    }
}

/// What is read is read again from what is written; what a point's manifest says reaches the operator, or a refusal
/// does.
fn manifest(bytes: &[u8]) {
    let manifest = match manifest_file::decode(Path::new("m"), bytes) {
        Ok(manifest) => manifest,
        Err(ManifestError::Newer { found }) => return assert!(found > u64::from(FORMAT_VERSION)),
        Err(error @ ManifestError::Decode { .. }) => return is_short(&error),
        Err(error) => panic!("{error}"),
    };
    assert!(manifest.format_version <= FORMAT_VERSION);
    let written = serde_json::to_vec_pretty(&manifest).unwrap();
    assert!(written.len() < 1024 + 8 * bytes.len(), "{} bytes became {}", bytes.len(), written.len());
    assert_eq!(manifest_file::decode(Path::new("m"), &written).unwrap(), manifest);
    let point = manifest.published(String::new(), true);
    let fits = point.fits_object();
    object::is_told(&Verdict::Published(Box::new(point)), fits);
}

/// However the bytes come in, the lines are the same; a judgement is for people, and only a real end is a success.
///
/// Bytes: how the tool ended, what it left, how its output is cut; then what it wrote to its standard output, 0, and to
/// its standard error.
fn tool_output(bytes: &[u8]) {
    let Some(([ending, left, cut], said)) = bytes.split_first_chunk() else { return };
    let (stdout, stderr) = said.split_at(said.iter().position(|byte| *byte == 0).unwrap_or(said.len()));
    let chunk = usize::from(*cut) + 1;
    for line in [stdout, stderr].into_iter().flat_map(|said| lines(said, chunk)) {
        // A byte that is not UTF-8 becomes a character of three.
        assert!(line.len() <= 3 * LINE_BYTES_MAX + '…'.len_utf8() && !line.contains('\n'), "{line:?}");
        assert!(output::percent(&line).is_none_or(|percent| percent <= 100));
    }
    let (stdout, stderr) = (end(stdout, chunk), end(stderr, chunk));
    judgement_is(*ending, *left, &stdout, &stderr);
    if let Some(count) = boot::count(&stdout, "NumberOfNodeIdsInUse") {
        assert!(count >= 0 && stdout.contains(&count.to_string()));
    }
}

fn lines(bytes: &[u8], chunk: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = Lines::default();
    bytes.chunks(chunk).for_each(|bytes| lines.push(bytes, |line| found.push(line.to_owned())));
    lines.finish(|line| found.push(line.to_owned()));
    let expected = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n').map(|line| {
        let kept = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).trim_end_matches('\r').to_owned();
        if line.len() > LINE_BYTES_MAX { kept + "…" } else { kept }
    });
    assert!(bytes.is_empty() || found.iter().map(String::as_str).eq(expected));
    found
}

fn end(bytes: &[u8], chunk: usize) -> String {
    let mut end = End::default();
    bytes.chunks(chunk).for_each(|bytes| end.push(bytes));
    let text = end.text();
    assert_eq!(text, String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(END_BYTES_MAX)..]));
    text
}

fn judgement_is(ending: u8, left: u8, stdout: &str, stderr: &str) {
    let output = ToolOutput {
        free_bytes: None,
        ending: match ending {
            0..=199 => output::Ending::Exited(i32::from(ending)),
            _ => output::Ending::Killed(i32::from(ending) - 199),
        },
        stdout,
        stderr,
        left_neostore: left & 1 == 1,
        left_report: (left & 2 == 2).then_some("inconsistencies-1.report"),
    };
    match output::judge(&output) {
        Ok(()) => {
            assert!(output.ending == output::Ending::Exited(0));
            assert!(output.left_neostore && output.left_report.is_none() && stdout.contains("Done"));
        }
        Err(failure) => {
            assert!(!failure.message.is_empty() && failure.message.len() <= FAILURE_BYTES_MAX);
            assert!(!failure.message.contains(char::is_control), "{:?}", failure.message);
            object::is_told(&Verdict::Failed(failure), true);
        }
    }
    let words = output::last_words(stdout, stderr);
    assert!(words.len() <= FAILURE_BYTES_MAX, "{words:?}");
}

/// What is read stands in the file where its format puts it.
fn store_header(bytes: &[u8]) {
    let header = match header::parse(bytes) {
        Ok(header) => header,
        Err(StoreHeaderError::Truncated(length)) => return assert!(length < 36 && length == bytes.len()),
        Err(error) => return is_short(&error),
    };
    assert!(header.store_id.creation_time > 0 && header.last_transaction >= 1);
    let id = header.store_id;
    let mut records = vec![id.creation_time, id.random_id, header.log_version, header.last_transaction];
    records.extend(header.store_version);
    let encoded: Vec<u8> = records.iter().flat_map(|number| [&[1], &number.to_be_bytes()[..]].concat()).collect();
    assert!(bytes.starts_with(&encoded));
    // The trailer follows a whole number of records, and nothing follows its short version.
    let mut ends = (36..bytes.len()).step_by(9).map(|at| &bytes[at..]);
    assert!(!header.clean_shutdown || ends.any(|end| end.starts_with(b"NeoStore v") && end.len() <= 26));
}

/// However an answer is cut into frames, it is the same; it holds nothing that was not sent.
///
/// Bytes: how the answer is cut, then what the member sends.
fn probe(bytes: &[u8]) {
    match read(bytes) {
        Ok(answer) => {
            let held = answer.first.as_ref().map_or(0, |transaction| transaction.entries.len());
            assert!(held <= bytes.len().min(ENTRIES_BYTES_MAX));
        }
        Err(error) => is_short(&error),
    }
    let Some((cut, content)) = bytes.split_first() else { return };
    let framed = |size: usize| {
        let mut sent = Vec::new();
        let frames = content.chunks(size);
        let count = frames.len();
        for (at, content) in frames.enumerate() {
            sent.extend(u32::try_from(content.len() + 2).unwrap().to_be_bytes());
            sent.extend([if at + 1 == count { 8 } else { 9 }, 1]);
            sent.extend(content);
        }
        read(&sent)
    };
    let whole = framed(usize::MAX);
    assert_eq!(framed(usize::from(*cut) + 1), whole);
    if let Ok(answer) = whole {
        assert!(
            content.starts_with(
                &[answer.store_id.creation_time, answer.store_id.random_id].map(i64::to_be_bytes).concat()
            )
        );
        assert!(answer.first.is_none_or(|transaction| is_in(&transaction, content)));
    }
}

fn read(mut bytes: &[u8]) -> Result<Answer, ProbeError> {
    // Bytes in memory are always ready.
    futures::FutureExt::now_or_never(probe::read_answer(&mut bytes)).unwrap()
}

/// Whether the beginning of a transaction stands in an answer as the protocol writes it: its number, then its entries.
fn is_in(transaction: &Transaction, content: &[u8]) -> bool {
    let id = transaction.id.to_be_bytes();
    let mut numbers = content.windows(8).enumerate().filter(|(_, window)| *window == id);
    numbers.any(|(at, _)| entries(&content[at + 8..]).is_some_and(|entries| entries == transaction.entries))
}

/// The beginning of what stands in blocks of 255 bytes and a rest; none where they end before.
fn entries(mut left: &[u8]) -> Option<Vec<u8>> {
    let (mut entries, mut last) = (Vec::new(), 0);
    while last == 0 && entries.len() < ENTRIES_BYTES_MAX {
        (last, left) = left.split_first().map(|(length, rest)| (*length, rest))?;
        let (block, rest) = left.split_at_checked(if last == 0 { 255 } else { last.into() })?;
        entries.extend(block);
        left = rest;
    }
    entries.truncate(ENTRIES_BYTES_MAX);
    Some(entries)
}

/// A transaction is found in a log that holds it under another local number, and in no other.
///
/// Bytes: the length of the transaction's entries, these, then a log.
fn history(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let Some((entries, log)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { return };
    let transaction = Transaction { id: 6, entries: entries.to_vec() };
    let Some(identity) = Identity::of(&transaction) else {
        // Its start entry is not whole, or its global id could be another's.
        let whole = entries.len() >= 3 && entries.len() >= 27 + usize::from(entries[1]) + usize::from(entries[2]);
        return assert!(!whole || entries[0] != 1 || entries[1] < 16);
    };
    let is_in = |log: &[u8]| identity.is_in(log, &Stop::never()).unwrap();
    let before = 3 + usize::from(entries[1]) + usize::from(entries[2]);
    let (start, number) = (&entries[..before + 24], &entries[before..before + 4]);
    let same = |entry: &[u8]| entry[..before] == start[..before] && entry[before + 4..] == start[before + 4..];
    let expected = log.windows(start.len()).position(same).is_some_and(|at| {
        let commit = [&log[at + before..at + before + 4], &6_i64.to_be_bytes()].concat();
        let after = &log[at + start.len()..];
        after.windows(13).any(|entry| matches!(entry[0], 5 | 6) && entry[1..] == commit)
    });
    assert_eq!(is_in(log), expected);
    let other: Vec<u8> = number.iter().map(|byte| byte ^ 0x55).collect();
    let applied = [&start[..before], &other, &start[before + 4..], log, &[5], &other, &6_i64.to_be_bytes()].concat();
    assert!(is_in(&applied), "not found where it stands");
    assert!(!is_in(&applied[1..applied.len() - 1]) || expected, "found where it does not stand");
}

/// What is read stands in the log: its header at its start, the commits where an end follows each, without a gap.
fn transaction_log(bytes: &[u8]) {
    let log = match transaction_log::read(bytes, &Stop::never()) {
        Ok(log) => log,
        Err(LogError::Truncated(length)) => return assert!(length < 16 && length == bytes.len()),
        Err(error) => return is_short(&error),
    };
    let header = [(log.version | 2 << 56).to_be_bytes(), log.last_before.to_be_bytes()].concat();
    assert!(bytes.starts_with(&header) && log.version >= 0);
    let Some(commits) = log.commits else { return };
    assert!(2 <= commits.first && commits.first <= commits.last && bytes[16] <= 1);
    let stands =
        |id: i64| bytes[16..].windows(13).any(|entry| matches!(entry[0], 5 | 6) && entry[5..] == id.to_be_bytes());
    assert!((commits.first..=commits.last).all(stands));
}

/// What is read is written in one form only.
fn source(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let uri: SourceUri = match text.parse() {
        Ok(uri) => uri,
        Err(SourceUriError::SeveralMembers) => return assert!(text.starts_with("single://") && text.contains(',')),
        Err(error) => return assert!(error.to_string().len() <= 200 + 10 * text.len(), "{error}"),
    };
    let members = match &uri {
        SourceUri::Single(member) => std::slice::from_ref(member),
        SourceUri::Ha(servers) => servers,
    };
    assert!(!members.is_empty() && members.len() <= text.len());
    for member in members {
        assert!(member.port > 0 && (1..=253).contains(&member.host.len()) && text.contains(&member.host));
        // The tool's own command gets it as one word, without a shell or an option in between.
        assert!(
            !member.host.starts_with('-')
                && member.host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        );
    }
    assert_eq!(uri.to_string().parse(), Ok(uri.clone()));
    assert_eq!(serde_json::from_value::<SourceUri>(serde_json::json!(uri)).unwrap(), uri);
}
