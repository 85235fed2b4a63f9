//! For rollout.sh: a balancer, and clients of the bank behind it. The balancer sends each connection to the
//! port that a file names, as a platform's balancer does when it moves the traffic. The clients transfer
//! money, one request after the other; a line each second says what they saw. Ends when its standard input
//! ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// Of one request.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the clients saw.
#[derive(Default)]
struct Seen {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    slowest_ms: AtomicU64,
    ended: AtomicBool,
}

fn main() -> std::io::Result<()> {
    let target = std::env::args().nth(1).unwrap_or_default();
    if target.is_empty() {
        eprintln!("usage: rollout FILE   FILE holds the port that has the traffic");
        std::process::exit(64);
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let target = target.clone();
            thread::spawn(move || forward(client, &target));
        }
    });
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let seen = Arc::clone(&seen);
            thread::spawn(move || client(port, &seen))
        })
        .collect();
    let reporter = {
        let seen = Arc::clone(&seen);
        thread::spawn(move || report(&seen))
    };
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    seen.ended.store(true, Ordering::Release);
    for thread in clients.into_iter().chain([reporter]) {
        let _ = thread.join();
    }
    let acknowledged = seen.acknowledged.load(Ordering::Relaxed);
    let failed = seen.failed.load(Ordering::Relaxed);
    println!("total: {acknowledged} acknowledged, {failed} failed");
    Ok(())
}

fn forward(client: TcpStream, target: &str) {
    let port = std::fs::read_to_string(target).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let Some(server) = port.and_then(|port| TcpStream::connect(("127.0.0.1", port)).ok()) else { return };
    let (Ok(mut requests), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    thread::spawn(move || {
        let _ = std::io::copy(&mut requests, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut answers, mut to_client) = (server, client);
    let _ = std::io::copy(&mut answers, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Both);
}

fn client(port: u16, seen: &Seen) {
    while !seen.ended.load(Ordering::Acquire) {
        let begun = Instant::now();
        let counter = if transfer(port).unwrap_or(false) { &seen.acknowledged } else { &seen.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        seen.slowest_ms.fetch_max(took, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
}

fn transfer(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"POST /transfer HTTP/1.1\r\nHost: bank\r\nContent-Length: 0\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.starts_with("HTTP/1.1 200"))
}

fn report(seen: &Seen) {
    let begun = Instant::now();
    let mut before = 0;
    while !seen.ended.load(Ordering::Acquire) {
        thread::sleep(Duration::from_secs(1));
        let acknowledged = seen.acknowledged.load(Ordering::Relaxed);
        let failed = seen.failed.load(Ordering::Relaxed);
        let slowest = seen.slowest_ms.swap(0, Ordering::Relaxed);
        let second = begun.elapsed().as_secs();
        println!(
            "{second:>3} s: {:>4} transfers acknowledged, {failed} requests failed so far, slowest {slowest} ms",
            acknowledged - before
        );
        before = acknowledged;
    }
}
