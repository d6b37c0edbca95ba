use super::*;
use std::{sync::Mutex, time::Instant};
use tokio::net::TcpListener;

/// What a server does to a connection, given its bytes.
type Behaviour = fn(TcpStream) -> BoxFuture<'static, std::io::Result<()>>;

const GRANTED: &[u8] = b"\0\0\0\x25\0\0\0\0\0\0\x1f\x40\x01\0\0\0\0\0\0\x07\0\0\0\x10a password of 16\0";

/// A server that behaves like this to every connection.
async fn server(behaviour: Behaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behaviour(stream));
        }
    });
    address
}

/// The next request, without its length.
async fn request(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = vec![0; usize::try_from(stream.read_u32().await?).unwrap()];
    stream.read_exact(&mut request).await?;
    Ok(request)
}

/// Reads the connect request and grants a session.
async fn grant(stream: &mut TcpStream) -> std::io::Result<()> {
    request(stream).await?;
    stream.write_all(GRANTED).await
}

/// Reads the connect request, sends these bytes and ends the connection.
fn says(mut stream: TcpStream, bytes: &'static [u8]) -> BoxFuture<'static, std::io::Result<()>> {
    Box::pin(async move {
        request(&mut stream).await?;
        stream.write_all(bytes).await
    })
}

fn framed(record: &[u8]) -> Vec<u8> {
    [&u32::try_from(record.len()).unwrap().to_be_bytes(), record].concat()
}

/// A reply to request `xid` with this error code and result.
fn answer(xid: &[u8], code: i32, result: &[u8]) -> Vec<u8> {
    framed(&[&xid[..4], &[0; 8], &code.to_be_bytes(), result].concat())
}

/// How many bytes a server gets rid of that streams without end after it announced 2 GiB.
async fn flood(stream: &mut TcpStream) -> std::io::Result<usize> {
    let mut sent = 0;
    stream.write_all(&i32::MAX.to_be_bytes()).await?;
    let piece = vec![0; 64 << 10];
    while stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
    }
    Ok(sent)
}

const A_SECOND: Duration = Duration::from_secs(1);

/// Why no session is had from a server of this behaviour within a second.
async fn no_session(behaviour: Behaviour) -> String {
    let start = Instant::now();
    let server = server(behaviour).await;
    let error = Session::open_within(&[server], A_SECOND).await.err().expect("no session is to be had");
    assert!(start.elapsed() < A_SECOND + Duration::from_millis(500), "it took {:?}", start.elapsed());
    error.to_string().replace(&server.to_string(), "SERVER")
}

/// What a session says whose server behaves like this once it has granted it; and how long it took.
async fn reading(behaviour: Behaviour) -> (Result<Option<Znode>, EnsembleError>, Duration) {
    let session = Session::open(&[server(behaviour).await]).await.expect("it grants sessions");
    let start = Instant::now();
    let answer = session.znode("/a").await;
    (answer, start.elapsed())
}

async fn lost(behaviour: Behaviour, why: &str) {
    let (answer, took) = reading(behaviour).await;
    assert_eq!(answer, Err(EnsembleError::Unavailable(format!("reading /a: {why}"))));
    assert!(took < SERVER_TIMEOUT + A_SECOND, "it took {took:?}");
}

#[tokio::test]
async fn no_session_comes_of_servers_that_do_not_speak_the_protocol() {
    const FOREIGN: &str = "no session within 1 s; what listens at SERVER does not speak ZooKeeper's protocol";
    const NONE: &str = "no session within 1 s";
    let cases: [(Behaviour, &str); 9] = [
        (|stream| says(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n"), FOREIGN),
        (|stream| says(stream, &[0xff, 0xff, 0xff, 0xfe]), FOREIGN),
        (|stream| says(stream, b"\0\0\0\x04\xff\xff\xff\xff"), FOREIGN),
        (|mut stream| Box::pin(async move { flood(&mut stream).await.map(drop) }), FOREIGN),
        // Says nothing; ends; ends in the middle.
        (|mut stream| Box::pin(async move { stream.read_to_end(&mut Vec::new()).await.map(drop) }), NONE),
        (|stream| says(stream, b""), NONE),
        (|stream| says(stream, &GRANTED[..30]), NONE),
        // Grants a session that times out at once.
        (|stream| says(stream, b"\0\0\0\x24\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x07\0\0\0\x10a password of 16"), NONE),
        // Is read-only.
        (
            |stream| says(stream, b"\0\0\0\x25\0\0\0\0\0\0\x1f\x40\x01\0\0\0\0\0\0\x07\0\0\0\x10a password of 16\x01"),
            NONE,
        ),
    ];
    for (case, found) in
        futures::future::join_all(cases.map(|(behaviour, _)| no_session(behaviour))).await.iter().enumerate()
    {
        assert_eq!(found, cases[case].1, "case {case}");
    }
}

#[tokio::test]
async fn a_silent_server_is_left_for_the_next() {
    let silent = server(|mut s| Box::pin(async move { s.read_to_end(&mut Vec::new()).await.map(drop) })).await;
    let good = server(|mut s| {
        Box::pin(async move {
            grant(&mut s).await?;
            s.read_to_end(&mut Vec::new()).await.map(drop)
        })
    })
    .await;
    // Half of them ask the silent one first.
    let start = Instant::now();
    let servers = [silent, good];
    let sessions = futures::future::join_all((0..10).map(|_| Session::open(&servers))).await;
    assert!(sessions.iter().all(Result::is_ok));
    assert!(start.elapsed() < SERVER_TIMEOUT + A_SECOND, "it took {:?}", start.elapsed());
}

#[tokio::test]
async fn sessions_spread_over_the_servers() {
    static ASKED: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    let behaviour: Behaviour = |mut stream| {
        Box::pin(async move {
            grant(&mut stream).await?;
            ASKED.lock().unwrap().insert(stream.local_addr()?);
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        })
    };
    let servers = [server(behaviour).await, server(behaviour).await];
    for _ in 0..50 {
        Session::open(&servers).await.unwrap();
    }
    sleep(Duration::from_millis(50)).await;
    assert_eq!(*ASKED.lock().unwrap(), BTreeSet::from(servers));
}

#[tokio::test]
async fn servers_that_refuse_are_not_asked_without_a_pause() {
    static ASKED: Mutex<usize> = Mutex::new(0);
    let error = no_session(|mut stream| {
        Box::pin(async move {
            *ASKED.lock().unwrap() += 1;
            request(&mut stream).await.map(drop)
        })
    })
    .await;
    assert_eq!(error, "no session within 1 s");
    // After 0, 100, 300 and 700 ms.
    assert!((2..=4).contains(&*ASKED.lock().unwrap()), "{} times", ASKED.lock().unwrap());
}

#[tokio::test]
async fn only_so_many_requests_wait_for_their_replies() {
    static ASKED: Mutex<usize> = Mutex::new(0);
    let behaviour: Behaviour = |mut stream| {
        Box::pin(async move {
            grant(&mut stream).await?;
            loop {
                request(&mut stream).await?;
                *ASKED.lock().unwrap() += 1;
            }
        })
    };
    let session = Session::open(&[server(behaviour).await]).await.unwrap();
    futures::future::join_all((0..300).map(|_| session.znode("/a"))).await;
    let asked = *ASKED.lock().unwrap();
    // One more is what the reader waits for.
    assert!((OUTSTANDING_MAX..=OUTSTANDING_MAX + 1).contains(&asked), "{asked} requests were sent");
}

#[tokio::test]
async fn two_gib_are_neither_read_nor_held() {
    static SENT: Mutex<Option<usize>> = Mutex::new(None);
    lost(
        |mut s| {
            Box::pin(async move {
                grant(&mut s).await?;
                request(&mut s).await?;
                *SENT.lock().unwrap() = Some(flood(&mut s).await?);
                Ok(())
            })
        },
        "it announced a frame of 2147483647 bytes, and ZooKeeper sends 1 to 1048576",
    )
    .await;
    // The rest is what the kernel takes for a reader that does not read.
    let deadline = Instant::now() + Duration::from_secs(10);
    let sent = loop {
        if let Some(sent) = *SENT.lock().unwrap() {
            break sent;
        }
        assert!(Instant::now() < deadline, "the connection stays open");
        sleep(Duration::from_millis(10)).await;
    };
    assert!(sent < 32 << 20, "{sent} bytes were taken");
}

#[tokio::test]
async fn no_more_is_read_than_the_length_of_a_frame_that_is_too_long() {
    let mut sent: &[u8] = b"\x7f\xff\xff\xffand so on";
    let error = read_frame(&mut sent).await.unwrap_err();
    assert!(matches!(error, SessionError::Wire(WireError::FrameLength(i32::MAX))), "{error}");
    assert_eq!(sent, b"and so on");
}

#[tokio::test]
async fn two_long_frames_are_held_at_the_same_time_and_no_more() {
    let announced = u32::try_from(wire::FRAME_BYTES_MAX).unwrap().to_be_bytes();
    let mut whole = &[&announced[..], &vec![7; wire::FRAME_BYTES_MAX], b"next"].concat()[..];
    let frame = read_frame(&mut whole).await.unwrap();
    assert_eq!((frame.bytes.len(), whole), (wire::FRAME_BYTES_MAX, &b"next"[..]));
    // Two are held already: this one has to wait, and the small one does not.
    let long = [&announced[..], &vec![7; wire::FRAME_BYTES_MAX]].concat();
    let second = read_frame(&mut &long[..]).await.unwrap();
    timeout(Duration::from_millis(50), read_frame(&mut &long[..])).await.expect_err("a third one is read");
    read_frame(&mut &framed(b"small")[..]).await.unwrap();
    drop((frame, second));
}

#[tokio::test]
async fn frames_that_are_cut_anywhere_are_errors() {
    let whole = framed(b"twenty bytes of data");
    for length in 0..whole.len() {
        let error = read_frame(&mut &whole[..length]).await.unwrap_err();
        assert!(matches!(error, SessionError::Closed), "{length}: {error}");
    }
    assert_eq!(read_frame(&mut &whole[..]).await.unwrap().bytes, b"twenty bytes of data");
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one story")]
async fn a_session_is_lost_with_its_connection_and_says_why() {
    let silent = lost(
        |mut s| {
            Box::pin(async move {
                grant(&mut s).await?;
                s.read_to_end(&mut Vec::new()).await.map(drop)
            })
        },
        "the server did not answer within 2 s",
    );
    let closed = lost(
        |mut s| {
            Box::pin(async move {
                grant(&mut s).await?;
                request(&mut s).await.map(drop)
            })
        },
        "the server closed the connection",
    );
    let cut = lost(
        |mut s| {
            Box::pin(async move {
                grant(&mut s).await?;
                let request = request(&mut s).await?;
                s.write_all(&answer(&request, 0, &[0; 72])[..50]).await
            })
        },
        "the server closed the connection",
    );
    let negative = lost(
        |mut s| {
            Box::pin(async move {
                grant(&mut s).await?;
                request(&mut s).await?;
                s.write_all(&i32::MIN.to_be_bytes()).await?;
                s.read_to_end(&mut Vec::new()).await.map(drop)
            })
        },
        "it announced a frame of -2147483648 bytes, and ZooKeeper sends 1 to 1048576",
    );
    let other = lost(
        |mut s| {
            Box::pin(async move {
                grant(&mut s).await?;
                request(&mut s).await?;
                s.write_all(&answer(&9_i32.to_be_bytes(), 0, &[0; 72])).await?;
                s.read_to_end(&mut Vec::new()).await.map(drop)
            })
        },
        "it answered request 9 in place of request 1",
    );
    let garbage = lost(
        |mut s| {
            Box::pin(async move {
                grant(&mut s).await?;
                let request = request(&mut s).await?;
                s.write_all(&answer(&request, 0, b"garbage")).await?;
                s.read_to_end(&mut Vec::new()).await.map(drop)
            })
        },
        "its reply ends within the data of a znode",
    );
    futures::join!(silent, closed, cut, negative, other, garbage);
}

#[tokio::test]
async fn every_question_to_a_lost_session_says_why_it_was_lost() {
    let behaviour: Behaviour = |mut s| {
        Box::pin(async move {
            grant(&mut s).await?;
            request(&mut s).await.map(drop)
        })
    };
    let session = Session::open(&[server(behaviour).await]).await.unwrap();
    // Sent before the connection is lost, and after.
    let (first, second) = futures::join!(session.znode("/a"), session.znode("/a"));
    let third = session.znode("/a").await;
    // The server closes with a request unread or not, which the kernel tells apart.
    let why = session.end.get().expect("it is over");
    assert!(why == "the server closed the connection" || why.starts_with("the connection failed: "), "{why}");
    let lost = Err(EnsembleError::Unavailable(format!("reading /a: {why}")));
    assert_eq!([first, second, third], [lost.clone(), lost.clone(), lost]);
}

#[tokio::test]
async fn replies_go_to_those_who_asked_in_the_order_of_the_requests() {
    let behaviour: Behaviour = |mut s| {
        Box::pin(async move {
            grant(&mut s).await?;
            let mut replies = Vec::new();
            // Answered only when all have come: nobody waits for the reply to another's request before asking.
            for number in 1..=40_u8 {
                let request = request(&mut s).await?;
                replies.extend(answer(&request, 0, &[&[0, 0, 0, 1, number][..], &[0; 68]].concat()));
            }
            s.write_all(&replies).await?;
            s.read_to_end(&mut Vec::new()).await.map(drop)
        })
    };
    let session = Session::open(&[server(behaviour).await]).await.unwrap();
    let answers = futures::future::join_all((1..=40_u8).map(|_| session.znode("/a"))).await;
    let numbers: Vec<u8> = answers.into_iter().map(|answer| answer.unwrap().unwrap().data[0]).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_session_is_closed_and_the_server_is_let_finish() {
    static CLOSED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let behaviour: Behaviour = |mut s| {
        Box::pin(async move {
            grant(&mut s).await?;
            let close = request(&mut s).await?;
            timeout(Duration::from_millis(100), s.read_u8()).await.expect_err("the connection ends before the reply");
            s.write_all(&answer(&close, 0, b"")).await?;
            s.read_to_end(&mut Vec::new()).await?;
            *CLOSED.lock().unwrap() = close;
            Ok(())
        })
    };
    drop(Session::open(&[server(behaviour).await]).await.unwrap());
    for _ in 0..100 {
        sleep(Duration::from_millis(10)).await;
        if !CLOSED.lock().unwrap().is_empty() {
            break;
        }
    }
    assert_eq!(*CLOSED.lock().unwrap(), Request::Close.frame(1)[4..]);
}

#[test]
fn refusals_say_what_they_are_about() {
    for code in [code::NO_NODE, code::BAD_ARGUMENTS] {
        assert_eq!(refused::<()>("/a", code), Ok(None));
    }
    for code in [code::NO_AUTH, code::INVALID_ACL, code::AUTH_FAILED, code::SASL_REQUIRED] {
        let error = refused::<()>("/a", code).unwrap_err();
        assert!(matches!(&error, EnsembleError::Refused { path, .. } if path == "/a"), "{code}: {error}");
    }
    for code in [code::SESSION_EXPIRED, code::SESSION_MOVED, code::THROTTLED, -1, 1] {
        let error = refused::<()>("/a", code).unwrap_err();
        assert!(matches!(&error, EnsembleError::Unavailable(detail) if detail.contains("/a")), "{code}: {error}");
    }
}
