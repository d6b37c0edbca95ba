use super::*;
use proptest::prelude::*;
use tokio::net::TcpListener;

const ID: StoreId = StoreId { creation_time: 1_795_334_483_295, random_id: -3_368_555_925_325_939_961 };

fn head() -> Vec<u8> {
    [ID.creation_time.to_be_bytes(), ID.random_id.to_be_bytes(), 0x0030_2e41_2e30_7606_i64.to_be_bytes()].concat()
}

/// An answer with transactions from `first` on, each of `size` bytes.
fn with_transactions(first: i64, count: i64, size: usize) -> Vec<u8> {
    let mut answer = head();
    answer.push(1);
    answer.extend([0, 0, 0, 8]);
    answer.extend(DATA_SOURCE.encode_utf16().flat_map(u16::to_be_bytes));
    for id in first..first + count {
        answer.push(1);
        answer.extend(id.to_be_bytes());
        let entries = vec![0x5a; size];
        let blocks: Vec<_> = entries.chunks(255).collect();
        for (at, block) in blocks.iter().enumerate() {
            let last = at + 1 == blocks.len();
            answer.push(if last { u8::try_from(block.len()).unwrap() } else { 0 });
            answer.extend(*block);
        }
    }
    answer.push(0);
    answer
}

fn frame(flags: u8, version: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(content.len() + 2).unwrap().to_be_bytes().to_vec();
    frame.extend([flags, version]);
    frame.extend(content);
    frame
}

/// A server that answers one question with these bytes and closes, after it has read the whole request.
async fn serving(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; request(0).len()];
        stream.read_exact(&mut asked).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    });
    address
}

#[test]
fn the_request_is_laid_out_as_the_backup_tool_does() {
    let expected = "0000003c 0801 01 ffffffffffffffff ffffffff ffffffff 01 00000008 \
                    006e0069006f006e0065006f00640062 0000000000000006 ffffffff ffffffffffffffff";
    let expected = expected.replace(' ', "");
    let expected: Vec<u8> =
        (0..expected.len()).step_by(2).map(|at| u8::from_str_radix(&expected[at..at + 2], 16).unwrap()).collect();
    assert_eq!(request(6), expected);
}

#[tokio::test]
async fn a_member_that_has_nothing_newer_gives_its_store_id() {
    let mut answer = head();
    answer.push(0);
    let frame = frame(8, 1, &answer);
    assert_eq!(frame.len(), 4 + 27);
    assert_eq!(store_id(serving(frame).await).await, Ok(ID));
}

#[tokio::test]
async fn a_transaction_is_read_across_frames_and_no_further() {
    for size in [1, 254, 255, 256, 964] {
        let answer = with_transactions(4, 3, size);
        let mut bytes = frame(9, 1, &answer[..30]);
        bytes.extend(frame(9, 1, &answer[30..]));
        // Never read: the rest of the answer is not waited for.
        bytes.extend([0xff; 3]);
        let found = transaction(serving(bytes).await, 4).await.unwrap().unwrap();
        assert_eq!((found.id, found.entries), (4, vec![0x5a; size]));
    }
    let error = transaction(serving(frame(8, 1, &with_transactions(4, 1, 10))).await, 3).await.unwrap_err();
    assert_eq!(error, ProbeError::Skipped { asked: 3, served: 4 });
}

#[tokio::test]
async fn what_is_not_a_backup_server_is_told_apart() {
    let foreign = |bytes| async { store_id(serving(bytes).await).await.unwrap_err() };
    let http = foreign(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    assert_eq!(http, ProbeError::Foreign("its answer does not start with a frame's length".into()));
    let older = foreign(frame(4, 1, &[0; 25])).await;
    assert_eq!(older, ProbeError::Foreign("it speaks protocol version 1.1, not 2.1".into()));
    let master_port = foreign(frame(8, 4, &[0; 25])).await;
    assert_eq!(master_port, ProbeError::Foreign("it speaks protocol version 2.4, not 2.1".into()));
    let short = foreign(frame(8, 1, &head())).await;
    assert_eq!(short, ProbeError::Foreign("its answer ends too early".into()));
    let mut strange = head();
    strange.extend([1, 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(foreign(frame(8, 1, &strange)).await, ProbeError::Foreign(_)));
}

#[tokio::test]
async fn a_member_that_does_not_answer_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let start = std::time::Instant::now();
    let silent = store_id(address).await.unwrap_err();
    assert_eq!(silent, ProbeError::Unreachable("no answer within 5 s".into()));
    assert!(start.elapsed() < QUESTION_BOUND + Duration::from_secs(1));
    drop(listener);
    assert!(matches!(store_id(address).await, Err(ProbeError::Unreachable(_))));
    let closing = store_id(serving(frame(8, 1, &head())[..9].to_vec()).await).await.unwrap_err();
    assert_eq!(closing, ProbeError::Unreachable("it closed the connection without a whole answer".into()));
}

#[tokio::test]
async fn of_a_large_transaction_the_beginning_is_read() {
    // 25 MB, of which the member sends a few frames only: the rest is not waited for.
    let answer = with_transactions(4, 1, 25_000_000);
    for sent in [1 << 20, 8 << 20, answer.len()] {
        let bytes: Vec<u8> = answer[..sent].chunks(FRAME_LIMIT - 2).flat_map(|content| frame(9, 1, content)).collect();
        let found = transaction(serving(bytes).await, 4).await.unwrap().unwrap();
        assert_eq!((found.id, found.entries), (4, vec![0x5a; ENTRIES_BYTES_MAX]), "{sent} bytes");
    }
}

#[tokio::test]
async fn an_answer_without_a_transaction_is_cut_off() {
    let mut answer = head();
    answer.push(255);
    for _ in 0..255 {
        answer.extend([0, 0, 1, 0]);
        answer.extend([0; 512]);
    }
    assert!(answer.len() < ANSWER_LIMIT);
    let mut bytes = frame(9, 1, &answer);
    bytes.extend(frame(9, 1, &[7]));
    bytes.extend(frame(8, 1, &7_i64.to_be_bytes()));
    assert_eq!(
        transaction(serving(bytes).await, 7).await,
        Err(ProbeError::Foreign("its answer ends too early".into()))
    );
}

/// As `ObjectOutputStream` writes it: descriptions of classes and fields, then the strings.
fn thrown(class: &str, message: &str) -> Vec<u8> {
    let text =
        |tag: u8, text: &str| [&[tag][..], &u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let mut bytes = vec![0xac, 0xed, 0, 5, b's'];
    bytes.extend(text(b'r', class));
    bytes.extend([0x9e, 6, 0x47, 0x0a, 0x34, 0x83, 0xe5, 0xcd, 2, 0, 0]);
    for name in
        ["java.lang.Exception", "java.lang.Throwable", "Ljava/lang/Throwable;", "[Ljava/lang/StackTraceElement;"]
    {
        bytes.extend(text(b'r', name));
    }
    // A long stack trace may stand before the message.
    for _ in 0..40 {
        bytes.extend(text(b't', "org.neo4j.kernel.impl.transaction.xaframework.XaLogicalLog"));
    }
    bytes.extend(text(b't', message));
    bytes
}

#[tokio::test]
async fn an_exception_is_about_the_logs_only_if_it_says_so() {
    let fails = async |class: &str, message: &str| {
        transaction(serving(frame(10, 1, &thrown(class, message))).await, 5).await.unwrap_err()
    };
    let package = "org.neo4j.kernel.impl.transaction.xaframework";
    for (class, message) in [
        ("java.lang.RuntimeException", "txId:5 not found in any logical log (starting at 4 and searching backwards)"),
        (&format!("{package}.NoSuchLogVersionException"), "No such log version:4"),
        ("java.lang.RuntimeException", "Transaction 5 is missing and can't be extracted from logs"),
    ] {
        let error = fails(class, message).await;
        assert!(matches!(&error, ProbeError::LogsGone(text) if text.contains(message)), "{error:?}");
    }
    for (class, message) in [
        ("java.lang.IllegalStateException", "Database is shutting down, or is switching its role"),
        ("java.nio.channels.ClosedChannelException", "the log is closed"),
        ("java.lang.OutOfMemoryError", "Java heap space"),
    ] {
        let error = fails(class, message).await;
        assert_eq!(error, ProbeError::Exception(format!("{class} {message}")));
    }
    // Cut off, or of nothing.
    assert!(matches!(fails("x", "y").await, ProbeError::Exception(_)));
    assert_eq!(transaction(serving(frame(10, 1, &[])).await, 5).await, Err(ProbeError::Exception(String::new())));
}

proptest! {
    #[test]
    fn no_answer_makes_the_parser_panic(tail in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&tail);
        let _ = parse(&[head(), tail.clone()].concat());
    }

    #[test]
    fn a_truncated_answer_waits_for_more(cut in 0usize..1200) {
        let whole = with_transactions(4, 1, 1000);
        let first = whole.len() - 1;
        let parsed = parse(&whole[..cut.min(whole.len())]).unwrap();
        prop_assert_eq!(parsed.is_some(), cut >= first);
    }
}
