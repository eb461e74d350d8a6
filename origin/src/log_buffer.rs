//! Lines for standard output, gathered in memory and written by a thread of their own.
//!
//! Whoever logs never waits for whoever reads. Lines are written a few times a second: a call of the system for each
//! would cost more than the rest of a small request. If nobody reads, memory stays bounded and lines are lost, and counted.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written.
const PENDING_BYTES_MAX: usize = 1024 * 1024;
/// With so many bytes waiting the writer does not wait any longer.
const WAKE_BYTES: usize = PENDING_BYTES_MAX / 2;
/// How long a line may wait.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// Lines that wait to be written. Clones share them.
#[derive(Clone, Debug)]
pub struct LogBuffer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nothing left.
    changed: Condvar,
    lost: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// Lines were taken, and may not have been written.
    is_writing: bool,
    /// Somebody waits until everything has been written.
    is_draining: bool,
}

impl LogBuffer {
    /// An empty buffer, which nobody empties yet.
    ///
    /// # Errors
    /// If the counter's name is malformed, which is a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                lost: IntCounter::new(
                    "origin_log_lines_lost_total",
                    "Lines of the log that nobody took in time",
                )?,
            }),
        })
    }

    /// How many lines found no room, or could not be written.
    pub fn lost(&self) -> &IntCounter {
        &self.shared.lost
    }

    /// Adds the line that `write` writes, its end included.
    pub fn add(&self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        let mut state = self.shared.state();
        let begin = state.pending.len();
        if begin < PENDING_BYTES_MAX && write(&mut state.pending).is_ok() {
            let end = state.pending.len();
            drop(state);
            if begin == 0 || (begin < WAKE_BYTES && end >= WAKE_BYTES) {
                self.shared.changed.notify_all();
            }
        } else {
            state.pending.truncate(begin);
            self.shared.lost.inc();
        }
    }

    /// Starts the thread that writes the lines, for as long as the process lives.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn write_to(&self, out: impl Write + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let writer = thread::Builder::new().name("log".to_owned());
        writer.spawn(move || shared.write_all(out)).map(|_| ())
    }

    /// Waits until everything has been written, but not longer than this; says whether it has.
    pub fn drain(&self, patience: Duration) -> bool {
        let mut state = self.shared.state();
        state.is_draining = true;
        self.shared.changed.notify_all();
        let is_left = |state: &mut State| state.is_writing || !state.pending.is_empty();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, patience, is_left);
        let (mut state, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_draining = false;
        !outcome.timed_out()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut out: impl Write) -> ! {
        let mut lines = Vec::new();
        loop {
            self.take(&mut lines);
            if out.write_all(&lines).and_then(|()| out.flush()).is_err() {
                // The next ones are tried again.
                let count = lines.iter().filter(|byte| **byte == b'\n').count();
                self.lost.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
            }
            lines.clear();
        }
    }

    /// Waits until it is time to write, and takes what is there.
    fn take(&self, lines: &mut Vec<u8>) {
        let mut state = self.state();
        state.is_writing = false;
        self.changed.notify_all();
        let is_empty = |state: &mut State| state.pending.is_empty();
        let state = self.changed.wait_while(state, is_empty);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let may_wait = |state: &mut State| state.pending.len() < WAKE_BYTES && !state.is_draining;
        let waited = self
            .changed
            .wait_timeout_while(state, WRITE_EVERY, may_wait);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(lines, &mut state.pending);
        state.is_writing = true;
    }
}

/// Takes the lines of `tracing`, which writes each of them whole.
impl Write for LogBuffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(|pending| pending.write_all(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogBuffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands over what is written, as soon as somebody takes it.
    struct Handover(mpsc::SyncSender<Vec<u8>>);

    impl Write for Handover {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(bytes.to_owned())
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    fn log() -> (LogBuffer, mpsc::Receiver<Vec<u8>>) {
        let log = LogBuffer::new().expect("a counter");
        let (out, taken) = mpsc::sync_channel(0);
        log.write_to(Handover(out)).expect("a thread");
        (log, taken)
    }

    #[test]
    fn lines_are_written_in_their_order_and_drained() {
        let (log, taken) = log();
        for number in 0..3 {
            log.add(|pending| writeln!(pending, "{number}"));
        }
        let reader = thread::spawn(move || taken.iter().take(1).collect::<Vec<_>>());
        assert!(log.drain(PATIENCE));
        assert_eq!(reader.join().expect("read").concat(), b"0\n1\n2\n");
    }

    #[test]
    fn lines_that_nobody_takes_are_lost_and_counted_and_nobody_waits() {
        let (log, taken) = log();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let count = 3 * PENDING_BYTES_MAX / line.len();
        for _ in 0..count {
            log.clone().write_all(&line).expect("never fails");
        }
        assert!(!log.drain(Duration::from_millis(1)));
        let lost = usize::try_from(log.lost().get()).expect("a count");
        assert!(lost >= count / 4, "{lost} of {count}");
        let kept = (count - lost) * line.len();
        let reader = thread::spawn(move || {
            let mut bytes = 0;
            while bytes < kept {
                bytes += taken.recv().expect("lines").len();
            }
            bytes
        });
        assert!(log.drain(PATIENCE));
        assert_eq!(reader.join().expect("read"), kept);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (log, taken) = log();
        drop(taken);
        log.add(|pending| pending.write_all(b"one\ntwo\n"));
        assert!(log.drain(PATIENCE));
        assert_eq!(log.lost().get(), 2);
    }
}
