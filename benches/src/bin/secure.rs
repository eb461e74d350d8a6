//! Does anybody get at the operators' calls who may not: through the public listener, from another machine, with a token that is
//! almost right, or by the time that a refusal takes?

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::client::Client;
use benches::dice::Dice;
use benches::gateway_process::GatewayProcess;
use benches::load::get;
use benches::paced::becomes_true;
use benches::report::{keep, quantile};
use benches::running::sibling;
use benches::scripted::{Reply, Scripted};
use benches::verdict::Verdicts;
use clap::Parser;
use serde_json::{Value, json};
use stack::ports::Reserved;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// What the origin says: whoever reads it was not answered by an operators' call.
const FROM_ORIGIN: &str = "an answer of the origin";
/// A token that is for reading.
const READER: &str = "a-token-for-reading-that-is-as-long-as-any";
/// What is in the cache, and stays there unless everything is purged.
const KEPT: &str = "/kept";
/// Calls that need no token.
const OPEN: [&str; 2] = ["/healthz", "/coherence/includes"];
/// The difference of two medians that is noise: this share of them, or so many microseconds.
const NOISE_SHARE: f64 = 0.02;
const NOISE_US: f64 = 2.0;

#[derive(Parser)]
struct Arguments {
    /// Refusals of each kind that are timed.
    #[arg(long, default_value_t = 10_000)]
    samples: usize,
    /// Keep the run in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// An operators' call.
struct Call {
    method: String,
    path: String,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let origin = Scripted::start(|_| {
        std::future::ready(Some(Reply::ok("", FROM_ORIGIN.as_bytes().to_vec())))
    })?;
    let dir = tempfile::tempdir()?;
    let reader = dir.path().join("reader");
    write_secret(&reader, READER)?;
    let settings = format!("[admin]\nread_token_file = {reader:?}\n");
    let gateway = GatewayProcess::before(origin.address(), &settings, &[])?;
    Client::new(gateway.public, ANSWER_LIMIT).exchange(&get(KEPT))?;
    let calls = calls(&gateway)?;
    let mut verdicts = Verdicts::default();
    from_outside(&gateway, &calls, &mut verdicts)?;
    listeners(&gateway, &mut verdicts)?;
    without_token(&origin, &mut verdicts)?;
    tokens(&gateway, &calls, &mut verdicts)?;
    let raw = timing(&gateway, arguments.samples, &mut verdicts)?;
    if let Some(dir) = &arguments.keep {
        let files = [("raw.csv", raw.as_str()), ("summary.md", &verdicts.text())];
        println!("kept in {}", keep(dir, &files)?.display());
    }
    Ok(verdicts.exit_code())
}

fn write_secret(path: &Path, token: &str) -> Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(writeln!(file, "{token}")?)
}

/// The call as bytes, with a body by which it would do something.
fn request(call: &Call, fields: &str) -> Vec<u8> {
    let Call { method, path } = call;
    let body = match method.as_str() {
        "GET" => "",
        _ if path.contains("weight") => r#"{"weight": 7}"#,
        _ if path.contains("log") => r#"{"filter": "trace"}"#,
        _ => r#"{"all": true}"#,
    };
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{fields}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// All of them, as the gateway describes them itself, and those that are for machines.
fn calls(gateway: &GatewayProcess) -> Result<Vec<Call>> {
    let mut client = Client::new(gateway.admin, ANSWER_LIMIT);
    let described = Call {
        method: "GET".to_owned(),
        path: "/openapi.json".to_owned(),
    };
    let (reply, text) = client.text(&request(&described, &bearer(gateway.token())))?;
    let described: Value = serde_json::from_str(&text)
        .with_context(|| format!("no description of the calls, but {}", reply.status))?;
    let paths = described["paths"].as_object().context("no paths")?;
    let mut calls = Vec::new();
    for (path, methods) in paths {
        for method in methods.as_object().context("no methods")?.keys() {
            calls.push(Call {
                method: method.to_uppercase(),
                path: path.replace("{node}", "127.0.0.1:1"),
            });
        }
    }
    for path in OPEN.into_iter().chain(["/"]) {
        if !calls.iter().any(|call| call.path == path) {
            calls.push(Call {
                method: "GET".to_owned(),
                path: path.to_owned(),
            });
        }
    }
    Ok(calls)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Spellings of a path that some reader could take for it, and fields that could point to another listener.
fn disguises(path: &str, admin: SocketAddr) -> Vec<(String, String)> {
    let rest = path.trim_start_matches('/');
    let first = rest.chars().next().unwrap_or('x');
    let encoded = rest.get(first.len_utf8()..).unwrap_or_default();
    let targets = [
        path.to_owned(),
        format!("/{path}"),
        format!("/.{path}"),
        format!("/x/..{path}"),
        format!("/%{:02x}{encoded}", u32::from(first)),
        format!("{path}/"),
        format!("{path}?x=1"),
        format!("/admin{path}"),
        format!("http://{admin}{path}"),
    ];
    let fields = [
        String::new(),
        format!("X-Forwarded-Host: {admin}\r\nX-Forwarded-For: 127.0.0.1\r\n"),
        format!("X-Original-URL: {path}\r\nX-Rewrite-URL: {path}\r\n"),
    ];
    let each = |target: &String| {
        let target = target.clone();
        fields.clone().map(|fields| (target.clone(), fields))
    };
    targets.iter().flat_map(each).collect()
}

/// Every call with the right token at the public listener: answered by the origin or refused, and nothing has happened.
fn from_outside(gateway: &GatewayProcess, calls: &[Call], verdicts: &mut Verdicts) -> Result<()> {
    let before = state(gateway)?;
    let (mut asked, mut odd) = (0, Vec::new());
    for call in calls {
        for (target, fields) in disguises(&call.path, gateway.admin) {
            let disguised = Call {
                method: call.method.clone(),
                path: target,
            };
            let fields = fields + &bearer(gateway.token());
            let mut client = Client::new(gateway.public, ANSWER_LIMIT);
            let (reply, text) = client.text(&request(&disguised, &fields))?;
            asked += 1;
            // An operators' call would be answered otherwise: 200, 401, 403 or 422.
            if text != FROM_ORIGIN && !matches!(reply.status, 400 | 404 | 405) {
                odd.push(format!(
                    "{} {}: {}",
                    call.method, disguised.path, reply.status
                ));
            }
        }
    }
    verdicts.check(
        "the public listener knows no operators' call",
        odd.is_empty(),
        format_args!("{asked} requests with the right token; otherwise answered: {odd:?}"),
    );
    let after = state(gateway)?;
    verdicts.check(
        "none of them has done anything",
        before == after,
        format_args!("{before} before, {after} after"),
    );
    Ok(())
}

/// What calls change: the process, its settings, what it logs, its origins, and what it keeps.
fn state(gateway: &GatewayProcess) -> Result<Value> {
    let status = gateway.status()?;
    let nodes = status["nodes"].as_array().context("no nodes")?.iter();
    let nodes: Vec<Value> = nodes
        .map(|node| json!([node["drained"], node["weight"]]))
        .collect();
    let log = Call {
        method: "GET".to_owned(),
        path: "/log".to_owned(),
    };
    let mut client = Client::new(gateway.admin, ANSWER_LIMIT);
    let (_, log) = client.text(&request(&log, &bearer(gateway.token())))?;
    let kept = Client::new(gateway.public, ANSWER_LIMIT).exchange(&only_if_cached(KEPT))?;
    Ok(json!({
        "pid": status["pid"],
        "generation": status["settings"]["generation"],
        "log": log,
        "nodes": nodes,
        "kept": kept.is_hit,
    }))
}

fn only_if_cached(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\nCache-Control: only-if-cached\r\n\r\n")
        .into_bytes()
}

/// What the process listens on, as the system tells.
fn listeners(gateway: &GatewayProcess, verdicts: &mut Verdicts) -> Result<()> {
    let open = listening(gateway.program.id())?;
    let expected: HashSet<_> = [gateway.public, gateway.admin].into();
    verdicts.check(
        "it listens for clients and for operators, and nowhere else",
        open == expected,
        format_args!("{open:?}"),
    );
    verdicts.check(
        "operators are listened to on loopback only",
        gateway.admin.ip().is_loopback(),
        gateway.admin,
    );
    Ok(())
}

/// The addresses of a process's listening sockets, by the system's own tables.
fn listening(id: u32) -> Result<HashSet<SocketAddr>> {
    let mut own = HashSet::new();
    for entry in fs::read_dir(format!("/proc/{id}/fd"))? {
        // A descriptor may be closed meanwhile.
        let Ok(link) = fs::read_link(entry?.path()) else {
            continue;
        };
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:["));
        own.extend(inode.and_then(|inode| inode.strip_suffix(']')?.parse::<u64>().ok()));
    }
    let mut found = HashSet::new();
    for table in ["tcp", "tcp6"] {
        let Ok(table) = fs::read_to_string(format!("/proc/{id}/net/{table}")) else {
            continue; // a system without IPv6
        };
        for line in table.lines().skip(1) {
            const LISTEN: &str = "0A";
            let fields: Vec<&str> = line.split_whitespace().collect();
            let &[_, local, _, LISTEN, _, _, _, _, _, inode, ..] = &fields[..] else {
                continue;
            };
            if own.contains(&inode.parse()?) {
                found.insert(address(local)?);
            }
        }
    }
    Ok(found)
}

/// An address as the system's tables have it: words of 32 bits in the machine's order, and the port.
fn address(text: &str) -> Result<SocketAddr> {
    let (ip, port) = text.split_once(':').context("no port")?;
    let words: Vec<[u8; 4]> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| Ok(u32::from_str_radix(std::str::from_utf8(word)?, 16)?.to_ne_bytes()))
        .collect::<Result<_>>()?;
    let ip: IpAddr = match words.as_slice() {
        [word] => Ipv4Addr::from(*word).into(),
        [a, b, c, d] => {
            let bytes: Vec<u8> = [a, b, c, d].into_iter().flatten().copied().collect();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap_or_default()).into()
        }
        _ => bail!("no address: {text}"),
    };
    Ok(SocketAddr::new(ip, u16::from_str_radix(port, 16)?))
}

/// A gateway that is to serve operators on every interface, and has no token that somebody chose, does not start.
fn without_token(origin: &Scripted, verdicts: &mut Verdicts) -> Result<()> {
    let (public, admin) = (Reserved::any()?, Reserved::any()?);
    let mut child = Command::new(sibling("gateway")?)
        .args(["run", "--listen", &public.address().to_string()])
        .args(["--admin", &format!("0.0.0.0:{}", admin.address().port())])
        .args(["--upstream", &origin.address().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut ended = None;
    becomes_true(ANSWER_LIMIT, || {
        ended = child.try_wait().ok().flatten();
        ended.is_some()
    });
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    verdicts.check(
        "it does not start with a public operators' listener and no token",
        ended.is_some_and(|status| !status.success()),
        format_args!("{ended:?}"),
    );
    Ok(())
}

/// Every call without a token, and with each that is not the right one.
fn tokens(gateway: &GatewayProcess, calls: &[Call], verdicts: &mut Verdicts) -> Result<()> {
    let right = gateway.token();
    let wrong = [
        String::new(),
        bearer(""),
        bearer(&changed(right, 0)),
        bearer(&changed(right, right.len() - 1)),
        bearer(&right[..right.len() - 1]),
        bearer(&right[..1]),
        bearer(&format!("{right}x")),
        bearer(&format!("{right}{right}")),
        bearer(&right.repeat(100)),
        bearer(&"x".repeat(right.len())),
        format!("Authorization: Basic {right}\r\n"),
        format!("X-Authorization: Bearer {right}\r\n"),
        format!("Cookie: token={right}\r\n"),
    ];
    let before = state(gateway)?;
    let (mut asked, mut odd) = (0, Vec::new());
    let guarded = calls
        .iter()
        .filter(|call| !OPEN.contains(&call.path.as_str()) && call.path != "/");
    for call in guarded.clone() {
        for fields in &wrong {
            let mut client = Client::new(gateway.admin, ANSWER_LIMIT);
            let status = client.exchange(&request(call, fields))?.status;
            asked += 1;
            if status != 401 {
                odd.push(format!(
                    "{} {} {fields:?}: {status}",
                    call.method, call.path
                ));
            }
        }
    }
    verdicts.check(
        "without the token every call is 401",
        odd.is_empty() && asked > 0,
        format_args!(
            "{asked} calls with none, a wrong, a short or a long one; otherwise answered: {odd:?}"
        ),
    );
    let mut forbidden = Vec::new();
    let changing = guarded.filter(|call| call.method != "GET");
    for call in changing {
        let mut client = Client::new(gateway.admin, ANSWER_LIMIT);
        forbidden.push(client.exchange(&request(call, &bearer(READER)))?.status);
    }
    verdicts.check(
        "with the token for reading what changes something is 403",
        !forbidden.is_empty() && forbidden.iter().all(|status| *status == 403),
        format_args!("{forbidden:?}"),
    );
    let after = state(gateway)?;
    verdicts.check(
        "none of these has done anything",
        before == after,
        format_args!("{before} before, {after} after"),
    );
    Ok(())
}

/// A token with another letter in one place.
fn changed(token: &str, place: usize) -> String {
    let mut bytes = token.as_bytes().to_vec();
    bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How long a refusal takes for a token that is wrong in its first place, and for one that is wrong in its last.
fn timing(gateway: &GatewayProcess, samples: usize, verdicts: &mut Verdicts) -> Result<String> {
    let right = gateway.token();
    let status = Call {
        method: "GET".to_owned(),
        path: "/status".to_owned(),
    };
    let requests =
        [0, right.len() - 1].map(|place| request(&status, &bearer(&changed(right, place))));
    let mut client = Client::new(gateway.admin, ANSWER_LIMIT);
    for _ in 0..samples / 10 {
        client.exchange(&requests[0])?;
        client.exchange(&requests[1])?;
    }
    let mut dice = Dice::new(1);
    let mut us = [Vec::with_capacity(samples), Vec::with_capacity(samples)];
    let mut raw = String::from("first_byte_us,last_byte_us\n");
    for _ in 0..samples {
        // In pairs, so that whatever slows one down soon slows down the other; in either order, so that none is always second.
        let first = dice.between(0, 1) as usize;
        for which in [first, 1 - first] {
            let began = Instant::now();
            client.exchange(&requests[which])?;
            us[which].push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    for (first, last) in us[0].iter().zip(&us[1]) {
        let _ = writeln!(raw, "{first:.2},{last:.2}");
    }
    let median = |which: usize| quantile(&us[which], 0.5).context("no samples");
    let (first, last) = (median(0)?, median(1)?);
    let difference = (first - last).abs();
    let noise = NOISE_US.max(NOISE_SHARE * first.max(last));
    verdicts.check(
        "a refusal takes as long for a wrong first letter as for a wrong last",
        difference <= noise,
        format_args!(
            "medians of {samples} each {first:.2} us and {last:.2} us, {difference:.2} us apart; noise {noise:.2} us"
        ),
    );
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_in_the_tables_of_the_system() {
        let one = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listening(std::process::id()).unwrap();
        assert!(found.contains(&one.local_addr().unwrap()), "{found:?}");
        drop(one);
    }

    #[test]
    fn a_changed_token_differs_in_one_place_and_is_as_long() {
        assert_eq!(changed("0a0", 0), "1a0");
        assert_eq!(changed("0a0", 1), "000");
    }
}
