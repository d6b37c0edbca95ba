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
    /// Asked for a transaction it answers with an exception.
    logs_gone: bool,
}

impl Member {
    pub fn serving(store_id: StoreId) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let transactions = BTreeMap::new();
        let served = Arc::new(Mutex::new(Served { store_id, transactions, logs_gone: false }));
        let asked = served.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // The agent may be killed while it asks.
                let _ = answer(connection, &asked.lock().unwrap());
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
        self.served.lock().unwrap().logs_gone = true;
    }
}

/// One request frame in, one frame out.
fn answer(mut connection: TcpStream, served: &Served) -> io::Result<()> {
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap().min(4096)];
    connection.read_exact(&mut request)?;
    // Headers, type, session, machine, event, number of sources, and the name of the source stand before it.
    let last = i64::from_be_bytes(request[40..48].try_into().unwrap());
    let mut content = vec![0x08, 0x01];
    // Far beyond every transaction asks for the store id alone.
    if served.logs_gone && last < i64::MAX / 2 {
        content[0] |= 2;
        content.extend(b"\0\x10java.lang.RuntimeException: txId:5 not found in any logical log");
    } else {
        for number in [served.store_id.creation_time, served.store_id.random_id, 0x0030_2e41_2e30_7606] {
            content.extend(number.to_be_bytes());
        }
        content.extend(served.transactions.get(&(last + 1)).map_or(vec![0], |entries| transaction(last + 1, entries)));
    }
    connection.write_all(&u32::try_from(content.len()).unwrap().to_be_bytes())?;
    connection.write_all(&content)
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
