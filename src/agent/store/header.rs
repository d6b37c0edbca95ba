//! The header of a store: the file `neostore`, read without Java.
//!
//! Format (Neo4j 1.5 to 1.8): records of 9 bytes, each one byte "in use" and one big-endian 64-bit number: creation
//! time, random id, version of the current logical log, last committed transaction, store version, and from 1.6 on the
//! next graph property. After a clean shutdown, and only then, the ASCII text `NeoStore v0.A.0` follows.

use crate::agent::store::files;
use crate::api::StoreId;
use std::io::{self, Read};
use std::path::Path;

/// Name of the file inside a store folder.
pub const FILE_NAME: &str = "neostore";
/// No known version writes more than 69 bytes; anything longer than this is another file.
const BYTES_MAX: usize = 1024;
const RECORD_BYTES: usize = 9;
const IN_USE: u8 = 1;
/// The records that every version has and that we need.
const RECORDS_NEEDED: usize = 4;
const TRAILER_START: &[u8] = b"NeoStore v";

/// What `neostore` says about its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreHeader {
    /// Identity of the database.
    pub store_id: StoreId,
    /// Version of the current logical log: the archived logs are `nioneo_logical.log.v0` up to one less.
    pub log_version: i64,
    /// Last committed transaction; 1 in a store that was never written.
    pub last_transaction: i64,
    /// Store format as `/C` carries it in ZooKeeper; absent before 1.5.
    pub store_version: Option<i64>,
    /// Whether the database was shut down cleanly. A store that was not is recovered at its next start.
    pub clean_shutdown: bool,
}

/// Why `neostore` is not a store header.
#[derive(Debug, thiserror::Error)]
pub enum StoreHeaderError {
    /// The file cannot be read.
    #[error("cannot read neostore: {0}")]
    Read(#[source] io::Error),
    /// Shorter than the four records that every version writes.
    #[error("neostore has only {0} bytes; the records that every version writes have 36")]
    Truncated(usize),
    /// Longer than any version writes.
    #[error("neostore has more than {BYTES_MAX} bytes, which no version writes")]
    TooLong,
    /// A record that must be in use is not.
    #[error("record {0} of neostore is not in use")]
    NotInUse(usize),
    /// The creation time is not a time after the epoch.
    #[error("the creation time in neostore is {0}")]
    CreationTime(i64),
    /// The last transaction is below 1, where every store begins.
    #[error("the last transaction in neostore is {0}; every store begins with 1")]
    LastTransaction(i64),
}

/// Reads the header of the store in `folder`.
pub fn read(folder: &Path) -> Result<StoreHeader, StoreHeaderError> {
    let file = files::open(&folder.join(FILE_NAME)).map_err(StoreHeaderError::Read)?;
    let mut bytes = Vec::with_capacity(BYTES_MAX + 1);
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(StoreHeaderError::Read)?;
    parse(&bytes)
}

/// Decodes the bytes of a `neostore` file.
pub fn parse(bytes: &[u8]) -> Result<StoreHeader, StoreHeaderError> {
    if bytes.len() > BYTES_MAX {
        return Err(StoreHeaderError::TooLong);
    }
    let needed = RECORDS_NEEDED * RECORD_BYTES;
    let Some((needed, rest)) = bytes.split_at_checked(needed) else {
        return Err(StoreHeaderError::Truncated(bytes.len()));
    };
    let mut numbers = [0; RECORDS_NEEDED];
    for (index, (number, record)) in numbers.iter_mut().zip(needed.chunks_exact(RECORD_BYTES)).enumerate() {
        *number = in_use(record).ok_or(StoreHeaderError::NotInUse(index))?;
    }
    let [creation_time, random_id, log_version, last_transaction] = numbers;
    if creation_time <= 0 {
        return Err(StoreHeaderError::CreationTime(creation_time));
    }
    if last_transaction < 1 {
        return Err(StoreHeaderError::LastTransaction(last_transaction));
    }
    let (records, clean_shutdown) = without_trailer(rest);
    Ok(StoreHeader {
        store_id: StoreId { creation_time, random_id },
        log_version,
        last_transaction,
        store_version: records.get(..RECORD_BYTES).and_then(in_use),
        clean_shutdown,
    })
}

/// The number of a record that is in use.
fn in_use(record: &[u8]) -> Option<i64> {
    match record.split_first() {
        Some((&IN_USE, number)) => number.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    }
}

/// Splits the trailer off, if it follows a whole number of records.
fn without_trailer(bytes: &[u8]) -> (&[u8], bool) {
    let start = (0..bytes.len()).step_by(RECORD_BYTES).find(|&at| bytes[at..].starts_with(TRAILER_START));
    match start {
        Some(at) => {
            let version = &bytes[at + TRAILER_START.len()..];
            let whole = (3..=16).contains(&version.len()) && version.iter().all(u8::is_ascii_graphic);
            (&bytes[..at], whole)
        }
        None => (bytes, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(number: i64) -> Vec<u8> {
        let mut record = vec![IN_USE];
        record.extend(number.to_be_bytes());
        record
    }

    fn neostore(numbers: &[i64], trailer: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| record(*number)).collect();
        bytes.extend(trailer.as_bytes());
        bytes
    }

    const NUMBERS: [i64; 6] = [1_795_334_483_295, -3_368_555_925_325_939_961, 2, 6, 0x0030_2e41_2e30_7606, -1];

    #[test]
    fn a_store_that_was_shut_down_cleanly() {
        let header = parse(&neostore(&NUMBERS, "NeoStore v0.A.0")).unwrap();
        assert_eq!(
            header,
            StoreHeader {
                store_id: StoreId { creation_time: NUMBERS[0], random_id: NUMBERS[1] },
                log_version: 2,
                last_transaction: 6,
                store_version: Some(0x0030_2e41_2e30_7606),
                clean_shutdown: true,
            }
        );
    }

    /// Recorded from Neo4j 1.8.0; `tests/recorded/neostore/README.md` says how, and what is in them.
    #[test]
    fn real_headers() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/neostore");
        let cases = [("full-backup", 3, 2, true), ("clean-shutdown", 8, 6, true), ("killed", 3, 6, false)];
        for (name, log_version, last_transaction, clean_shutdown) in cases {
            let header = parse(&std::fs::read(folder.join(name)).unwrap()).unwrap();
            let expected = StoreHeader {
                store_id: StoreId { creation_time: 1_795_507_138_122, random_id: 6_446_039_257_274_779_644 },
                log_version,
                last_transaction,
                store_version: Some(0x0030_2e41_2e30_7606),
                clean_shutdown,
            };
            assert_eq!(header, expected, "{name}");
        }
    }

    #[test]
    fn a_store_that_is_open_or_was_killed_has_no_trailer() {
        for trailer in ["", "NeoSt", "NeoStore v", "\0\0\0\0\0\0\0\0\0"] {
            assert!(!parse(&neostore(&NUMBERS, trailer)).unwrap().clean_shutdown, "{trailer:?}");
        }
    }

    #[test]
    fn older_versions_have_fewer_records() {
        assert!(parse(&neostore(&NUMBERS[..5], "NeoStore v0.A.0")).unwrap().clean_shutdown);
        let oldest = parse(&neostore(&NUMBERS[..4], "NeoStore v0.9.9")).unwrap();
        assert!(oldest.clean_shutdown);
        assert_eq!(oldest.store_version, None);
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        assert!(matches!(parse(b""), Err(StoreHeaderError::Truncated(0))));
        assert!(matches!(parse(&neostore(&NUMBERS, "")[..35]), Err(StoreHeaderError::Truncated(35))));
        assert!(matches!(parse(&[1; BYTES_MAX + 1]), Err(StoreHeaderError::TooLong)));
        assert!(matches!(parse(&[0; 54]), Err(StoreHeaderError::NotInUse(0))));
        let mut unused = neostore(&NUMBERS, "");
        unused[27] = 0;
        assert!(matches!(parse(&unused), Err(StoreHeaderError::NotInUse(3))));
        assert!(matches!(parse(&neostore(&[0, 1, 1, 1], "")), Err(StoreHeaderError::CreationTime(0))));
        assert!(matches!(parse(&neostore(&[1, 1, 1, 0], "")), Err(StoreHeaderError::LastTransaction(0))));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_header_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            creation in 1..=i64::MAX, random: i64, log: i64, transaction in 1..=i64::MAX, others in 0..=2usize, clean: bool,
        ) {
            let mut numbers = vec![creation, random, log, transaction];
            numbers.resize(4 + others, 7);
            let header = parse(&neostore(&numbers, if clean { "NeoStore v0.A.0" } else { "" })).unwrap();
            prop_assert_eq!(header.store_id, StoreId { creation_time: creation, random_id: random });
            prop_assert_eq!((header.log_version, header.last_transaction), (log, transaction));
            prop_assert_eq!(header.store_version, (others > 0).then_some(7));
            prop_assert_eq!(header.clean_shutdown, clean);
        }
    }
}
