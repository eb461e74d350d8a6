//! Looking at the system's processes.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use nix::{sys::signal::kill, unistd::Pid};

/// Converts the id of a process or a process group.
pub fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed())
}

/// Whether the process exists and does anything: one that ended but was not waited for does not count.
pub fn is_alive(id: u32) -> bool {
    match fs::read_to_string(format!("/proc/{id}/stat")) {
        Ok(stat) => !matches!(state_and_parent(&stat), Some(("Z" | "X", _)) | None),
        Err(_) if has_proc() => false,
        Err(_) => kill(pid(id), None).is_ok(),
    }
}

/// The processes whose parent is `parent`.
pub fn children(parent: u32) -> Result<Vec<u32>> {
    let parents = if has_proc() {
        parents_from_proc()?
    } else {
        parents_from_ps()?
    };
    Ok(parents
        .into_iter()
        .filter(|(_, of)| *of == parent)
        .map(|(id, _)| id)
        .collect())
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// Every process with its parent. Not through `ps`, which a minimal Linux lacks.
fn parents_from_proc() -> Result<Vec<(u32, u32)>> {
    let entries = Path::new("/proc")
        .read_dir()
        .context("cannot list processes")?;
    let of_process = |id: u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Some((id, state_and_parent(&stat)?.1))
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(of_process)
        .collect())
}

fn parents_from_ps() -> Result<Vec<(u32, u32)>> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
    let output = output.context("cannot list processes with ps")?;
    let listing = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| {
        let mut ids = line.split_whitespace().map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    Ok(listing.lines().filter_map(line).collect())
}

/// Reads `42 (a name) S 1 ..`, where the name may itself hold spaces and parentheses.
fn state_and_parent(stat: &str) -> Option<(&str, u32)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_confuse_the_reader() {
        assert_eq!(state_and_parent("42 (a) b) c) S 7 42 42 0"), Some(("S", 7)));
        assert_eq!(state_and_parent(""), None);
    }

    #[test]
    fn a_child_is_listed_and_alive_until_it_ends() {
        let mut child = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert!(children(std::process::id()).unwrap().contains(&child.id()));
        assert!(is_alive(child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
    }
}
