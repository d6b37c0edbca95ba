//! The identity of a database, as the store and the znode `/C` carry it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Identity of a store: copied with every backup, different for every database that was created anew.
///
/// Source: `neostore` header records 0 and 1, and the first 16 bytes of the znode `/<cluster name>` (Neo4j 1.3 to 1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StoreId {
    /// Creation time of the store, milliseconds since the Unix epoch.
    pub creation_time: i64,
    /// Random number drawn when the store was created.
    pub random_id: i64,
}

impl StoreId {
    /// The znode below which members of the database with this store register: `/<creation time>_<random id>`, decimal.
    pub fn root_path(&self) -> String {
        format!("/{}_{}", self.creation_time, self.random_id)
    }
}

/// Two 64-bit numbers in lower-case hexadecimal, joined by `-`: 33 characters that fit a folder, a label or an object
/// name.
impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.creation_time, self.random_id)
    }
}

/// The text is not a store id in the form that [`StoreId`]'s `Display` writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a store id is two 16-digit lower-case hexadecimal numbers joined by '-', not {0:?}")]
pub struct ParseStoreIdError(String);

impl std::str::FromStr for StoreId {
    type Err = ParseStoreIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseStoreIdError(text.to_owned());
        let (creation, random) = text.split_once('-').ok_or_else(refuse)?;
        let number = |digits: &str| match digits.len() {
            16 if digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) => {
                u64::from_str_radix(digits, 16).map(u64::cast_signed).map_err(|_| refuse())
            }
            _ => Err(refuse()),
        };
        Ok(Self { creation_time: number(creation)?, random_id: number(random)? })
    }
}

impl From<StoreId> for String {
    fn from(id: StoreId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for StoreId {
    type Error = ParseStoreIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };

    #[test]
    fn recorded_store_id_gives_the_recorded_root() {
        assert_eq!(RECORDED.root_path(), "/1795334483295_-3368555925325939961");
        assert_eq!(RECORDED.to_string(), "000001a202462d5f-d1407c3bb8e8fb07");
    }

    #[test]
    fn text_form_round_trips_and_nothing_else_is_taken() {
        assert_eq!(RECORDED.to_string().parse(), Ok(RECORDED));
        for bad in [
            "",
            "-",
            "000001a202462d5f",
            "000001A202462D5F-d1407c3bb8e8fb07",
            "+00001a202462d5f-d1407c3bb8e8fb07",
            "1-2",
        ] {
            assert_eq!(bad.parse::<StoreId>(), Err(ParseStoreIdError(bad.to_owned())));
        }
    }
}
