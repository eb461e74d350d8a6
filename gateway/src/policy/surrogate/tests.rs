use std::time::Duration;

use super::*;

fn read_lines(lines: &[&'static str]) -> Option<Directives> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(&SURROGATE_CONTROL, HeaderValue::from_static(line));
    }
    read(&headers)
}

fn fresh(seconds: u64) -> Directives {
    Directives {
        max_age: Some(Duration::from_secs(seconds)),
        ..Directives::default()
    }
}

#[test]
fn directives_for_every_device_and_for_this_one_count() {
    let no_store = Directives {
        no_store: true,
        ..Directives::default()
    };
    let cases: [(&[&'static str], Option<Directives>); 15] = [
        (&[], None),
        (&["max-age=60"], Some(fresh(60))),
        (&["MaX-aGe=60"], Some(fresh(60))),
        (&["max-age=60;gateway"], Some(fresh(60))),
        (&["max-age=60; gateway"], Some(fresh(60))),
        (&["max-age=60;another"], None),
        (&["max-age=60;another, max-age=5"], Some(fresh(5))),
        (&["max-age=60", "max-age=5"], Some(fresh(5))),
        (&["unknown, max-age=60"], Some(fresh(60))),
        (&["content=\"ESI/1.0, x\""], None),
        (&["no-store"], Some(no_store.clone())),
        (&["no-store;another"], None),
        (&["no-store-remote"], None),
        // What cannot be read is no lifetime.
        (&["max-age=x"], Some(fresh(0))),
        (&["max-age"], Some(fresh(0))),
    ];
    for (lines, expected) in cases {
        assert_eq!(read_lines(lines), expected, "{lines:?}");
    }
}

#[test]
fn a_second_number_is_the_time_it_may_be_used_stale() {
    let expected = Directives {
        stale_while_revalidate: Some(Duration::from_secs(600)),
        stale_if_error: Some(Duration::from_secs(600)),
        ..fresh(60)
    };
    assert_eq!(read_lines(&["max-age=60+600"]), Some(expected));
}
