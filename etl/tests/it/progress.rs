//! What is told while files are read: bars on a terminal, lines into a pipe.

use std::{
    fs::{self, File},
    io::{self, Read, Write as _},
    path::Path,
    process::Stdio,
};

use nix::pty::{Winsize, openpty};
use tempfile::TempDir;

use crate::{
    command::{etl, stderr},
    support::collect,
};

/// The columns of the terminal, room for the name of a file, its bar and four numbers.
const COLUMNS: u16 = 120;

/// Rows of the longest file, for more than one look at it: a bar is drawn twenty times a second at most.
const ROWS: u32 = 500_000;

/// A set of which one file is long enough for a bar to move.
fn long_set() -> TempDir {
    let dir = TempDir::new().unwrap();
    collect("base", &[], dir.path());
    let mut related = File::create(dir.path().join("related.csv")).unwrap();
    let mut rows = String::from("id,current_product_id,related_product_id\n");
    for id in 1..=ROWS {
        rows.push_str(&format!("{id},1,2\n"));
    }
    related.write_all(rows.as_bytes()).unwrap();
    dir
}

/// The words of the line that tells of a file's end.
fn told_of<'a>(lines: &[&'a str], file: &str) -> Vec<&'a str> {
    let mut of_file = lines.iter().filter(|line| line.starts_with(file));
    let line = of_file
        .next()
        .unwrap_or_else(|| panic!("nothing of {file} in {lines:?}"));
    assert_eq!(of_file.next(), None, "{file} is told of twice");
    line.split_whitespace().collect()
}

/// Cleans on a terminal; gives all that was written there.
fn on_a_terminal(csv: &Path, out: &Path) -> String {
    let size = Winsize {
        ws_row: 24,
        ws_col: COLUMNS,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(&size, None).unwrap();
    let mut clean = etl(&["clean", "--csv"]);
    clean.arg(csv).arg("--out").arg(out).env("TERM", "xterm");
    clean.stdout(Stdio::null()).stderr(terminal.slave);
    let mut child = clean.spawn().unwrap();
    // It holds the other end too: while it is there, the terminal is.
    drop(clean);
    let mut master = File::from(terminal.master);
    let (mut written, mut block) = (Vec::new(), [0; 4096]);
    loop {
        match master.read(&mut block) {
            Ok(0) => break,
            Ok(bytes) => written.extend_from_slice(&block[..bytes]),
            // That is how a terminal says that nobody writes to it any more.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EIO as i32) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(written).unwrap()
}

#[test]
fn bars_with_rate_and_time_left_are_drawn_on_a_terminal_and_lines_stay_behind() {
    let (dir, out) = (long_set(), TempDir::new().unwrap());
    let written = on_a_terminal(dir.path(), out.path());
    // A bar is drawn over itself, and taken away when the file is done.
    let bars: Vec<&str> = written
        .split(['\r', '\n'])
        .filter(|line| line.contains("related.csv") && line.contains(" left"))
        .collect();
    assert!(!bars.is_empty(), "no bar in {written:?}");
    let is_under_way = |bar: &&&str| bar.contains('\u{2588}') && !bar.contains(" 0 B/s");
    let bar = bars.iter().find(is_under_way);
    let bar = bar.unwrap_or_else(|| panic!("no bar moves: {bars:?}"));
    for text in [" of ", "MiB", "/s ", "s left"] {
        assert!(bar.contains(text), "{text} is not in {bar:?}");
    }
    assert!(written.contains("\u{1b}["), "{written:?}");
    assert!(written.contains("500000 kept, 0 rejected"), "{written:?}");
}

#[test]
fn a_pipe_is_given_one_plain_line_for_each_file() {
    let (dir, out) = (long_set(), TempDir::new().unwrap());
    let mut clean = etl(&["clean", "--csv"]);
    clean.arg(dir.path()).arg("--out").arg(out.path());
    // What a terminal would be called makes none of a pipe.
    let output = clean.env("TERM", "xterm").output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains(['\r', '\u{1b}', '\u{2588}']), "{text:?}");
    let lines: Vec<&str> = text.lines().collect();
    let files = fs::read_dir(out.path()).unwrap().count();
    assert_eq!(lines.len(), files, "{text}");
    let words = told_of(&lines, "related.csv");
    assert_eq!(words[1..5], ["500000", "kept,", "0", "rejected,"], "{text}");
}
