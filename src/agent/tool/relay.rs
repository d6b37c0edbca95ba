//! Gentle on the master: the tool's connections to the member pass through the agent, no faster than the limit.
//!
//! The tool is pointed at a port on loopback. Each of its connections gets one of its own to the member, and bytes go
//! both ways as they are: nothing of the protocol is read. What comes from the member is read no faster than the limit,
//! so TCP itself slows the member down.

use crate::agent::progress::{self, Step};
use crate::agent::tool::rate::Rate;
use crate::api::{Endpoint, Reason};
use crate::contract::failure::Failure;
use crate::discovery::Network;
use futures::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Connections at a time. The tool of 1.8 has one; further ones wait until one ends.
const CONNECTIONS_MAX: usize = 8;
/// What a connection holds of the bytes that come from the member.
const FROM_MEMBER_BYTES: usize = 64 << 10;
/// What a connection holds of the bytes that the tool sends: its requests are small.
const FROM_TOOL_BYTES: usize = 8 << 10;
/// How often the log is told how many bytes have come.
const PROGRESS_PERIOD: Duration = Duration::from_secs(5);
/// Pause after a connection could not be taken, which has to do with this machine and may pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection ended before both sides had closed it.
#[derive(Debug)]
enum Broken {
    /// The tool's side. It knows why.
    Tool,
    /// The member's side.
    Member(io::Error),
}

/// Passes the tool's connections on to a member.
#[derive(Debug)]
pub struct Relay<'a> {
    network: &'a Network,
    member: &'a Endpoint,
    listener: TcpListener,
    endpoint: Endpoint,
    rate: Rate,
    /// Bytes that came from the member.
    received: Cell<u64>,
    /// When the first and the last of them came.
    came: Cell<Option<(Instant, Instant)>>,
    /// The first that went wrong between here and the member.
    broken: RefCell<Option<String>>,
}

impl<'a> Relay<'a> {
    /// Listens on loopback. Connections are taken [`during`](Self::during) the work that makes them.
    pub async fn listen(member: &'a Endpoint, limit: NonZeroU64, network: &'a Network) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let endpoint = Endpoint { host: Ipv4Addr::LOCALHOST.to_string(), port: listener.local_addr()?.port() };
        progress::message(Step::Tool, &format!("{endpoint} leads to {member}, {limit} bytes a second at most"));
        let (received, came, broken) = (Cell::new(0), Cell::new(None), RefCell::new(None));
        Ok(Self { network, member, listener, endpoint, rate: Rate::new(limit), received, came, broken })
    }

    /// What the tool connects to instead of the member.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Does `work` while the relay serves. Every connection ends with it.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let done = tokio::select! {
            biased;
            done = work => done,
            never = self.serve() => match never {},
        };
        let seconds = self.came.get().map_or(Duration::ZERO, |(first, last)| last - first).as_secs_f64();
        let bytes = self.received.get();
        progress::message(Step::Tool, &format!("{bytes} bytes came from {} in {seconds:.1} s", self.member));
        done
    }

    /// The failure of the work, with what was seen of the connection to the member. A tool that only says that
    /// something went wrong when its connection broke could not reach the member.
    pub fn explain(&self, failure: Failure) -> Failure {
        match (failure.reason, self.broken.take()) {
            (Reason::ToolFailed, Some(broken)) => {
                Failure::new(Reason::MasterUnreachable, format!("{broken}; {}", failure.message))
            }
            (Reason::MasterUnreachable, Some(broken)) => failure.and(broken),
            _ => failure,
        }
    }

    async fn serve(&self) -> Infallible {
        let mut connections = FuturesUnordered::new();
        let mut period = interval(PROGRESS_PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = 0;
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((tool, _)) => connections.push(self.pass(tool)),
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                Some(()) = connections.next() => {}
                _ = period.tick() => {
                    let received = self.received.get();
                    if received > told {
                        progress::bytes(Step::Tool, received);
                        told = received;
                    }
                }
            }
        }
    }

    /// One connection of the tool, from its beginning to its end.
    async fn pass(&self, mut tool: TcpStream) {
        let mut member = match self.network.connect(self.member).await {
            Ok(member) => member,
            Err(error) => {
                self.broke(error.to_string());
                return reset(&tool);
            }
        };
        // Requests are small and wait for their answer.
        let _ = tool.set_nodelay(true).and(member.set_nodelay(true));
        let tool_has_closed = Cell::new(false);
        let passed = {
            let (from_tool, to_tool) = tool.split();
            let (from_member, to_member) = member.split();
            let up = self.up(from_tool, to_member, &tool_has_closed);
            let down = self.down(from_member, to_tool, &tool_has_closed);
            tokio::try_join!(up, down)
        };
        if let Err(broken) = passed {
            // After the tool has closed, a member that resets what it could not send is no surprise.
            if let Broken::Member(error) = broken
                && !tool_has_closed.get()
            {
                self.broke(format!("the connection to {} broke: {error}", self.member));
            }
            // What broke on one side must not look on the other as if it had been closed in order.
            reset(&tool);
            reset(&member);
        }
    }

    async fn up(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, closed: &Cell<bool>) -> Result<(), Broken> {
        let mut buffer = vec![0; FROM_TOOL_BYTES];
        loop {
            let read = from.read(&mut buffer).await.map_err(|_| Broken::Tool)?;
            if read == 0 {
                closed.set(true);
                return to.shutdown().await.map_err(Broken::Member);
            }
            to.write_all(&buffer[..read]).await.map_err(Broken::Member)?;
        }
    }

    async fn down(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, closed: &Cell<bool>) -> Result<(), Broken> {
        let mut buffer = vec![0; self.rate.portion(FROM_MEMBER_BYTES)];
        loop {
            let read = from.read(&mut buffer).await.map_err(Broken::Member)?;
            if read == 0 {
                if !closed.get() {
                    // A member that is killed or shut down does this; one that serves lets the tool close first.
                    self.broke(format!("{} closed the connection", self.member));
                }
                return to.shutdown().await.map_err(|_| Broken::Tool);
            }
            self.count(read);
            self.rate.pay(read).await;
            to.write_all(&buffer[..read]).await.map_err(|_| Broken::Tool)?;
        }
    }

    fn count(&self, bytes: usize) {
        let now = Instant::now();
        self.received.set(self.received.get() + bytes as u64);
        self.came.set(Some((self.came.get().map_or(now, |(first, _)| first), now)));
    }

    fn broke(&self, what: String) {
        progress::message(Step::Tool, &what);
        self.broken.borrow_mut().get_or_insert(what);
    }
}

/// Lets the other side see a reset when the connection is dropped.
fn reset(connection: &TcpStream) {
    // Where it cannot be set the other side sees an early end instead.
    let _ = connection.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;
    use tokio::time::timeout;

    const UNLIMITED: u64 = u64::MAX;
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A member that does not answer by itself, and what leads to it.
    struct Scene {
        member: TcpListener,
        endpoint: Endpoint,
        network: Network,
    }

    impl Scene {
        async fn new() -> Self {
            let member = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = Endpoint { host: "127.0.0.1".into(), port: member.local_addr().unwrap().port() };
            Self { member, endpoint, network: Network::bounded(Duration::from_secs(2)) }
        }

        async fn relay(&self, limit: u64) -> Relay<'_> {
            Relay::listen(&self.endpoint, NonZeroU64::new(limit).unwrap(), &self.network).await.unwrap()
        }

        /// Both ends of a new connection: the tool's and the member's.
        async fn connected(&self, relay: &Relay<'_>) -> (TcpStream, TcpStream) {
            let tool = connect(relay).await;
            (tool, self.member.accept().await.unwrap().0)
        }
    }

    async fn connect(relay: &Relay<'_>) -> TcpStream {
        TcpStream::connect((relay.endpoint().host.as_str(), relay.endpoint().port)).await.unwrap()
    }

    /// What the test does while the relay serves, bounded.
    async fn during<T>(relay: &Relay<'_>, work: impl Future<Output = T>) -> T {
        timeout(PATIENCE, relay.during(work)).await.expect("it hangs")
    }

    fn bytes(count: u32) -> Vec<u8> {
        (0..count).flat_map(u32::to_be_bytes).collect()
    }

    fn explained(relay: &Relay<'_>, reason: Reason) -> Failure {
        relay.explain(Failure::new(reason, "the tool said no"))
    }

    #[tokio::test]
    async fn bytes_arrive_whole_and_in_order_both_ways() {
        let scene = Scene::new().await;
        let relay = scene.relay(UNLIMITED).await;
        let (down, up) = (bytes(2_000_000), bytes(500_000));
        let (came_down, came_up) = during(&relay, async {
            let (mut tool, mut member) = scene.connected(&relay).await;
            let (mut tool_reads, mut tool_writes) = tool.split();
            let (mut member_reads, mut member_writes) = member.split();
            let (mut came_down, mut came_up) = (vec![0; down.len()], Vec::new());
            // The tool closes its half first, and still gets the rest.
            let sent_up = async {
                tool_writes.write_all(&up).await.unwrap();
                tool_writes.shutdown().await.unwrap();
                member_reads.read_to_end(&mut came_up).await.unwrap();
            };
            tokio::join!(sent_up, async { member_writes.write_all(&down).await.unwrap() }, async {
                tool_reads.read_exact(&mut came_down).await.unwrap();
            });
            member_writes.write_all(b"end").await.unwrap();
            member_writes.shutdown().await.unwrap();
            tool_reads.read_to_end(&mut came_down).await.unwrap();
            (came_down, came_up)
        })
        .await;
        assert!(came_up == up && came_down.len() == down.len() + 3);
        assert!(came_down.starts_with(&down) && came_down.ends_with(b"end"));
        assert_eq!(relay.received.get(), came_down.len() as u64);
        assert_eq!(explained(&relay, Reason::ToolFailed).reason, Reason::ToolFailed, "nothing broke");
    }

    #[tokio::test]
    async fn what_comes_from_the_member_is_slowed_down_and_requests_are_not() {
        let scene = Scene::new().await;
        let relay = scene.relay(4 << 20).await;
        let ((), (), requested, seconds) = during(&relay, async {
            let (mut tool, mut member) = scene.connected(&relay).await;
            let begin = Instant::now();
            let (answer, request) = (vec![7; 4 << 20], vec![8; 4 << 20]);
            let (mut got, mut asked) = (vec![0; answer.len()], vec![0; request.len()]);
            tool.write_all(&request[..1]).await.unwrap();
            let (mut tool_reads, mut tool_writes) = tool.split();
            let (mut member_reads, mut member_writes) = member.split();
            tokio::join!(
                async { member_writes.write_all(&answer).await.unwrap() },
                async { tool_writes.write_all(&request[1..]).await.unwrap() },
                async {
                    member_reads.read_exact(&mut asked).await.unwrap();
                    begin.elapsed().as_secs_f64()
                },
                async {
                    tool_reads.read_exact(&mut got).await.unwrap();
                    begin.elapsed().as_secs_f64()
                }
            )
        })
        .await;
        assert!((0.85..3.0).contains(&seconds) && requested < seconds / 2.0, "{seconds} {requested}");
    }

    #[tokio::test]
    async fn a_member_that_breaks_is_told_from_a_tool_that_does() {
        let scene = Scene::new().await;
        for resets in [true, false] {
            let relay = scene.relay(UNLIMITED).await;
            let ended = during(&relay, async {
                let (mut tool, mut member) = scene.connected(&relay).await;
                member.write_all(b"half an ans").await.unwrap();
                tool.read_exact(&mut [0; 11]).await.unwrap();
                if resets {
                    reset(&member);
                }
                drop(member);
                tool.read(&mut [0; 1]).await.map_err(|error| error.kind())
            })
            .await;
            // A reset stays a reset, an end an end.
            assert_eq!(ended, if resets { Err(io::ErrorKind::ConnectionReset) } else { Ok(0) });
            let failure = explained(&relay, Reason::ToolFailed);
            assert_eq!(failure.reason, Reason::MasterUnreachable);
            let said = if resets { "broke: Connection reset" } else { "closed the connection; the tool said no" };
            assert!(failure.message.contains(said), "{}", failure.message);
        }
        let relay = scene.relay(UNLIMITED).await;
        during(&relay, async {
            let (mut tool, mut member) = scene.connected(&relay).await;
            member.write_all(&vec![0; 1 << 20]).await.unwrap();
            tool.read_exact(&mut [0; 11]).await.unwrap();
            reset(&tool);
            drop(tool);
            let _ = member.read(&mut [0; 1]).await;
            reset(&member);
        })
        .await;
        assert_eq!(explained(&relay, Reason::ToolFailed).reason, Reason::ToolFailed);
    }

    #[tokio::test]
    async fn a_member_that_is_not_there() {
        let scene = Scene::new().await;
        let relay = scene.relay(UNLIMITED).await;
        let nobody = Endpoint { host: "127.0.0.1".into(), port: 1 };
        let relay = Relay { member: &nobody, ..relay };
        let read = during(&relay, async { connect(&relay).await.read(&mut [0; 1]).await }).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let failure = explained(&relay, Reason::MasterUnreachable);
        assert!(failure.message.starts_with("the tool said no; the backup port of 127.0.0.1:1"), "{}", failure.message);
        assert!(failure.message.contains("refused"), "{}", failure.message);
    }

    #[tokio::test]
    async fn further_connections_wait_and_all_end_with_the_work() {
        let scene = Scene::new().await;
        let relay = scene.relay(UNLIMITED).await;
        let (mut tools, mut members) = during(&relay, async {
            let (mut tools, mut members) = (Vec::new(), Vec::new());
            for _ in 0..CONNECTIONS_MAX {
                let (tool, member) = scene.connected(&relay).await;
                tools.push(tool);
                members.push(member);
            }
            let one_more = connect(&relay).await;
            timeout(Duration::from_millis(200), scene.member.accept()).await.unwrap_err();
            drop((tools.pop(), members.pop()));
            members.push(scene.member.accept().await.unwrap().0);
            tools.push(one_more);
            (tools, members)
        })
        .await;
        for end in tools.iter_mut().chain(&mut members) {
            assert_eq!(timeout(PATIENCE, end.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
        }
        drop(relay);
    }

    #[tokio::test]
    async fn a_tool_that_does_not_read_holds_up_the_member_not_the_memory() {
        let scene = Scene::new().await;
        let relay = scene.relay(UNLIMITED).await;
        during(&relay, async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let _tool = socket.connect((Ipv4Addr::LOCALHOST, relay.endpoint().port).into()).await.unwrap();
            let mut member = scene.member.accept().await.unwrap().0;
            let endless = vec![0; 1 << 20];
            let sent = async { while member.write_all(&endless).await.is_ok() {} };
            timeout(Duration::from_millis(500), sent).await.unwrap_err();
        })
        .await;
        assert!(relay.received.get() < 32 << 20, "{}", relay.received.get());
    }
}
