//! Source URIs as the Neo4j 1.x manual writes them: `<running mode>://<host>[:port]{,<host>[:port]}*`.

use crate::api::Endpoint;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Backup port of a member when the URI names none, and when the member publishes 0.
pub const DEFAULT_BACKUP_PORT: u16 = 6362;
/// Client port of a ZooKeeper server when the URI names none.
pub const DEFAULT_ZOOKEEPER_PORT: u16 = 2181;

/// A parsed source URI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SourceUri {
    /// The backup port of one member.
    Single(Endpoint),
    /// The servers of the ZooKeeper ensemble in which the members register; at least one.
    Ha(Vec<Endpoint>),
}

/// Why a text is not a source URI; each message says how to write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceUriError {
    /// Neither `single://` nor `ha://`.
    #[error("a source URI starts with 'single://' or 'ha://', not {0:?}")]
    RunningMode(String),
    /// An address is not `host[:port]`.
    #[error(
        "{0:?} is not 'host' or 'host:port' (letters, digits, '-' and '.'; port 1 to 65535; IPv6 is not supported by the database)"
    )]
    Address(String),
    /// More than one address with `single://`.
    #[error(
        "'single://' takes one member; write 'ha://' and the ZooKeeper servers to let the operator find the master"
    )]
    SeveralMembers,
}

impl FromStr for SourceUri {
    type Err = SourceUriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(address) = text.strip_prefix("single://") {
            if address.contains(',') {
                return Err(SourceUriError::SeveralMembers);
            }
            return parse_endpoint(address, DEFAULT_BACKUP_PORT).map(Self::Single);
        }
        let Some(servers) = text.strip_prefix("ha://") else {
            return Err(SourceUriError::RunningMode(text.to_owned()));
        };
        servers
            .split(',')
            .map(|server| parse_endpoint(server, DEFAULT_ZOOKEEPER_PORT))
            .collect::<Result<_, _>>()
            .map(Self::Ha)
    }
}

fn parse_endpoint(text: &str, default_port: u16) -> Result<Endpoint, SourceUriError> {
    let refuse = || SourceUriError::Address(text.to_owned());
    let (host, port) = match text.split_once(':') {
        None => (text, default_port),
        Some((host, digits)) => {
            if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(refuse());
            }
            (host, digits.parse().map_err(|_| refuse())?)
        }
    };
    if is_host(host) { Ok(Endpoint { host: host.to_owned(), port }) } else { Err(refuse()) }
}

/// RFC 1123 names and IPv4 addresses: labels of 1 to 63 letters, digits and inner hyphens, joined by dots.
///
/// An underscore would pass DNS but not Java's URI parser, which then finds no host at all.
pub(super) fn is_host(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

impl fmt::Display for SourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(member) => write!(f, "single://{member}"),
            Self::Ha(servers) => {
                let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
                write!(f, "ha://{}", servers.join(","))
            }
        }
    }
}

impl From<SourceUri> for String {
    fn from(uri: SourceUri) -> Self {
        uri.to_string()
    }
}

impl TryFrom<String> for SourceUri {
    type Error = SourceUriError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    #[test]
    fn uris_as_the_manual_writes_them() {
        assert_eq!("single://10.0.0.1".parse(), Ok(SourceUri::Single(at("10.0.0.1", 6362))));
        assert_eq!("single://db:9999".parse(), Ok(SourceUri::Single(at("db", 9999))));
        assert_eq!("ha://zk".parse(), Ok(SourceUri::Ha(vec![at("zk", 2181)])));
        assert_eq!(
            "ha://zk-0.zk:2181,zk-1.zk,zk-2.zk:2183".parse(),
            Ok(SourceUri::Ha(vec![at("zk-0.zk", 2181), at("zk-1.zk", 2181), at("zk-2.zk", 2183)]))
        );
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        for bad in [
            "",
            "zk:2181",
            "HA://zk",
            "ha://",
            "ha://zk,",
            "ha://zk:",
            "ha://zk:0",
            "ha://zk:65536",
            "ha://zk:+1",
            "ha://zk:1:2",
            "ha://[::1]:2181",
            "ha://a_b",
            "ha://-a",
            "ha://a-",
            "ha://a..b",
            "ha://zk/chroot",
            "single://",
            "ha://zk, zk2",
            "ha://zk:02181",
        ] {
            assert!(bad.parse::<SourceUri>().is_err(), "{bad:?} was taken");
        }
        assert_eq!("single://a,b".parse::<SourceUri>(), Err(SourceUriError::SeveralMembers));
    }
}
