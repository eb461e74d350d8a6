//! What a load may take of memory.

use std::{
    fs,
    io::{BufWriter, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use etl::reader::{QUOTED_BYTES_MAX, ROW_BYTES_MAX};
use tempfile::TempDir;

use crate::{command::etl, generated::generate, merge::REVIEWS, support::Shop};

/// The promise for files of any size, in KiB.
const PEAK_KIB_MAX: u64 = 96 * 1024;

/// Between two looks: what is looked at only ever grows.
const LOOK: Duration = Duration::from_millis(5);

/// Runs a program to its end and gives the most it ever held, in KiB.
fn peak_kib(command: &mut Command) -> u64 {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        peak = peak.max(high_water_kib(&child).unwrap_or_default());
        std::thread::park_timeout(LOOK);
    };
    assert!(status.success(), "{status}");
    assert!(peak > 0, "nothing was seen of it");
    peak
}

/// `None` once it has ended.
fn high_water_kib(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_holds_a_little_memory_whatever_the_size_of_its_files() {
    let shop = Shop::new();
    let mut peaks = Vec::new();
    for products in [20, 2000] {
        let (dir, _) = generate(products, 91);
        let csv = dir.path().to_str().unwrap();
        peaks.push(peak_kib(&mut etl(&[
            "load",
            "--csv",
            csv,
            "--database-url",
            &shop.url,
        ])));
    }
    assert!(
        peaks.iter().all(|peak| *peak <= PEAK_KIB_MAX),
        "{peaks:?} KiB"
    );
    // A hundred times the rows cost buffers that are filled, and hardly more.
    assert!(peaks[1] < peaks[0] + 16 * 1024, "{peaks:?} KiB");
}

/// Rows near the longest, one after the other: blocks in flight used to be bounded by number only.
#[tokio::test(flavor = "multi_thread")]
async fn the_longest_rows_one_after_the_other_are_held_once() {
    let shop = Shop::new();
    let dir = TempDir::new().unwrap();
    let mut file = BufWriter::new(fs::File::create(dir.path().join("reviews.csv")).unwrap());
    file.write_all(REVIEWS.as_bytes()).unwrap();
    // Unquoted text may fill a row; quotes at its end make escapes of it, which are copied once more.
    let body = "x".repeat(ROW_BYTES_MAX - 1024);
    let quoted = "\"\"".repeat(QUOTED_BYTES_MAX / 2 - 64);
    for id in 1..=12 {
        let body = if id % 4 == 0 {
            format!("\"{quoted}\"")
        } else {
            body.clone()
        };
        writeln!(
            file,
            "{id},2,5,2020-01-01,s,{body},true,false,n,e@x.y,null,0"
        )
        .unwrap();
    }
    file.into_inner().unwrap();
    let csv = dir.path().to_str().unwrap();
    let peak = peak_kib(&mut etl(&[
        "load",
        "--csv",
        csv,
        "--database-url",
        &shop.url,
    ]));
    assert_eq!(shop.rows("select count(*) from reviews").await, ["(12)"]);
    assert!(peak <= PEAK_KIB_MAX, "{peak} KiB");
}
