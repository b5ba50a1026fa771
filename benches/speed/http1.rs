//! The least of HTTP/1.1 that a server needs, on blocking streams: what a stand-in costs is part of
//! what is measured, so it must be little and always the same.
//! It does not know what is asked or answered.

use std::io::{self, Read, Write};

/// A request or an answer longer than this is a mistake of the bench.
const LONGEST: usize = 4 * 1024 * 1024;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// One request, whole.
pub struct Request {
    /// The request line and the headers, as they came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    /// Whether the request line begins so.
    pub fn asks(&self, method_and_path: &str) -> bool {
        self.head.starts_with(method_and_path)
    }

    /// The path, with its query.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// A header's value; names are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1);
        let mut fields = headers.filter_map(|line| line.split_once(':'));
        fields
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

/// The server's side of one connection.
pub struct Connection<S> {
    stream: S,
    received: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            received: Vec::with_capacity(16 * 1024),
        }
    }

    /// Reads the next request; `None` once the peer has closed.
    pub fn read(&mut self) -> io::Result<Option<Request>> {
        let head_ends = loop {
            let end = self
                .received
                .windows(END_OF_HEAD.len())
                .position(|window| window == END_OF_HEAD);
            if let Some(end) = end {
                break end + END_OF_HEAD.len();
            }
            if !self.receive()? {
                return Ok(None);
            }
        };
        let mut request = Request {
            head: String::from_utf8_lossy(&self.received[..head_ends]).into_owned(),
            body: Vec::new(),
        };
        if request.header("transfer-encoding").is_some() {
            return Err(io::Error::other("a chunked request is not understood"));
        }
        let length = request.header("content-length").map(str::parse);
        let length: usize = length.transpose().map_err(io::Error::other)?.unwrap_or(0);
        let ends = head_ends + length;
        while self.received.len() < ends {
            if !self.receive()? {
                return Ok(None);
            }
        }
        request.body = self.received[head_ends..ends].to_vec();
        self.received.drain(..ends);
        Ok(Some(request))
    }

    /// Answers with a status such as `200 OK` and further header lines, each with its line break.
    pub fn answer(&mut self, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
        let length = body.len();
        let mut answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n").into_bytes();
        answer.extend_from_slice(body);
        self.stream.write_all(&answer)?;
        self.stream.flush()
    }

    /// Waits for more; `false` once the peer has closed.
    fn receive(&mut self) -> io::Result<bool> {
        if self.received.len() > LONGEST {
            return Err(io::Error::other("the request does not end"));
        }
        let mut chunk = [0; 16 * 1024];
        let length = match self.stream.read(&mut chunk) {
            Ok(length) => length,
            // A process that is ended says no good-bye to TLS or TCP.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                0
            }
            Err(error) => return Err(error),
        };
        self.received.extend_from_slice(&chunk[..length]);
        Ok(length > 0)
    }
}
