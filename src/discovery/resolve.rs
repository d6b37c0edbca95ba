//! Names to addresses without libc's name service switch.
//!
//! The agent runs inside foreign images: what their `nsswitch.conf` loads, or that they have none, must not matter. So
//! nothing here calls `getaddrinfo`: `/etc/hosts` and `/etc/resolv.conf`, which the kubelet writes into every pod, are
//! read by ourselves. Everything that connects gets a [`SocketAddr`]: tokio asks libc for names.

use crate::api::Endpoint;
use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    system_conf,
};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tokio::sync::OnceCell;

/// Longest time that one name may take, all search domains and retries included.
pub const NAME_BOUND: Duration = Duration::from_secs(4);
/// Longest time that one question to a DNS server may take: a lost packet is sent again within [`NAME_BOUND`].
const QUERY_BOUND: Duration = Duration::from_millis(1500);
/// How long an answer is used, whatever its time to live: a member that moved is looked for at its new address.
const POSITIVE_TTL: Duration = Duration::from_secs(5);
/// How long "no such name" is believed: a pod that becomes ready gets its name any moment.
const NEGATIVE_TTL: Duration = Duration::from_secs(1);

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The DNS servers say so.
    #[error("{name} is unknown to DNS and /etc/hosts")]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// No answer within [`NAME_BOUND`].
    #[error("DNS did not answer for {name} within {} s", NAME_BOUND.as_secs())]
    TimedOut {
        /// The name that was asked for.
        name: String,
    },
    /// DNS cannot be asked, or answers with an error.
    #[error("DNS failed for {name}: {detail}")]
    Failed {
        /// The name that was asked for.
        name: String,
        /// What went wrong.
        detail: String,
    },
}

/// Resolves names as the pod's own files say, which are read when first needed.
#[derive(Debug)]
pub struct Resolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    namespace: Option<String>,
    dns: OnceCell<Result<TokioResolver, String>>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            namespace: None,
            dns: OnceCell::new(),
        }
    }
}

impl Resolver {
    /// Resolves short names such as `zookeeper-0.zookeeper` as a pod of another namespace would.
    pub fn in_namespace(namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::default() }
    }

    /// Every address of `endpoint`, at least one; IPv6 only where there is no IPv4.
    pub async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, ResolveError> {
        let name = endpoint.host.trim_end_matches('.');
        let found = match name.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => match in_hosts(&tokio::fs::read_to_string(&self.hosts).await.unwrap_or_default(), name) {
                found if found.is_empty() => self.in_dns(&endpoint.host).await?,
                found => found,
            },
        };
        Ok(prefer_v4(found).into_iter().map(|ip| SocketAddr::new(ip, endpoint.port)).collect())
    }

    async fn in_dns(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let dns = self.dns.get_or_init(|| self.build()).await;
        let dns = dns.as_ref().map_err(|detail| failed(name, detail))?;
        match tokio::time::timeout(NAME_BOUND, dns.lookup_ip(name)).await {
            Err(_) | Ok(Err(NetError::Timeout)) => Err(ResolveError::TimedOut { name: name.to_owned() }),
            Ok(Ok(answer)) if answer.iter().next().is_none() => Err(ResolveError::Unknown { name: name.to_owned() }),
            Ok(Ok(answer)) => Ok(answer.iter().collect()),
            Ok(Err(error)) if error.is_no_records_found() => Err(ResolveError::Unknown { name: name.to_owned() }),
            Ok(Err(error)) => Err(failed(name, &error)),
        }
    }

    async fn build(&self) -> Result<TokioResolver, String> {
        let path = self.resolv_conf.display();
        let mut text =
            tokio::fs::read_to_string(&self.resolv_conf).await.map_err(|error| format!("{path}: {error}"))?;
        if let Some(namespace) = &self.namespace {
            text = searched_from(&text, namespace);
        }
        let (config, options) = system_conf::parse_resolv_conf(text).map_err(|error| format!("{path}: {error}"))?;
        dns(config, options).map_err(|error| error.to_string())
    }
}

fn failed(name: &str, detail: &impl ToString) -> ResolveError {
    ResolveError::Failed { name: name.to_owned(), detail: detail.to_string() }
}

fn dns(config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, NetError> {
    options.timeout = options.timeout.min(QUERY_BOUND);
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.positive_max_ttl = Some(POSITIVE_TTL);
    options.negative_max_ttl = Some(NEGATIVE_TTL);
    // The crate would ask DNS for every search domain before it looks for the plain name in /etc/hosts.
    options.use_hosts_file = ResolveHosts::Never;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

/// A pod's resolv.conf as the kubelet would write it in another namespace: `<namespace>.svc.<cluster domain>` stands
/// first in the search list. Outside a cluster there is no such domain, and nothing changes.
fn searched_from(text: &str, namespace: &str) -> String {
    let domain = |domain: &str| match domain.split_once('.') {
        Some((_, rest)) if rest.starts_with("svc.") => format!("{namespace}.{rest}"),
        _ => domain.to_owned(),
    };
    let line = |line: &str| match line.strip_prefix("search ") {
        Some(domains) => format!("search {}\n", domains.split_whitespace().map(domain).collect::<Vec<_>>().join(" ")),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The addresses that a file in the format of hosts(5) gives to a name.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

fn prefer_v4(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.iter().any(IpAddr::is_ipv4) {
        addresses.retain(IpAddr::is_ipv4);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_looked_up_from_the_object_s_namespace() {
        let own = "nameserver 10.96.0.10\nsearch operators.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        let graph =
            "nameserver 10.96.0.10\nsearch graph.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        assert_eq!(searched_from(own, "graph"), graph);
        assert_eq!(searched_from("search example.com\n", "graph"), "search example.com\n");
    }

    use hickory_resolver::{
        config::NameServerConfig,
        proto::{
            op::{Message, ResponseCode},
            rr::{Name, RData, Record, RecordType},
        },
    };
    use std::str::FromStr;
    use tokio::net::UdpSocket;

    const HOSTS: &str = "127.0.0.1\tlocalhost\n::1 localhost ip6-localhost # comment one\n\n#10.0.0.9 gone\n\
                         10.0.0.1 zk-0.zk.graph.svc Zk-0\n10.0.0.2 zk-0\nnonsense zk-0\n";

    fn at(host: &str) -> Endpoint {
        Endpoint { host: host.into(), port: 2181 }
    }

    /// A DNS server that knows `names`, each at 10.1.1.1, and counts what it is asked; and a resolver that asks it.
    async fn serve(
        resolv_conf: &str,
        names: &'static [&'static str],
    ) -> (Resolver, tokio::sync::mpsc::Receiver<String>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (asked, questions) = tokio::sync::mpsc::channel(100);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = question.queries[0].clone();
                let name = query.name().to_string();
                let mut answer = Message::response(question.id, question.op_code);
                answer.add_query(query.clone());
                if names.contains(&name.as_str()) {
                    if query.query_type() == RecordType::A {
                        let address = RData::A("10.1.1.1".parse().unwrap());
                        answer.add_answer(Record::from_rdata(Name::from_str(&name).unwrap(), 30, address));
                    }
                } else {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                asked.try_send(name).unwrap();
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        (asking(resolv_conf, port), questions)
    }

    fn asking(resolv_conf: &str, port: u16) -> Resolver {
        let (config, options) = system_conf::parse_resolv_conf(resolv_conf).unwrap();
        let mut server = NameServerConfig::udp("127.0.0.1".parse().unwrap());
        server.connections[0].port = port;
        let config = ResolverConfig::from_parts(None, config.search().to_vec(), vec![server]);
        Resolver {
            hosts: "/nowhere".into(),
            dns: OnceCell::new_with(Some(Ok(dns(config, options).unwrap()))),
            ..Resolver::default()
        }
    }

    const POD: &str =
        "search graph.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.1\noptions ndots:5\n";

    #[test]
    fn hosts_are_read_as_hosts_5_says() {
        let found = |name| in_hosts(HOSTS, name).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(found("zk-0"), "10.0.0.1 10.0.0.2");
        assert_eq!(found("ZK-0.zk.graph.svc"), "10.0.0.1");
        assert_eq!(found("localhost"), "127.0.0.1 ::1");
        assert_eq!(found("gone") + &found("comment") + &found("10.0.0.1"), "");
    }

    #[test]
    fn ipv6_only_where_there_is_no_ipv4() {
        assert_eq!(prefer_v4(in_hosts(HOSTS, "localhost")), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(prefer_v4(in_hosts(HOSTS, "ip6-localhost")), ["::1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn literals_and_names_in_hosts_ask_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, HOSTS).unwrap();
        let (mut resolver, mut questions) = serve(POD, &[]).await;
        resolver.hosts = hosts;
        assert_eq!(resolver.addresses(&at("10.9.8.7")).await, Ok(vec!["10.9.8.7:2181".parse().unwrap()]));
        let both = vec!["10.0.0.1:2181".parse().unwrap(), "10.0.0.2:2181".parse().unwrap()];
        assert_eq!(resolver.addresses(&at("zk-0")).await, Ok(both));
        questions.try_recv().unwrap_err();
    }

    #[tokio::test]
    async fn short_names_are_found_in_the_search_domains_of_a_pod() {
        let (resolver, mut questions) =
            serve(POD, &["zk-0.zk.graph.svc.cluster.local.", "zk.other.svc.cluster.local.", "db.example.com."]).await;
        let found = Ok(vec!["10.1.1.1:2181".parse().unwrap()]);
        assert_eq!(resolver.addresses(&at("zk-0.zk")).await, found);
        assert_eq!(questions.recv().await.unwrap(), "zk-0.zk.graph.svc.cluster.local.");
        assert_eq!(resolver.addresses(&at("zk.other.svc")).await, found);
        assert_eq!(resolver.addresses(&at("zk.other.svc.cluster.local")).await, found);
        assert_eq!(resolver.addresses(&at("db.example.com")).await, found);
        assert_eq!(resolver.addresses(&at("zk-9.zk")).await, Err(ResolveError::Unknown { name: "zk-9.zk".into() }));
    }

    #[tokio::test]
    async fn a_silent_server_is_waited_for_within_the_bound() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = asking(POD, silent.local_addr().unwrap().port());
        let start = std::time::Instant::now();
        assert_eq!(resolver.addresses(&at("zk-0.zk")).await, Err(ResolveError::TimedOut { name: "zk-0.zk".into() }));
        assert!(start.elapsed() < NAME_BOUND + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn without_resolv_conf_the_error_names_the_file() {
        let resolver =
            Resolver { hosts: "/nowhere".into(), resolv_conf: "/nowhere/resolv.conf".into(), ..Resolver::default() };
        let error = resolver.addresses(&at("zk-0")).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/resolv.conf"), "{error}");
        assert_eq!(resolver.addresses(&at("127.0.0.1")).await, Ok(vec!["127.0.0.1:2181".parse().unwrap()]));
    }
}
