use proptest::prelude::*;

use super::*;

#[test]
fn a_key_gives_back_its_parts() {
    let key = Key::new("http", "shop", "/reviews", Some("product_id=2"));
    assert_eq!(
        (key.scheme(), key.host(), key.path()),
        ("http", "shop", "/reviews")
    );
    assert_eq!(key.query(), Some("product_id=2"));
    assert_eq!(Key::new("http", "shop", "/", None).query(), None);
    assert_eq!(Key::new("http", "shop", "/", Some("")).query(), Some(""));
    assert_eq!(format!("{key:?}"), "Key(http://shop/reviews?product_id=2)");
}

#[test]
fn a_key_is_read_back_from_its_bytes_and_from_nothing_else() {
    for query in [None, Some(""), Some("b=1")] {
        let key = Key::new("http", "shop.test", "/a", query);
        assert_eq!(Key::from_bytes(key.as_bytes()), Some(key.clone()));
        let mut longer = key.as_bytes().to_vec();
        longer.push(0);
        for bytes in [&longer, &key.as_bytes()[1..], b""] {
            assert_eq!(Key::from_bytes(bytes), None);
        }
    }
}

#[test]
fn keys_of_different_parts_differ() {
    let keys = [
        Key::new("http", "shop", "/a", None),
        Key::new("https", "shop", "/a", None),
        Key::new("http", "shop2", "/a", None),
        Key::new("http", "shop", "/a", Some("")),
        Key::new("http", "shop", "/a", Some("b")),
        Key::new("http", "shop/", "a", None),
        Key::new("http", "", "shop/a", None),
        Key::new("", "httpshop", "/a", None),
    ];
    for (index, key) in keys.iter().enumerate() {
        for other in &keys[..index] {
            assert_ne!(key.as_bytes(), other.as_bytes());
            assert_ne!(key.hash(), other.hash());
        }
    }
}

#[test]
fn the_hash_is_blake2b_of_the_framed_bytes() {
    let key = Key::new("http", "h", "/", None);
    let framed = b"\0\0\0\x04http\0\0\0\x01h\0\0\0\x01/\xff\xff\xff\xff";
    assert_eq!(key.as_bytes(), framed);
    assert_eq!(key.hash(), <[u8; 16]>::from(Blake2b::<U16>::digest(framed)));
}

proptest! {
    #[test]
    fn distinct_parts_give_distinct_keys_and_equal_ones_equal_keys(
        first in ("[a-z]{0,3}", "[a-z/]{0,3}", "[a-z/?]{0,3}", proptest::option::of("[a-z?]{0,2}")),
        second in ("[a-z]{0,3}", "[a-z/]{0,3}", "[a-z/?]{0,3}", proptest::option::of("[a-z?]{0,2}")),
    ) {
        let key = |parts: &(String, String, String, Option<String>)| {
            Key::new(&parts.0, &parts.1, &parts.2, parts.3.as_deref())
        };
        let (one, two) = (key(&first), key(&second));
        prop_assert_eq!(first == second, one.as_bytes() == two.as_bytes());
        prop_assert_eq!(first == second, one.hash() == two.hash());
        prop_assert_eq!(one.path(), first.2.as_str());
        prop_assert_eq!(one.query(), first.3.as_deref());
    }
}
