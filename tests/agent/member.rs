//! A member of the database as far as the fence asks: its backup port, which answers a probe with a store id.

use graph_backup_operator::api::StoreId;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers until the test ends.
pub struct Member {
    pub port: u16,
    store_id: Arc<Mutex<StoreId>>,
}

impl Member {
    pub fn serving(store_id: StoreId) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let store_id = Arc::new(Mutex::new(store_id));
        let served = store_id.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let store_id = *served.lock().unwrap();
                // The agent may be killed while it asks.
                let _ = answer(connection, store_id);
            }
        });
        Self { port, store_id }
    }

    /// From now on it serves another database, as after a restore.
    pub fn now_serves(&self, store_id: StoreId) {
        *self.store_id.lock().unwrap() = store_id;
    }
}

/// One request frame in, one frame out: the store id and no transactions.
fn answer(mut connection: TcpStream, store_id: StoreId) -> io::Result<()> {
    let mut length = [0; 4];
    connection.read_exact(&mut length)?;
    let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap().min(4096)];
    connection.read_exact(&mut request)?;
    let mut frame = vec![0, 0, 0, 27, 0x08, 0x01];
    for number in [store_id.creation_time, store_id.random_id, 0x0030_2e41_2e30_7606] {
        frame.extend(number.to_be_bytes());
    }
    frame.push(0);
    connection.write_all(&frame)
}
