use super::*;

fn key(host: &str, path: &str) -> Key {
    Key::new("http", host, path, None)
}

#[test]
fn a_prefix_refuses_older_fills_below_it_and_no_others() {
    let table = PurgeTable::new();
    let on = |host, path| Scope::Prefix(Prefix { host, path });
    let sequence = table.record(&[on(Some("one"), "/products/")]);
    let tags = ["red".into()];
    let is_purged = |host, path| table.is_purged_since(0, &key(host, path), &tags);
    assert!(is_purged("one", "/products/") && is_purged("one", "/products/7/styles"));
    assert!(!is_purged("one", "/products") && !is_purged("two", "/products/7"));
    assert!(!table.is_purged_since(sequence, &key("one", "/products/7"), &tags));
    table.record(&[on(None, "/products/")]);
    assert!(is_purged("two", "/products/7"));
}

#[test]
fn a_prefix_that_left_the_list_refuses_every_older_fill() {
    let table = PurgeTable::new();
    for n in 0..=PREFIXES_MAX {
        let path = format!("/{n}/");
        table.record(&[Scope::Prefix(Prefix {
            host: None,
            path: &path,
        })]);
    }
    let (first, last) = (1, PREFIXES_MAX as u64 + 1);
    assert!(table.is_purged_since(first - 1, &key("one", "/0/page"), &[]));
    assert!(
        !table.is_purged_since(first, &key("one", "/unrelated"), &[]),
        "those in the list are still told apart"
    );
    assert!(table.is_purged_since(first, &key("one", &format!("/{}/page", last - 1)), &[]));
    assert_eq!(table.prefixes.lock().len(), PREFIXES_MAX);
}

#[test]
fn a_long_prefix_refuses_what_begins_with_its_beginning() {
    let table = PurgeTable::new();
    let path = format!("/{}", "a".repeat(2 * PREFIX_BYTES_MAX));
    table.record(&[Scope::Prefix(Prefix {
        host: None,
        path: &path,
    })]);
    assert!(table.is_purged_since(0, &key("one", &path), &[]));
    assert!(!table.is_purged_since(0, &key("one", "/a"), &[]));
}

#[test]
fn the_last_purge_of_an_entry_is_the_newest_that_named_it_in_any_way() {
    let table = PurgeTable::new();
    let page = key("one", "/page");
    let tags: [Box<str>; 1] = ["red".into()];
    assert_eq!(table.last(&page, &tags), 0);
    let scopes = [
        Scope::All,
        Scope::Key(page.hash()),
        Scope::Tag("red"),
        Scope::Prefix(Prefix {
            host: None,
            path: "/p",
        }),
        Scope::Path("/page", None),
    ];
    for scope in scopes {
        let sequence = table.record(&[scope]);
        assert_eq!(table.last(&page, &tags), sequence, "{scope:?}");
    }
    table.record(&[Scope::Tag("blue")]);
    assert_eq!(table.last(&page, &tags), 5);
}

#[test]
fn an_answer_yet_to_come_is_taken_to_have_the_groups_of_the_last_one() {
    let table = PurgeTable::new();
    let page = key("one", "/page");
    let red = table.record(&[Scope::Tag("red")]);
    assert!(
        table.may_match_since(red - 1, &page),
        "while nothing is known every group counts"
    );
    assert!(!table.may_match_since(red, &page));
    table.note_groups(&page, &["blue".into(), "green".into()]);
    assert!(!table.may_match_since(0, &page));
    let blue = table.record(&[Scope::Tag("blue")]);
    assert!(table.may_match_since(blue - 1, &page));
    table.note_groups(&page, &[]);
    assert!(!table.may_match_since(0, &page));
    let many: Vec<Box<str>> = (0..=GROUPS_MAX).map(|n| n.to_string().into()).collect();
    table.note_groups(&page, &many);
    assert!(table.may_match_since(0, &page), "too many to remember");
    table.note_groups(&page, &[]);
    let named = table.record(&[Scope::Key(page.hash())]);
    assert!(table.may_match_since(named - 1, &page) && !table.may_match_since(named, &page));
}

#[test]
fn any_groups_of_an_answer_bring_the_next_one_under_their_purges() {
    let table = PurgeTable::new();
    let page = key("one", "/page");
    for count in 1..=GROUPS_MAX {
        for round in 0..200 {
            let tags: Vec<Box<str>> = (0..count).map(|n| format!("{round}-{n}").into()).collect();
            table.note_groups(&page, &tags);
            for tag in &tags {
                let sequence = table.record(&[Scope::Tag(tag)]);
                assert!(table.may_match_since(sequence - 1, &page), "{tags:?}");
            }
        }
    }
}

#[test]
fn a_stranger_in_one_of_two_slots_refuses_nothing() {
    let table = PurgeTable::new();
    let (names, strangers) = (200_u64, 2_000_u64);
    for stranger in 0..strangers {
        table.record(&[Scope::Tag(&format!("stranger {stranger}"))]);
    }
    let refused = (0..names).filter(|name| {
        let tags = [format!("name {name}").into()];
        table.is_purged_since(0, &key("one", &format!("/{name}")), &tags)
    });
    // Three names each, which share a slot with some stranger in one case of seventeen, and both in one of three hundred.
    let refused = refused.count();
    assert!(
        refused <= 8,
        "{refused} of {names} fills refused for nothing"
    );
}

#[test]
fn nothing_is_known_of_a_key_by_the_groups_of_another() {
    let table = PurgeTable::new();
    for n in 0..2 * GROUPED_KEYS {
        table.note_groups(&key("one", &format!("/other/{n}")), &["other".into()]);
    }
    let sequence = table.record(&[Scope::Tag("red")]);
    for n in 0..1_000 {
        let page = key("one", &format!("/page/{n}"));
        assert!(table.may_match_since(sequence - 1, &page), "{page}");
    }
}
