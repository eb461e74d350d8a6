use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SHOP: &str = include_str!("../../../ops/shop.toml");

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse("gateway.toml", text, &Overrides::default())
}

/// Every problem of a text, one a line.
#[track_caller]
fn problems(text: &str) -> String {
    parse(text).expect_err("the text is wrong").to_string()
}

const NODES: &str = "upstream.nodes = [\"127.0.0.1:3001\"]\n";

#[test]
fn the_shops_file_is_valid_and_says_what_the_contract_says() {
    let config = parse(SHOP).unwrap();
    assert_eq!(config.http.prefixes, ["/api/fec2/{campus}", "/api"]);
    assert_eq!(config.http.host.as_deref(), Some("shop"));
    assert!(config.http.drop_trailing_slash && config.http.collapse_slashes);
    assert!(config.cache.marked_only && !config.cache.heuristic && !config.http.cache_unmatched);
    assert_eq!(config.cache.client_directives, ClientDirectives::Ignore);
    assert_eq!(config.cache.budget, ByteSize::mebibytes(96));
    let cors = config.cors.unwrap();
    let methods: Vec<_> = cors
        .allow_methods
        .iter()
        .map(http::Method::as_str)
        .collect();
    assert_eq!(methods, ["GET", "HEAD", "POST", "PUT", "OPTIONS"]);
    assert_eq!(cors.max_age, Duration::from_secs(86_400));
    assert!(!config.auth.required);
    let uncached: Vec<_> = config
        .routes
        .iter()
        .filter(|route| !route.cache)
        .map(|route| route.path.as_str())
        .collect();
    assert_eq!(uncached.len(), 8);
    assert!(uncached.contains(&"/cart") && uncached.contains(&"/interactions"));
    assert_eq!(config.routes.len(), 16);
}

#[test]
fn defaults_fit_a_small_machine_and_any_origin() {
    let config = parse(NODES).unwrap();
    assert_eq!(config.threads, 1);
    assert_eq!(config.admin, None);
    assert_eq!(config.cache.budget, ByteSize::mebibytes(96));
    assert_eq!(config.cache.object_max, ByteSize::mebibytes(4));
    assert_eq!(config.upstream.connect_timeout, Duration::from_millis(500));
    assert_eq!(config.limits.header_fields_max, 64);
    assert!(
        config.cache.heuristic && config.http.cache_unmatched && config.cache.strip_cache_headers
    );
    assert!(config.cache.store_set_cookie);
    assert_eq!(config.cache.client_directives, ClientDirectives::Obey);
    assert_eq!(config.upstream.nodes[0].weight, 1);
}

#[test]
fn routes_turn_general_defaults_off_unless_the_file_says_otherwise() {
    let route = "[[route]]\npath = \"/a\"\n";
    let config = parse(&format!("{NODES}{route}")).unwrap();
    assert!(!config.cache.heuristic && !config.cache.store_set_cookie);
    assert!(!config.http.cache_unmatched);
    assert_eq!(config.cache.client_directives, ClientDirectives::Ignore);
    assert!(config.routes[0].cache);
    assert_eq!(
        config.routes[0].methods,
        [http::Method::GET, http::Method::HEAD]
    );
    let set =
        "cache.heuristic = true\ncache.client_directives = \"obey\"\nhttp.cache_unmatched = true\n";
    let config = parse(&format!("{NODES}{set}{route}")).unwrap();
    assert!(config.cache.heuristic && config.http.cache_unmatched);
    assert_eq!(config.cache.client_directives, ClientDirectives::Obey);
}

#[test]
fn flags_win_over_the_file() {
    let overrides = Overrides {
        listen: Some("127.0.0.1:1".parse().unwrap()),
        upstreams: vec!["127.0.0.1:2".parse().unwrap()],
        admin: Some("127.0.0.1:3".parse().unwrap()),
        admin_token_file: Some("token".into()),
    };
    let config = Config::parse("shop.toml", SHOP, &overrides).unwrap();
    assert_eq!(config.listen.port(), 1);
    assert_eq!(
        config.upstream.nodes,
        [Node::from(overrides.upstreams[0].clone())]
    );
    let admin = config.admin.unwrap();
    assert_eq!(
        (admin.listen.port(), admin.token_file),
        (3, Some("token".into()))
    );
}

#[test]
fn flags_alone_make_a_gateway() {
    let listen = "127.0.0.1:8080".parse().unwrap();
    let nodes = vec!["127.0.0.1:3001".parse().unwrap()];
    let config = Config::from_flags(listen, nodes.clone(), None, None).unwrap();
    assert_eq!((config.admin, config.routes.len()), (None, 0));
    let none = Config::from_flags(listen, Vec::new(), None, None).unwrap_err();
    assert_eq!(
        none.to_string(),
        "upstream.nodes: at least one origin, as in nodes = [\"127.0.0.1:3001\"]"
    );
    let public = "0.0.0.0:8081".parse().unwrap();
    let open = Config::from_flags(listen, nodes, Some(public), None).unwrap_err();
    assert_eq!(
        open.to_string(),
        "admin.token_file: required, as 0.0.0.0:8081 can be reached from other machines"
    );
}

#[test]
fn faults_of_syntax_and_type_name_line_and_column() {
    let cases = [
        (
            "listen = ",
            "gateway.toml:1:10: expected a value; a text stands in quotes",
        ),
        (
            "listen = 8080",
            "gateway.toml:1:10: listen: expected an address as in \"127.0.0.1:8080\", found `8080`",
        ),
        (
            "threads = 1\nlistne = \"x\"",
            "gateway.toml:2:1: listne: no such setting; did you mean `listen`?",
        ),
        (
            "[cache]\nbudgte = \"1MiB\"",
            "gateway.toml:2:1: cache.budgte: no such setting; did you mean `budget`?",
        ),
        (
            "[cache]\nbudget = \"lots\"",
            "gateway.toml:2:10: cache.budget: `lots` is not a size",
        ),
        (
            "[cache]\n# \u{e9}\nbudget = -5",
            "gateway.toml:3:10: cache.budget: -5 is not a size: it is negative",
        ),
        (
            "[cache]\nlock_wait = 5",
            "gateway.toml:2:13: cache.lock_wait: expected a duration",
        ),
        (
            "[cache]\nlock_wait = \"5\"",
            "gateway.toml:2:13: cache.lock_wait: `5` is not a duration",
        ),
        (
            "[upstream]\nnodes = [\"x\"]",
            "gateway.toml:2:10: upstream.nodes[0]: `x` is not an address",
        ),
        (
            "[upstream]\nnodes = [7]",
            "gateway.toml:2:10: upstream.nodes[0]: expected \"HOST:PORT\"",
        ),
        (
            "[upstream]\nnodes = [{ adress = \"a:1\" }]",
            "gateway.toml:2:12: upstream.nodes[0].adress: no such setting; did you mean `address`?",
        ),
        (
            "[cors]\nallow_methods = [\"get\"]",
            "gateway.toml:2:18: cors.allow_methods[0]: `get` is not a method",
        ),
        (
            "[cache]\nvary = [\"a b\"]",
            "gateway.toml:2:9: cache.vary[0]: `a b` is not a header name",
        ),
        (
            "[[route]]\nmethods = [\"GET\"]",
            "gateway.toml:1:1: route[0]: `path` is required",
        ),
    ];
    for (text, expected) in cases {
        let found = problems(&format!("{text}\n"));
        assert!(
            found.contains(expected),
            "{text}\nexpected {expected}\nfound    {found}"
        );
    }
}

/// A file with something wrong in every section.
const WRONG: &str = "\
listen = \"127.0.0.1:8080\"
admin = { listen = \"127.0.0.1:8080\" }
threads = 0
[upstream]
nodes = [\"127.0.0.1:8080\", { address = \"a:1\", weight = 0 }, \"a:1\"]
attempts = 99
[cache]
budget = \"10MiB\"
object_max = \"11MiB\"
lock_age = \"0s\"
[limits]
header_bytes_max = \"4MiB\"
read_timeout = 3
[http]
host = \"Shop\"
prefixes = [\"api\", \"/{x}\", \"/\", \"/a/\"]
drop_trailing_slash = true
[cors]
allow_origin = \"shop\"
expose_headers = [\"a b\"]
[auth]
required = true
[loadtest]
loaderio_tokens = [\"loaderio-12ab\", \"loaderio-XY\", \"12ab\"]
[[route]]
path = \"/a/{b}\"
query = [
  { name = \"n\", kind = \"integer\", default = 0, min = 1 },
  { name = \"n\", min = 1 },
  { name = \"c\", kind = \"choice\", default = \"x\", values = { y = [\"y\"] } },
]
[[route]]
path = \"/a/{c}\"
methods = []
";

/// Line, column and key of each thing that is wrong in it.
const WRONG_KEYS: [&str; 28] = [
    "2:20: admin.listen",
    "3:11: threads",
    "5:10: upstream.nodes[0]",
    "5:28: upstream.nodes[1]",
    "5:61: upstream.nodes[2]",
    "6:12: upstream.attempts",
    "9:14: cache.object_max",
    "10:12: cache.lock_age",
    "12:20: limits.header_bytes_max",
    "13:16: limits.read_timeout",
    "15:8: http.host",
    "16:13: http.prefixes[0]",
    "16:20: http.prefixes[1]",
    "16:28: http.prefixes[2]",
    "16:33: http.prefixes[3]",
    "17:23: http.drop_trailing_slash",
    "19:16: cors.allow_origin",
    "20:19: cors.expose_headers[0]",
    "21:1: auth.tokens_file",
    "24:37: loadtest.loaderio_tokens[1]",
    "24:52: loadtest.loaderio_tokens[2]",
    "28:45: route[0].query[0].default",
    "29:12: route[0].query[1].name",
    "29:23: route[0].query[1].min",
    "30:44: route[0].query[2].default",
    "30:58: route[0].query[2].values",
    "33:8: route[1].path",
    "34:11: route[1].methods",
];

#[test]
fn every_problem_is_reported_in_the_order_of_the_file() {
    let found = parse(WRONG).unwrap_err();
    let keys: Vec<_> = found
        .list
        .iter()
        .map(|problem| {
            let (line, column) = problem.place.unwrap_or_default();
            format!("{line}:{column}: {}", problem.key)
        })
        .collect();
    assert_eq!(keys, WRONG_KEYS, "{found}");
}

#[test]
fn a_section_that_cannot_be_read_hides_no_other_and_brings_no_false_alarm() {
    let found = problems("[upstream]\nnodes = 5\n[cache]\nobject_max = \"0B\"\nname = \"\"\n");
    assert_eq!(found.lines().count(), 3, "{found}");
    assert!(!found.contains("at least one origin"), "{found}");
}

#[test]
fn a_missing_file_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let found = Config::load(&path, &Overrides::default()).unwrap_err();
    assert!(
        found.to_string().contains("none.toml: cannot be read:"),
        "{found}"
    );
    std::fs::write(&path, SHOP).unwrap();
    assert_eq!(Config::load(&path, &Overrides::default()), parse(SHOP));
    std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
    let found = Config::load(&path, &Overrides::default()).unwrap_err();
    assert!(found.to_string().contains("larger than 1MiB"), "{found}");
}

#[test]
fn printed_settings_name_secret_files_and_hold_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "planted-secret").unwrap();
    let text = format!(
        "{NODES}admin.token_file = {file:?}\nauth = {{ required = true, tokens_file = {file:?} }}\n"
    );
    let printed = format!("{:#?}", parse(&text).unwrap());
    assert!(printed.contains("tokens_file") && !printed.contains("planted-secret"));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_broken_shop_file_is_reported_or_still_valid(at in 0..SHOP.len(), with in "[\\[\\]{}=\"a0 \n]{0,3}") {
        let (head, tail) = (SHOP.get(..at), SHOP.get(at + 1..));
        prop_assume!(head.is_some() && tail.is_some());
        let text = format!("{}{with}{}", head.unwrap(), tail.unwrap());
        if let Err(found) = parse(&text) {
            prop_assert!(!found.list.is_empty());
            prop_assert!(found.to_string().starts_with("gateway.toml:"));
        }
    }
}
