//! What a gate says in place of the store: answers that other machines on the way give, or that a broken
//! store gives. Each request is read whole, carried out or not, and answered truly or not.

use super::gate::Shared;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// What is asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A whole object in one request.
    Put,
    Get,
    Range,
    /// Whether there is such an object.
    Head,
    List,
    Delete,
    /// The three steps of an upload in parts.
    Begin,
    Part,
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Carried out; the answer lacks what the service always sends.
    Untagged,
    /// A web page with status 200; nothing is carried out.
    Html,
    /// Status 200 and nothing else; nothing is carried out.
    Empty,
    /// The answer ends a hundred bytes before its length says.
    LongLength,
    /// Half of the content, and the length of that.
    Half,
    /// A body that never ends.
    Endless,
    /// Listings: the first page again and again, each time with the same token, or with a new one.
    SamePage,
    SamePageNewToken,
    /// Listings: there is more, but not where.
    LostToken,
    /// A byte a second.
    Drip,
    /// Go there instead.
    Redirect(SocketAddr),
    /// 503, and to come again after so many seconds.
    RetryAfter(u64),
    /// Carried out; the connection ends before the answer.
    LateSuccess,
    /// Ranges: this with status 200 and a tag.
    Whole(&'static str),
    /// Ranges: 206 with another range than was asked for.
    WrongRange,
    /// Ranges: the object ends before.
    Refused,
}

pub struct Request {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Reply {
    status: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn asks(&self, parameter: &str) -> bool {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|pair| pair == parameter || pair.split('=').next() == Some(parameter))
    }

    /// In the dialects of S3, Google and Azure.
    pub fn op(&self) -> Op {
        let path = self.target.split('?').next().unwrap();
        match self.method.as_str() {
            "GET" if self.asks("list-type") || self.asks("comp=list") || path.ends_with("/o") => Op::List,
            "GET" if self.asks("fields") => Op::Head,
            "GET" if self.header("range").is_some() => Op::Range,
            "GET" => Op::Get,
            "HEAD" => Op::Head,
            "DELETE" => Op::Delete,
            "POST" if self.asks("delete") => Op::Delete,
            "POST" if self.asks("uploads") || self.asks("uploadType=resumable") => Op::Begin,
            "POST" if self.asks("uploadId") => Op::Finish,
            "PUT" if self.asks("comp=blocklist") => Op::Finish,
            "PUT" if self.asks("partNumber") || self.asks("comp=block") || self.asks("upload_id") => Op::Part,
            _ => Op::Put,
        }
    }

    /// Carried out by the store.
    fn forward(&self, upstream: &str) -> Option<Reply> {
        let mut stream = TcpStream::connect(upstream).ok()?;
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let hop = ["connection", "transfer-encoding", "content-length"];
        for (name, value) in
            self.headers.iter().filter(|(name, _)| !hop.contains(&name.to_ascii_lowercase().as_str()))
        {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "PUT" | "POST") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).ok()?;
        stream.write_all(&self.body).ok()?;
        let mut reader = BufReader::new(stream);
        let (status, headers) = head_of(&mut reader)?;
        let body = if self.method == "HEAD" { Vec::new() } else { body_of(&mut reader, &headers, true)? };
        Some(Reply { status: status.split_once(' ')?.1.to_owned(), headers, body })
    }
}

/// The first line, and the headers.
fn head_of(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some((first.trim_end().to_owned(), headers))
}

/// `to_end`: a body without a length goes on to the end of the connection.
fn body_of(reader: &mut impl BufRead, headers: &[(String, String)], to_end: bool) -> Option<Vec<u8>> {
    let header = |name: &str| {
        headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let length = u64::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
            reader.by_ref().take(length).read_to_end(&mut body).ok()?;
            reader.read_line(&mut String::new()).ok()?;
            if length == 0 {
                return Some(body);
            }
        }
    }
    match header("content-length") {
        Some(length) => drop(reader.take(length.parse().ok()?).read_to_end(&mut body).ok()?),
        None if to_end => drop(reader.read_to_end(&mut body).ok()?),
        None => {}
    }
    Some(body)
}

/// Serves one connection, request by request; when it ends, so does the connection.
pub fn converse(shared: &Shared, mut client: TcpStream, birth: usize) {
    serve(shared, &mut client, birth);
    let _ = client.shutdown(Shutdown::Both);
}

fn serve(shared: &Shared, client: &mut TcpStream, birth: usize) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    loop {
        let Some((first, headers)) = head_of(&mut reader) else { return };
        let Some(body) = body_of(&mut reader, &headers, false) else { return };
        let mut words = first.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
        let request = Request { method: method.to_owned(), target: target.to_owned(), headers, body };
        shared.note(first.as_bytes());
        if shared.is_black(birth) {
            continue;
        }
        let answered = match shared.lie(request.op()) {
            Some(lie) => lie.tell(&request, shared, client),
            None => request.forward(&shared.upstream).and_then(|reply| reply.send(client)),
        };
        if answered.is_none() {
            return;
        }
    }
}

impl Reply {
    fn made(status: &str, kind: &str, body: &str) -> Reply {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Reply { status: status.to_owned(), headers, body: body.as_bytes().to_vec() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn head(&self, length: Option<usize>) -> String {
        let hop = ["connection", "transfer-encoding"];
        let mut head = format!("HTTP/1.1 {}\r\n", self.status);
        for (name, value) in
            self.headers.iter().filter(|(name, _)| !hop.contains(&name.to_ascii_lowercase().as_str()))
        {
            let is_length = name.eq_ignore_ascii_case("content-length");
            if !is_length || length.is_none() {
                head += &format!("{name}: {value}\r\n");
            }
        }
        if let Some(length) = length {
            head += &format!("Content-Length: {length}\r\n");
        }
        head + "\r\n"
    }

    /// None: the connection ends.
    fn send(&self, client: &mut TcpStream) -> Option<()> {
        // The length of a HEAD's answer is the object's.
        let is_head = self.body.is_empty()
            && self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let head = self.head((!is_head).then_some(self.body.len()));
        client.write_all(head.as_bytes()).ok()?;
        client.write_all(&self.body).ok()
    }
}

impl Lie {
    /// None: the connection ends.
    fn tell(self, request: &Request, shared: &Shared, client: &mut TcpStream) -> Option<()> {
        let forward = || request.forward(&shared.upstream);
        match self {
            Lie::Untagged => untagged(forward()?).send(client),
            Lie::Html => {
                Reply::made("200 OK", "text/html; charset=utf-8", "<html><body>Please log in</body></html>")
                    .send(client)
            }
            Lie::Empty => Reply::made("200 OK", "application/octet-stream", "").send(client),
            Lie::LongLength => {
                let reply = forward()?;
                client.write_all(reply.head(Some(reply.body.len() + 100)).as_bytes()).ok()?;
                client.write_all(&reply.body).ok()?;
                None
            }
            Lie::Half => {
                let mut reply = forward()?;
                reply.body.truncate(reply.body.len() / 2);
                reply.send(client)
            }
            Lie::Endless => endless(request.op(), client),
            Lie::SamePage | Lie::SamePageNewToken => {
                let page = shared.first_page(|| forward().map(|reply| (reply.headers, reply.body)))?;
                let token = if self == Lie::SamePage {
                    "again".to_owned()
                } else {
                    format!("token{}", shared.told())
                };
                let (headers, body) = page;
                going_on(Reply { status: "200 OK".to_owned(), headers, body }, Some(&token)).send(client)
            }
            Lie::LostToken => going_on(forward()?, None).send(client),
            Lie::Drip => {
                let reply = forward()?;
                let bytes = [reply.head(Some(reply.body.len())).into_bytes(), reply.body].concat();
                bytes.iter().try_for_each(|byte| {
                    client.write_all(&[*byte]).ok()?;
                    std::thread::sleep(Duration::from_secs(1));
                    Some(())
                })
            }
            Lie::Redirect(to) => {
                let location = format!("http://{to}{}", request.target);
                Reply::made("307 Temporary Redirect", "text/plain", "")
                    .with("Location", location)
                    .send(client)
            }
            Lie::RetryAfter(seconds) => {
                Reply::made("503 Slow Down", "text/plain", "").with("Retry-After", seconds).send(client)
            }
            Lie::LateSuccess => {
                forward();
                None
            }
            Lie::Whole(body) => genuine(Reply::made("200 OK", "application/octet-stream", body)).send(client),
            Lie::WrongRange => {
                let reply = Reply::made("206 Partial Content", "application/octet-stream", "xyz");
                genuine(reply).with("Content-Range", "bytes 90-92/100").send(client)
            }
            Lie::Refused => genuine(Reply::made("416 Range Not Satisfiable", "text/plain", "")).send(client),
        }
    }
}

/// With all that the services put on what they send.
fn genuine(reply: Reply) -> Reply {
    let reply = reply.with("ETag", "\"0123\"").with("x-goog-generation", 1);
    reply.with("x-ms-request-id", "1").with("Last-Modified", "Sun, 22 Nov 2026 06:01:19 GMT")
}

fn untagged(mut reply: Reply) -> Reply {
    let tags = ["etag", "x-goog-generation", "x-goog-hash", "x-ms-request-id", "x-ms-version"];
    reply.headers.retain(|(name, _)| !tags.contains(&name.to_ascii_lowercase().as_str()));
    let text = reply.text();
    if let Ok(serde_json::Value::Object(mut object)) = serde_json::from_str(&text) {
        for name in ["generation", "etag", "size", "kind", "name"] {
            object.remove(name);
        }
        reply.body = serde_json::Value::Object(object).to_string().into_bytes();
    } else if let (Some(start), Some(end)) = (text.find("<ETag>"), text.find("</ETag>"))
        && text.contains("CompleteMultipartUploadResult")
    {
        reply.body = format!("{}{}", &text[..start], &text[end + "</ETag>".len()..]).into_bytes();
    }
    reply
}

/// A page that says that there is more; with a token, or without one where the dialect knows that.
fn going_on(mut reply: Reply, token: Option<&str>) -> Reply {
    let text = reply.text();
    let tag = |name: &str| token.map_or_else(String::new, |token| format!("<{name}>{token}</{name}>"));
    let changed = if text.starts_with('{') {
        let mut object: serde_json::Value = serde_json::from_str(&text).unwrap();
        if let Some(token) = token {
            object["nextPageToken"] = token.into();
        }
        object.to_string()
    } else if text.contains("<EnumerationResults") {
        let text = text
            .replace("<NextMarker/>", "")
            .replace("<NextMarker></NextMarker>", "")
            .replace("<NextMarker />", "");
        text.replace("</EnumerationResults>", &format!("{}</EnumerationResults>", tag("NextMarker")))
    } else {
        let more = format!("<IsTruncated>true</IsTruncated>{}", tag("NextContinuationToken"));
        text.replace("<IsTruncated>false</IsTruncated>", &more)
    };
    reply.body = changed.into_bytes();
    reply
}

fn endless(op: Op, client: &mut TcpStream) -> Option<()> {
    let kind = if op == Op::List { "application/xml" } else { "application/octet-stream" };
    let reply = genuine(Reply::made("200 OK", kind, ""));
    let head = reply.head(None).replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.write_all(head.as_bytes()).ok()?;
    let piece = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    while client.write_all(&piece).is_ok() {}
    None
}
