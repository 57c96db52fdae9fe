//! Listening sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use paas_core::ErrorKind;

use super::{Bench, cases};

cases![
    connections_queue_while_nobody_accepts,
    a_name_keeps_its_port_over_keepers,
    a_socket_is_given_back_to_a_new_keeper,
    a_taken_port_is_named,
];

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn connections_queue_while_nobody_accepts() {
    let bench = Bench::new().await;
    let addr = bench.keeper.listen("edge", any()).await.unwrap();
    assert_eq!(bench.keeper.listen("edge", any()).await.unwrap(), addr);
    let mut early: Vec<_> = (0..500).map(|_| TcpStream::connect(addr).unwrap()).collect();
    early[499].write_all(b"hello").unwrap();
    let listener = bench.keeper.take("edge").await.unwrap();
    assert_eq!(listener.local_addr().unwrap(), addr);
    let mut accepted: Vec<_> = (0..500).map(|_| listener.accept().unwrap().0).collect();
    let mut text = [0; 5];
    accepted[499].set_nonblocking(false).unwrap();
    accepted[499].read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
    bench.keeper.unlisten("edge").await.unwrap();
    bench.keeper.unlisten("edge").await.unwrap();
    drop(listener);
    assert!(TcpStream::connect(addr).is_err());
    bench.end().await;
}

async fn a_name_keeps_its_port_over_keepers() {
    let mut bench = Bench::new().await;
    let addr = bench.keeper.listen("edge", any()).await.unwrap();
    for _ in 0..3 {
        bench.kill_keeper();
        bench.reset().await;
        assert_eq!(bench.keeper.take("edge").await.unwrap().local_addr().unwrap(), addr);
        TcpStream::connect(addr).unwrap();
    }
    assert_eq!(bench.keeper.listen("edge", any()).await.unwrap(), addr);
    bench.end().await;
}

async fn a_socket_is_given_back_to_a_new_keeper() {
    let mut bench = Bench::new().await;
    let addr = bench.keeper.listen("edge", any()).await.unwrap();
    let held = bench.keeper.take("edge").await.unwrap();
    bench.kill_keeper();
    bench.reset().await;
    // Nobody was refused meanwhile, and the keeper says whose the port is.
    let early = TcpStream::connect(addr).unwrap();
    assert_eq!(bench.keeper.take("edge").await.unwrap_err().kind(), ErrorKind::Conflict);
    let stranger = std::net::TcpListener::bind(any()).unwrap();
    assert_eq!(bench.keeper.give("edge", &stranger).await.unwrap_err().kind(), ErrorKind::Invalid);
    bench.keeper.give("edge", &held).await.unwrap();
    drop(held);
    let again = bench.keeper.take("edge").await.unwrap();
    assert_eq!(again.accept().unwrap().1, early.local_addr().unwrap());
    bench.end().await;
}

async fn a_taken_port_is_named() {
    let bench = Bench::new().await;
    let taken = std::net::TcpListener::bind(any()).unwrap().local_addr().unwrap();
    let _holder = std::net::TcpListener::bind(taken).unwrap();
    let error = bench.keeper.listen("edge", taken).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    assert_eq!(bench.keeper.take("edge").await.unwrap_err().kind(), ErrorKind::NotFound);
    bench.end().await;
}
