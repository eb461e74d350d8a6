//! Full disks: under the tables, under the whole server, and under the files that are written.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::{Command, Output},
};

use etl::schema;
use stack::{Cluster, Settings, TestCluster, cluster};
use tempfile::TempDir;

use crate::{
    command::{etl, stderr},
    generated::generate,
    support::{Shop, collect},
};

/// What the system says of a full disk.
const FULL: &str = "No space left on device";
/// How Postgres tells of a page of which a part has found room.
const HALF_A_PAGE: &str = "of 8192 bytes";
/// Larger than any disk here can be too small for.
const AMPLE_MIB: u32 = 1024;

/// A disk of a few mebibytes, held in memory.
struct Disk {
    dir: TempDir,
}

impl Disk {
    /// `None`, and a word about it, where this process may not mount anything.
    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::Builder::new()
            .prefix("atelier-disk-")
            .tempdir_in("/tmp")
            .unwrap();
        let disk = Self { dir };
        let output = disk.run_mount(&[
            "-t",
            "tmpfs",
            "-o",
            &format!("size={mib}m,mode=0755"),
            "tmpfs",
        ]);
        if output.status.success() {
            return Some(disk);
        }
        eprintln!(
            "SKIPPED: mounting a small disk needs root: {}",
            stderr(&output)
        );
        None
    }

    fn grow(&self, mib: u32) {
        let output = self.run_mount(&["-o", &format!("remount,size={mib}m")]);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run_mount(&self, arguments: &[&str]) -> Output {
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(self.path()).output().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that is on its way out may still have files open.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .output();
    }
}

fn run(command: &str, csv: &Path, url: &str, more: &[&str]) -> Output {
    let csv = csv.to_str().unwrap();
    etl(&[command, "--csv", csv, "--database-url", url])
        .args(more)
        .output()
        .unwrap()
}

#[track_caller]
fn assert_full(output: &Output, named: &str) {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let is_full = told.contains(FULL) || told.contains(HALF_A_PAGE);
    assert!(is_full && told.contains(named), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_too_small_for_the_new_tables_costs_the_live_ones_neither_rows_nor_room() {
    const FIRST_MIB: u32 = 18;
    const STEP_MIB: u32 = 4;
    let Some(disk) = Disk::mount(FIRST_MIB) else {
        return;
    };
    let cluster = TestCluster::shared().cluster();
    let owner = fs::metadata(cluster.dir().join("postgres")).unwrap();
    chown(disk.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
    let location = disk.path().display();
    let create = format!("create tablespace small location '{location}'");
    cluster.psql("postgres", &create).unwrap();
    {
        let shop = Shop::new();
        shop.move_to("small");
        let ((old, _), (new, _)) = (generate(20, 81), generate(1500, 82));
        shop.load(old.path()).await.unwrap();
        let before = shop.checksum().await;
        let mut failures = 0;
        for mib in (FIRST_MIB..AMPLE_MIB).step_by(STEP_MIB as usize) {
            disk.grow(mib);
            let output = run("load", new.path(), &shop.url, &[]);
            if output.status.success() {
                break;
            }
            // Whatever it was doing when the disk was full.
            assert_full(&output, "error returned from database");
            assert_eq!(shop.checksum().await, before, "{mib} MiB");
            let left = "select nspname from pg_namespace where nspname like 'shop_%'";
            let told = stderr(&output);
            assert_eq!(shop.rows(left).await, [""; 0], "{mib} MiB: {told}");
            failures += 1;
        }
        assert!(failures > 1, "the disk was too large from the start");
        let undisturbed = Shop::new();
        undisturbed.load(new.path()).await.unwrap();
        assert_eq!(shop.checksum().await, undisturbed.checksum().await);
    }
    cluster.psql("postgres", "drop tablespace small").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_whole_disk_is_full_loses_nothing_and_can_be_loaded_into_once_there_is_room()
{
    let Some(disk) = Disk::mount(110) else {
        return;
    };
    let options = cluster::Options {
        binaries: None,
        settings: Settings::test(),
        fresh: false,
    };
    let cluster = Cluster::open(&disk.path().join("server"), options).unwrap();
    cluster.start().unwrap();
    cluster.create_database_unless_exists("shop").unwrap();
    let url = cluster.owner_url("shop");
    schema::migrate(&url).await.unwrap();
    let ((old, _), (new, _)) = (generate(20, 83), generate(5000, 84));
    assert_eq!(run("load", old.path(), &url, &[]).status.code(), Some(0));
    // Postgres may refuse a page, or give up as it cannot write its log: the loader ends either way.
    let output = run("load", new.path(), &url, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    disk.grow(AMPLE_MIB);
    cluster.stop_immediate().unwrap();
    cluster.start().unwrap();
    for (command, csv) in [("verify", &old), ("load", &new), ("verify", &new)] {
        let output = run(command, csv.path(), &url, &[]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{command}: {}",
            stderr(&output)
        );
    }
}

#[tokio::test]
async fn a_file_of_refused_rows_that_cannot_be_written_stops_a_load_before_its_swap() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("bad_price", &[], dir.path());
    let output = run("load", dir.path(), &shop.url, &["--rejects", "/dev/full"]);
    assert_full(&output, "/dev/full: ");
    assert_eq!(shop.rows("select count(*) from products").await, ["(0)"]);
    assert_eq!(
        shop.rows("select count(*) from service.loads").await,
        ["(0)"]
    );
    assert!(run("load", dir.path(), &shop.url, &[]).status.success());
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_an_error_that_names_it_and_the_load_stays() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("bad_price", &[], dir.path());
    let output = run("load", dir.path(), &shop.url, &["--report", "/dev/full"]);
    assert_full(&output, "/dev/full: ");
    assert_eq!(
        shop.rows("select count(*) from service.loads").await,
        ["(1)"]
    );
}

#[test]
fn clean_files_are_whole_or_not_there_when_their_disk_is_full() {
    let Some(disk) = Disk::mount(1) else {
        return;
    };
    let (dirty, _) = generate(300, 85);
    let ample = TempDir::new().unwrap();
    let clean = |out: &Path, more: &[&str]| {
        let mut command = etl(&["clean", "--csv", dirty.path().to_str().unwrap(), "--out"]);
        command.arg(out).args(more).output().unwrap()
    };
    assert!(clean(ample.path(), &[]).status.success());
    assert_full(&clean(disk.path(), &[]), ".csv");
    let mut whole = 0;
    for entry in fs::read_dir(disk.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            let expected = fs::read(ample.path().join(path.file_name().unwrap())).unwrap();
            assert!(fs::read(&path).unwrap() == expected, "{}", path.display());
            whole += 1;
        }
    }
    assert!(whole > 0, "not even the first file had room");
    let other = TempDir::new().unwrap();
    let output = clean(other.path(), &["--rejects", "/dev/full"]);
    assert_full(&output, "/dev/full: ");
    disk.grow(AMPLE_MIB);
    assert!(clean(disk.path(), &[]).status.success());
    for entry in fs::read_dir(ample.path()).unwrap() {
        let path = entry.unwrap().path();
        let again = fs::read(disk.path().join(path.file_name().unwrap())).unwrap();
        assert!(fs::read(&path).unwrap() == again, "{}", path.display());
    }
}

#[test]
fn generated_files_that_do_not_fit_are_an_error_that_names_one() {
    let Some(disk) = Disk::mount(1) else {
        return;
    };
    let out = disk.path().join("csv");
    let mut command = etl(&["generate", "--products", "500", "--out"]);
    assert_full(&command.arg(out).output().unwrap(), ".csv");
}
