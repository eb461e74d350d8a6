//! The store against a model that anybody can check by reading: random fills, late answers, purges of every kind, expiry,
//! eviction and reads.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::purge::Prefix;

const FRESH_SECONDS: u64 = 60;
const SOFT_AT_SECONDS: u64 = 10;
const OBJECT_BYTES_MAX: usize = 2_500;
/// Small enough that eviction never rests, and large enough that it never begins.
const BUDGETS: [usize; 2] = [40_000, 16 << 20];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    path: u8,
    variant: u8,
}

#[derive(Debug, Clone, Copy)]
enum Named {
    Tag(u8),
    /// A group on one of the hosts.
    SiteTag(u8, bool),
    Path(u8),
    Key(u8),
    Folder(u8),
    All,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Hard,
    Soft,
    DryRun,
}

#[derive(Debug, Clone)]
enum Step {
    /// A request leaves for the origin; its answer comes with a later step.
    Ask(Place),
    /// The oldest asked is answered with a whole new body.
    Answer {
        tags: Vec<u8>,
        bytes: u16,
    },
    /// The oldest asked is answered with the header of one, the body to follow.
    AnswerHeader {
        tags: Vec<u8>,
    },
    /// The oldest asked is answered with 304, which may name other groups.
    AnswerUnchanged {
        tags: Option<Vec<u8>>,
    },
    /// The oldest open body ends.
    Finish,
    /// The newest open body breaks off.
    Break,
    Purge(Named, Kind),
    /// A read so many seconds after the epoch.
    Read(Place, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..24u8, 0..3u8).prop_map(|(path, variant)| Place { path, variant });
    let tags =
        || proptest::collection::btree_set(0..6u8, 0..4).prop_map(|set| set.into_iter().collect());
    let named = prop_oneof![
        4 => (0..6u8).prop_map(Named::Tag),
        3 => (0..6u8, any::<bool>()).prop_map(|(tag, other)| Named::SiteTag(tag, other)),
        2 => (0..24u8).prop_map(Named::Path),
        2 => (0..24u8).prop_map(Named::Key),
        1 => (0..3u8).prop_map(Named::Folder),
        1 => Just(Named::All),
    ];
    let kind = prop_oneof![3 => Just(Kind::Hard), 3 => Just(Kind::Soft), 1 => Just(Kind::DryRun)];
    prop_oneof![
        12 => place().prop_map(Step::Ask),
        8 => (tags(), 0..3_000u16).prop_map(|(tags, bytes)| Step::Answer { tags, bytes }),
        3 => tags().prop_map(|tags| Step::AnswerHeader { tags }),
        3 => proptest::option::of(tags()).prop_map(|tags| Step::AnswerUnchanged { tags }),
        3 => Just(Step::Finish),
        1 => Just(Step::Break),
        4 => (named, kind).prop_map(|(named, kind)| Step::Purge(named, kind)),
        10 => (place(), prop_oneof![Just(20u64), Just(70u64)])
            .prop_map(|(place, second)| Step::Read(place, second)),
    ]
}

fn path_of(path: u8) -> String {
    format!("/{}/{path}", path / 8)
}

/// Whether a path is asked for on the other one of two hosts.
fn is_other(path: u8) -> bool {
    path.is_multiple_of(3)
}

fn host_of(is_other: bool) -> &'static str {
    if is_other { "other" } else { HOST }
}

fn key_of(path: u8) -> Arc<Key> {
    let host = host_of(is_other(path));
    Arc::new(Key::new("http", host, &path_of(path), None))
}

fn tag_names(tags: &[u8]) -> Vec<Box<str>> {
    tags.iter().map(|tag| format!("tag-{tag}").into()).collect()
}

#[derive(Debug, Clone)]
struct Kept {
    id: u64,
    etag: String,
    tags: Vec<u8>,
    began: Sequence,
    is_soft: bool,
    is_complete: bool,
}

struct Asked {
    place: Place,
    began: Sequence,
    /// What it was to validate.
    stored: Option<Arc<Object>>,
}

/// What a cache without a bound would hold.
#[derive(Default)]
struct Model {
    kept: HashMap<Place, Kept>,
    purges: Vec<(Sequence, Named)>,
}

fn is_named(named: Named, place: Place, tags: &[u8]) -> bool {
    match named {
        Named::Tag(tag) => tags.contains(&tag),
        Named::SiteTag(tag, other) => tags.contains(&tag) && is_other(place.path) == other,
        Named::Path(path) | Named::Key(path) => path == place.path,
        Named::Folder(folder) => folder == place.path / 8 && !is_other(place.path),
        Named::All => true,
    }
}

impl Model {
    fn is_overtaken(&self, began: Sequence, place: Place, tags: &[u8]) -> bool {
        let mut purges = self.purges.iter();
        purges.any(|(sequence, named)| *sequence > began && is_named(*named, place, tags))
    }

    fn begin(&mut self, asked: &Asked, tags: &[u8], (id, etag): (u64, String)) {
        let newer = self.kept.get(&asked.place);
        if self.is_overtaken(asked.began, asked.place, tags)
            || newer.is_some_and(|kept| kept.began > asked.began)
        {
            return;
        }
        let kept = Kept {
            id,
            etag,
            tags: tags.to_vec(),
            began: asked.began,
            is_soft: false,
            is_complete: false,
        };
        self.kept.insert(asked.place, kept);
    }

    fn complete(&mut self, id: u64) {
        for kept in self.kept.values_mut().filter(|kept| kept.id == id) {
            kept.is_complete = true;
        }
    }

    fn forget(&mut self, id: u64) {
        self.kept.retain(|_, kept| kept.id != id);
    }

    /// Whether the answer 304 counts.
    fn refresh(&mut self, asked: &Asked, id: u64, etag: String, tags: &[u8]) -> bool {
        let Some(kept) = self.kept.get(&asked.place).filter(|kept| kept.id == id) else {
            return false;
        };
        let is_overtaken = |tags| self.is_overtaken(asked.began, asked.place, tags);
        if is_overtaken(&kept.tags) || is_overtaken(tags) {
            return false;
        }
        let kept = Kept {
            etag,
            tags: tags.to_vec(),
            is_soft: false,
            began: kept.began.max(asked.began),
            ..kept.clone()
        };
        self.kept.insert(asked.place, kept);
        true
    }

    fn purge(&mut self, named: Named, kind: Kind, sequence: Sequence) -> usize {
        let is_named = |place: &Place, kept: &Kept| is_named(named, *place, &kept.tags);
        let all = self.kept.iter();
        let count = all.filter(|(place, kept)| is_named(place, kept)).count();
        match kind {
            Kind::DryRun => return count,
            Kind::Hard => self.kept.retain(|place, kept| !is_named(place, kept)),
            Kind::Soft => {
                self.kept
                    .retain(|place, kept| kept.is_complete || !is_named(place, kept));
                for (place, kept) in &mut self.kept {
                    kept.is_soft |= is_named(place, kept);
                }
            }
        }
        self.purges.push((sequence, named));
        count
    }
}

struct Trial {
    store: Arc<Store>,
    model: Model,
    epoch: Instant,
    asked: Vec<Asked>,
    open: Vec<FillWriter>,
    /// Nothing was evicted or refused for want of room: what the model holds has to be found.
    is_exact: bool,
}

impl Trial {
    fn freshness(&self) -> Freshness {
        Freshness {
            stored_at: self.epoch,
            fresh_for: Duration::from_secs(FRESH_SECONDS),
            ..fresh()
        }
    }

    fn find(&self, place: Place) -> Option<Arc<Object>> {
        let key = key_of(place.path);
        let variance = [place.variant; 16];
        self.store
            .lookup(&key.hash(), key.as_bytes(), Some(&variance))
    }

    fn begin(&mut self, tags: &[u8], number: usize) -> Option<FillWriter> {
        if self.asked.is_empty() {
            return None;
        }
        let asked = self.asked.remove(0);
        let etag = format!("\"{number}\"");
        let writer = self.store.begin_fill(NewFill {
            encodable: true,
            key: key_of(asked.place.path),
            variance: Some([asked.place.variant; 16]),
            head: head(&etag),
            freshness: self.freshness(),
            tags: tag_names(tags),
            began: asked.began,
        });
        self.model.begin(&asked, tags, (writer.object().id, etag));
        Some(writer)
    }

    fn answer(&mut self, tags: &[u8], bytes: u16, number: usize) {
        let Some(mut writer) = self.begin(tags, number) else {
            return;
        };
        let id = writer.object().id;
        writer.write(Bytes::from(vec![0; bytes.into()])).unwrap();
        writer.finish();
        if usize::from(bytes) > OBJECT_BYTES_MAX {
            self.model.forget(id);
        } else {
            self.model.complete(id);
        }
    }

    fn answer_unchanged(
        &mut self,
        number: usize,
        tags: &Option<Vec<u8>>,
    ) -> Result<(), TestCaseError> {
        if self.asked.is_empty() {
            return Ok(());
        }
        let asked = self.asked.remove(0);
        let Some(stored) = asked.stored.clone().filter(|stored| stored.is_complete()) else {
            return Ok(());
        };
        let etag = format!("\"{number}\"");
        let named = match tags {
            Some(tags) => tag_names(tags),
            None => stored.tags.to_vec(),
        };
        let refreshed = self.store.refresh(
            &stored,
            Renewed {
                head: head(&etag),
                freshness: self.freshness(),
                tags: named.clone(),
                encodable: true,
            },
            asked.began,
        );
        if self.is_exact || refreshed {
            let tags: Vec<u8> = (0..6)
                .filter(|tag| named.contains(&tag_names(&[*tag])[0]))
                .collect();
            prop_assert_eq!(
                self.model.refresh(&asked, stored.id, etag, &tags),
                refreshed
            );
        }
        Ok(())
    }

    fn purge(&mut self, named: Named, kind: Kind) -> Result<(), TestCaseError> {
        let (tag, path, folder);
        let scope = match named {
            Named::Tag(number) => {
                tag = format!("tag-{number}");
                Scope::Tag(&tag)
            }
            Named::SiteTag(number, other) => {
                tag = format!("tag-{number}");
                Scope::SiteTag {
                    scheme: "http",
                    host: host_of(other),
                    tag: &tag,
                }
            }
            Named::Path(number) => {
                path = path_of(number);
                Scope::Path(&path, None)
            }
            Named::Key(number) => Scope::Key(key_of(number).hash()),
            Named::Folder(number) => {
                folder = format!("/{number}/");
                Scope::Prefix(Prefix {
                    host: Some(HOST),
                    path: &folder,
                })
            }
            Named::All => Scope::All,
        };
        let at = self.epoch + Duration::from_secs(SOFT_AT_SECONDS);
        let order = Order {
            scopes: &[scope],
            mode: match kind {
                Kind::Hard => Mode::Hard,
                Kind::Soft => Mode::Soft { at },
                Kind::DryRun => Mode::DryRun,
            },
            hottest: 0,
        };
        let purged = self.store.begin_purge(&order).finish();
        let count = self.model.purge(named, kind, purged.sequence);
        if self.is_exact {
            prop_assert_eq!(purged.objects, count);
        } else {
            prop_assert!(purged.objects <= count);
        }
        Ok(())
    }

    fn read(&self, place: Place, second: u64) -> Result<(), TestCaseError> {
        let (found, kept) = (self.find(place), self.model.kept.get(&place));
        let Some(found) = found else {
            prop_assert!(!self.is_exact || kept.is_none(), "{:?} is missing", kept);
            return Ok(());
        };
        prop_assert!(kept.is_some(), "{place:?} is there and should not be");
        let kept = kept.unwrap();
        prop_assert_eq!(found.head.headers["etag"].to_str().ok(), Some(&*kept.etag));
        let tags = tag_names(&kept.tags);
        prop_assert_eq!(&*found.tags, tags.as_slice());
        let ends = if kept.is_soft {
            SOFT_AT_SECONDS
        } else {
            FRESH_SECONDS
        };
        let left = Left::after(Duration::from_secs(ends), Duration::from_secs(second));
        let now = self.epoch + Duration::from_secs(second);
        prop_assert_eq!(found.freshness().left(now), left);
        Ok(())
    }

    fn step(&mut self, number: usize, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Ask(place) => self.asked.push(Asked {
                place,
                began: self.store.sequence(),
                stored: self.find(place),
            }),
            Step::Answer { tags, bytes } => self.answer(&tags, bytes, number),
            Step::AnswerHeader { tags } => {
                let begun = self.begin(&tags, number);
                self.open.extend(begun);
            }
            Step::AnswerUnchanged { tags } => self.answer_unchanged(number, &tags)?,
            Step::Finish => {
                if !self.open.is_empty() {
                    let writer = self.open.remove(0);
                    self.model.complete(writer.object().id);
                    writer.finish();
                }
            }
            Step::Break => {
                if let Some(writer) = self.open.pop() {
                    self.model.forget(writer.object().id);
                }
            }
            Step::Purge(named, kind) => self.purge(named, kind)?,
            Step::Read(place, second) => self.read(place, second)?,
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_a_simple_model(
        steps in proptest::collection::vec(step(), 1..200),
        shards in 1..4usize,
        budget in 0..2usize,
    ) {
        let store = Store::new(Limits {
            budget_bytes: BUDGETS[budget],
            object_bytes_max: OBJECT_BYTES_MAX,
            variants_max: 8,
            shards,
        });
        let mut trial = Trial {
            store: Arc::clone(&store),
            model: Model::default(),
            epoch: Instant::now(),
            asked: Vec::new(),
            open: Vec::new(),
            is_exact: budget == 1,
        };
        for (number, step) in steps.into_iter().enumerate() {
            trial.step(number, step)?;
            prop_assert!(store.stats().used_bytes <= BUDGETS[budget]);
        }
        if budget == 1 {
            prop_assert_eq!(store.stats().evictions, 0);
            prop_assert_eq!(store.stats().objects, trial.model.kept.len());
        }
        drop(trial);
        store.purge(&[Scope::All]);
        let stats = store.stats();
        prop_assert_eq!((stats.objects, stats.used_bytes, stats.tags), (0, 0, 0));
    }
}
