//! The access log: a line of JSON for each request, written beside the requests.
//!
//! No request waits for it: lines go through a bounded queue to a thread of their own, and what finds no room is lost and
//! counted. A request is one line, as JSON escapes every control character.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::config;

/// How often it is looked whether the file has been moved away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The end of a process waits this long for its lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Characters of a client's own words that are kept.
const WORDS_MAX: usize = 256;

/// What is told of a request. Queries are not: they may hold secrets.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it was answered, in UTC.
    pub time: String,
    /// Its name, as in `X-Request-Id`.
    pub id: &'a str,
    /// Where the client is.
    pub client: Option<IpAddr>,
    /// Its method.
    pub method: &'a str,
    /// The host that it names.
    pub host: &'a str,
    /// The path that it names, without the query.
    pub path: &'a str,
    /// The version of HTTP.
    pub version: &'a str,
    /// The configured route.
    pub route: Option<&'a str>,
    /// The status; none when no answer was sent.
    pub status: Option<u16>,
    /// Bytes of the answer's body that were sent.
    pub bytes: usize,
    /// From the header to the end of the answer.
    pub duration_ms: f64,
    /// What the cache did.
    pub cache: &'a str,
    /// The origin that was asked last.
    pub node: Option<String>,
    /// What the client says it is.
    pub user_agent: &'a str,
}

/// A client's own words, cut to what is kept.
pub fn cut(words: &str) -> &str {
    let end = words
        .char_indices()
        .nth(WORDS_MAX)
        .map_or(words.len(), |(at, _)| at);
    &words[..end]
}

enum Message {
    Line(Vec<u8>),
    /// Write everything, then tell.
    Flush(SyncSender<()>),
}

/// Where lines are left.
pub struct AccessLog {
    queue: SyncSender<Message>,
    lost: AtomicU64,
    seen: AtomicU64,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// The file cannot be opened, or the system gives no thread.
    pub fn start(settings: &config::AccessLog) -> io::Result<Self> {
        let (queue, messages) = sync_channel(settings.queue_max);
        let writer = Writer::open(settings.path.clone())?;
        thread::Builder::new()
            .name("access log".to_owned())
            .spawn(move || writer.run(&messages))?;
        Ok(Self {
            queue,
            lost: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        })
    }

    /// Whether the next request is one of so many in a hundred; evenly spread.
    pub fn samples(&self, percent: u32) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        number.wrapping_mul(percent.into()) % 100 < percent.into()
    }

    /// Leaves a line to be written.
    pub fn write(&self, line: &Line<'_>) {
        let Ok(mut text) = serde_json::to_vec(line) else {
            return; // texts and numbers: there is nothing that JSON could not hold
        };
        text.push(b'\n');
        if self.queue.try_send(Message::Line(text)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were lost since start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits, a short time, until what was left before is written.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// The log's end: standard output, or a file that may be moved away.
struct Writer {
    path: Option<PathBuf>,
    out: BufWriter<Box<dyn Write + Send>>,
    inode: u64,
}

impl Writer {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let (out, inode): (Box<dyn Write + Send>, u64) = match &path {
            None => (Box::new(io::stdout()), 0),
            Some(path) => {
                let file = append(path)?;
                let inode = file.metadata()?.ino();
                (Box::new(file), inode)
            }
        };
        Ok(Self {
            path,
            out: BufWriter::new(out),
            inode,
        })
    }

    fn run(mut self, messages: &Receiver<Message>) {
        let mut looked = SystemTime::now();
        loop {
            let message = match messages.try_recv() {
                Ok(message) => Ok(message),
                Err(_) => {
                    // Nothing waits: what is held back is written.
                    self.told(|writer| writer.out.flush());
                    messages.recv_timeout(LOOK_EVERY)
                }
            };
            match message {
                Ok(Message::Line(line)) => self.told(|writer| writer.out.write_all(&line)),
                Ok(Message::Flush(done)) => {
                    self.told(|writer| writer.out.flush());
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed().unwrap_or(LOOK_EVERY) >= LOOK_EVERY {
                looked = SystemTime::now();
                self.told(Self::follow_the_name);
            }
        }
    }

    /// Goes on in a new file when the one of before has been moved away.
    fn follow_the_name(&mut self) -> io::Result<()> {
        let Some(path) = self.path.clone() else {
            return Ok(());
        };
        let is_same = std::fs::metadata(&path).is_ok_and(|now| now.ino() == self.inode);
        if !is_same {
            self.out.flush()?;
            *self = Self::open(Some(path))?;
        }
        Ok(())
    }

    /// Logs what goes wrong: a full disk must not end the log for good.
    fn told(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) {
        if let Err(error) = work(self) {
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(path: &'a str, user_agent: &'a str) -> Line<'a> {
        Line {
            time: "2026-01-01T00:00:00.000Z".to_owned(),
            id: "1",
            client: None,
            method: "GET",
            host: "shop.test",
            path,
            version: "HTTP/1.1",
            route: None,
            status: Some(200),
            bytes: 0,
            duration_ms: 0.5,
            cache: "hit",
            node: None,
            user_agent,
        }
    }

    #[test]
    fn a_request_is_one_line_whatever_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let settings = config::AccessLog {
            path: Some(path.clone()),
            ..config::AccessLog::default()
        };
        let log = AccessLog::start(&settings).unwrap();
        for words in [
            "a\r\nb",
            "\u{1b}[2J",
            "\"}\n{\"status\":1",
            "\u{2028}\u{85}",
        ] {
            log.write(&line(words, words));
        }
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            !text
                .trim_end()
                .contains(|byte: char| byte.is_ascii_control() && byte != '\n')
        );
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["status"], 200);
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut writer = Writer::open(Some(path.clone())).unwrap();
        writer.out.write_all(b"one\n").unwrap();
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        writer.follow_the_name().unwrap();
        writer.out.write_all(b"two\n").unwrap();
        writer.follow_the_name().unwrap();
        writer.out.flush().unwrap();
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(
            (read("old").as_str(), read("access.log").as_str()),
            ("one\n", "two\n")
        );
    }

    #[test]
    fn samples_are_evenly_spread() {
        let settings = config::AccessLog {
            path: Some("/dev/null".into()),
            ..config::AccessLog::default()
        };
        let log = AccessLog::start(&settings).unwrap();
        for percent in [0, 1, 25, 99, 100] {
            let taken = (0..1_000).filter(|_| log.samples(percent)).count();
            assert_eq!(taken, percent as usize * 10);
        }
    }

    #[test]
    fn words_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"\u{e9}".repeat(1_000)).chars().count(), WORDS_MAX);
    }
}
