//! A member of the database as far as the agent asks: its backup port, which answers a probe with a store id and a
//! transaction.

use graph_backup_operator::api::StoreId;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers until the test ends.
pub struct Member {
    pub port: u16,
    served: Arc<Mutex<Served>>,
}

struct Served {
    store_id: StoreId,
    transactions: BTreeMap<i64, Vec<u8>>,
    /// What it answers with when it is asked for a transaction.
    exception: Option<&'static str>,
    /// It closes every connection at once.
    hangs_up: bool,
    /// How often it was asked anything.
    questions: usize,
}

impl Member {
    pub fn serving(store_id: StoreId) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let transactions = BTreeMap::new();
        let served =
            Arc::new(Mutex::new(Served { store_id, transactions, exception: None, hangs_up: false, questions: 0 }));
        let asked = served.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // The agent may be killed while it asks.
                let mut served = asked.lock().unwrap();
                served.questions += 1;
                let _ = answer(connection, &served);
            }
        });
        Self { port, served }
    }

    /// From now on it serves another database, as after a restore.
    pub fn now_serves(&self, store_id: StoreId) {
        self.served.lock().unwrap().store_id = store_id;
    }

    /// Its log holds this transaction.
    pub fn holds(&self, id: i64, entries: &[u8]) {
        self.served.lock().unwrap().transactions.insert(id, entries.to_vec());
    }

    /// Its history ends before it began.
    pub fn forgets(&self) {
        self.served.lock().unwrap().transactions.clear();
    }

    /// Its logs are deleted.
    pub fn loses_its_logs(&self) {
        self.answers_with("java.lang.RuntimeException: txId:5 not found in any logical log");
    }

    /// Asked for a transaction it answers with this exception.
    pub fn answers_with(&self, exception: &'static str) {
        self.served.lock().unwrap().exception = Some(exception);
    }

    /// It answers with exceptions no more.
    pub fn recovers(&self) {
        self.served.lock().unwrap().exception = None;
    }

    /// It closes every connection, or serves again.
    pub fn hangs_up(&self, hangs_up: bool) {
        self.served.lock().unwrap().hangs_up = hangs_up;
    }

    /// How often it was asked anything so far.
    pub fn questions(&self) -> usize {
        self.served.lock().unwrap().questions
    }
}

/// The most bytes in a frame after its length.
const FRAME_BYTES: usize = 4 << 20;

/// One request frame in, one answer out.
fn answer(mut connection: TcpStream, served: &Served) -> io::Result<()> {
    if served.hangs_up {
        return Ok(());
    }
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap().min(4096)];
    connection.read_exact(&mut request)?;
    // Headers, type, session, machine, event, number of sources, and the name of the source stand before it.
    let last = i64::from_be_bytes(request[40..48].try_into().unwrap());
    // Far beyond every transaction asks for the store id alone.
    if let Some(exception) = served.exception.filter(|_| last < i64::MAX / 2) {
        return send(&mut connection, 0x0a, &[b"\0\x10", exception.as_bytes()].concat());
    }
    let mut content = Vec::new();
    for number in [served.store_id.creation_time, served.store_id.random_id, 0x0030_2e41_2e30_7606] {
        content.extend(number.to_be_bytes());
    }
    content.extend(served.transactions.get(&(last + 1)).map_or(vec![0], |entries| transaction(last + 1, entries)));
    let mut pieces = content.chunks(FRAME_BYTES - 2).peekable();
    while let Some(piece) = pieces.next() {
        send(&mut connection, if pieces.peek().is_some() { 0x09 } else { 0x08 }, piece)?;
    }
    Ok(())
}

/// One frame: its length, the flags with the version of the protocol, and the content.
fn send(connection: &mut TcpStream, flags: u8, content: &[u8]) -> io::Result<()> {
    connection.write_all(&u32::try_from(content.len() + 2).unwrap().to_be_bytes())?;
    connection.write_all(&[flags, 0x01])?;
    connection.write_all(content)
}

/// One data source, one transaction in blocks of 255 bytes and a last one, no more transactions.
fn transaction(id: i64, entries: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = "nioneodb".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut bytes = vec![1, 0, 0, 0, 8];
    bytes.extend(name);
    bytes.push(1);
    bytes.extend(id.to_be_bytes());
    let (blocks, rest) = entries.split_at(entries.len() / 255 * 255);
    for block in blocks.chunks(255) {
        bytes.push(0);
        bytes.extend(block);
    }
    bytes.push(u8::try_from(rest.len()).unwrap());
    bytes.extend(rest);
    bytes.push(0);
    bytes
}
