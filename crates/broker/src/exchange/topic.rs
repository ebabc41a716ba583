//! Topic bindings as a trie of words. A key is matched word by word against the set of nodes reached so
//! far, each at most once, so that the cost depends on the key's words and on how many distinct patterns
//! they match, not on how many bindings there are, and many `#` cannot make it explode.

use hashbrown::HashMap;

use super::destination::{BoundDestination, Destination, DestinationSet};
use super::distinct::Distinct;

/// Nodes reached by the words so far.
type Reached = Distinct<NodeIndex>;

type NodeIndex = u32;

const ROOT: NodeIndex = 0;

/// The bindings of a topic exchange.
#[derive(Debug)]
pub(crate) struct TopicTrie {
    nodes: Vec<Node>,
    free: Vec<NodeIndex>,
}

#[derive(Debug, Default)]
struct Node {
    /// Boxed: most nodes are the ends of patterns and have none.
    words: Option<Box<HashMap<Box<str>, NodeIndex>>>,
    /// Child for `*`: any one word.
    star: Option<NodeIndex>,
    /// Child for `#`: any number of words.
    hash: Option<NodeIndex>,
    /// Whether this node is the `#` child of its parent: it stays reached whatever words come.
    is_hash: bool,
    bound: DestinationSet,
}

impl Node {
    fn is_unused(&self) -> bool {
        self.bound.is_empty() && self.words.is_none() && self.star.is_none() && self.hash.is_none()
    }

    /// Child for a word that is no wildcard.
    fn word(&self, word: &str) -> Option<NodeIndex> {
        self.words.as_ref()?.get(word).copied()
    }

    fn child(&self, word: &str) -> Option<NodeIndex> {
        match word {
            "*" => self.star,
            "#" => self.hash,
            _ => self.word(word),
        }
    }
}

impl Default for TopicTrie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

/// The words of a key; the empty key has none.
fn words(key: &str) -> impl Iterator<Item = &str> {
    let none = key.is_empty();
    key.split('.').skip(usize::from(none))
}

impl TopicTrie {
    /// `false` if it was there.
    pub(crate) fn insert(&mut self, pattern: &str, bound: BoundDestination) -> bool {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.nodes[at as usize].child(word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.nodes[at as usize].bound.insert(bound)
    }

    /// `false` if it was not there.
    pub(crate) fn remove(&mut self, pattern: &str, bound: &BoundDestination) -> bool {
        let mut path = vec![(ROOT, "")];
        let mut at = ROOT;
        for word in words(pattern) {
            let Some(child) = self.nodes[at as usize].child(word) else { return false };
            at = child;
            path.push((at, word));
        }
        let removed = self.nodes[at as usize].bound.remove(bound);
        while let Some((node, word)) = path.pop() {
            let Some(&(parent, _)) = path.last() else { break };
            if !self.nodes[node as usize].is_unused() {
                break;
            }
            self.remove_child(parent, word, node);
        }
        removed
    }

    /// Calls `found` for each destination whose pattern matches `key`; one bound by two matching
    /// patterns comes twice.
    pub(crate) fn route(&self, key: &str, found: &mut dyn FnMut(&Destination)) {
        let mut reached = Reached::default();
        let mut next = Reached::default();
        self.reach(&mut reached, ROOT);
        for word in words(key) {
            next.clear();
            for &index in reached.items() {
                let node = &self.nodes[index as usize];
                if node.is_hash {
                    self.reach(&mut next, index);
                }
                if let Some(child) = node.word(word) {
                    self.reach(&mut next, child);
                }
                if let Some(child) = node.star {
                    self.reach(&mut next, child);
                }
            }
            std::mem::swap(&mut reached, &mut next);
            if reached.items().is_empty() {
                return;
            }
        }
        for &index in reached.items() {
            self.nodes[index as usize].bound.iter().for_each(|bound| found(&bound.destination));
        }
    }

    pub(crate) fn for_each(&self, found: &mut dyn FnMut(&str, &BoundDestination)) {
        let mut pending = vec![(ROOT, None::<String>)];
        while let Some((index, prefix)) = pending.pop() {
            let node = &self.nodes[index as usize];
            node.bound.iter().for_each(|bound| found(prefix.as_deref().unwrap_or(""), bound));
            let extended =
                |word: &str| Some(prefix.as_ref().map_or(word.to_owned(), |p| format!("{p}.{word}")));
            let words = node.words.iter().flat_map(|words| words.iter());
            pending.extend(words.map(|(word, &child)| (child, extended(word))));
            pending.extend(node.star.map(|child| (child, extended("*"))));
            pending.extend(node.hash.map(|child| (child, extended("#"))));
        }
    }

    /// Adds a node, and the chain of `#` below it that no word is needed for.
    fn reach(&self, reached: &mut Reached, index: NodeIndex) {
        let mut at = Some(index);
        while let Some(index) = at {
            if !reached.add(index) {
                return;
            }
            at = self.nodes[index as usize].hash;
        }
    }

    fn add_child(&mut self, parent: NodeIndex, word: &str) -> NodeIndex {
        let node = Node { is_hash: word == "#", ..Node::default() };
        let index = if let Some(index) = self.free.pop() {
            self.nodes[index as usize] = node;
            index
        } else {
            self.nodes.push(node);
            (self.nodes.len() - 1) as NodeIndex
        };
        let parent = &mut self.nodes[parent as usize];
        match word {
            "*" => parent.star = Some(index),
            "#" => parent.hash = Some(index),
            _ => _ = parent.words.get_or_insert_default().insert(word.into(), index),
        }
        index
    }

    fn remove_child(&mut self, parent: NodeIndex, word: &str, child: NodeIndex) {
        let parent = &mut self.nodes[parent as usize];
        match word {
            "*" => parent.star = None,
            "#" => parent.hash = None,
            _ => {
                if let Some(words) = &mut parent.words {
                    words.remove(word);
                }
                parent.words.take_if(|words| words.is_empty());
            }
        }
        self.nodes[child as usize] = Node::default();
        self.free.push(child);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::ExchangeName;

    fn bound(name: &str) -> BoundDestination {
        BoundDestination { destination: Destination::Exchange(ExchangeName::from(name)), arguments: None }
    }

    fn matches(trie: &TopicTrie, key: &str) -> Vec<String> {
        let mut found = Vec::new();
        trie.route(key, &mut |destination| found.push(format!("{destination:?}")));
        found.sort();
        found
    }

    /// What a pattern means, by definition.
    fn is_match(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) if is_match(rest, key) => true,
            (Some((&"#", _)), Some((_, key))) => is_match(pattern, key),
            (Some((&"*", rest)), Some((_, key))) => is_match(rest, key),
            (Some((word, rest)), Some((first, key))) if word == first => is_match(rest, key),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn routes_as_the_definition_says(
            patterns in prop::collection::vec("[ab*#](\\.[ab*#]?){0,4}|", 1..12),
            keys in prop::collection::vec("[ab](\\.[ab]?){0,5}|", 1..8),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let mut trie = TopicTrie::default();
            let mut kept: std::collections::BTreeSet<_> = patterns.iter().cloned().collect();
            for pattern in &patterns {
                trie.insert(pattern, bound(pattern));
            }
            for index in removed {
                let pattern = index.get(&patterns);
                prop_assert_eq!(trie.remove(pattern, &bound(pattern)), kept.remove(pattern));
            }
            let mut listed = Vec::new();
            trie.for_each(&mut |pattern, _| listed.push(pattern.to_owned()));
            listed.sort();
            prop_assert_eq!(&listed, &kept.iter().cloned().collect::<Vec<_>>());
            for key in &keys {
                let key_words: Vec<_> = words(key).collect();
                let expected: Vec<_> = kept
                    .iter()
                    .filter(|pattern| is_match(&words(pattern).collect::<Vec<_>>(), &key_words))
                    .map(|pattern| format!("exchange {pattern}"))
                    .collect();
                let mut expected = expected;
                expected.sort();
                prop_assert_eq!(matches(&trie, key), expected);
            }
        }
    }

    #[test]
    fn many_hashes_do_not_explode() {
        let mut trie = TopicTrie::default();
        let pattern = vec!["#"; 120].join(".");
        trie.insert(&pattern, bound("all"));
        trie.insert(&format!("{pattern}.end"), bound("end"));
        let key = vec!["word"; 50].join(".");
        assert_eq!(matches(&trie, &key), ["exchange all"]);
    }

    #[test]
    fn removing_all_bindings_leaves_no_nodes() {
        let mut trie = TopicTrie::default();
        for i in 0..100 {
            trie.insert(&format!("a.*.{i}.#"), bound("x"));
        }
        for i in 0..100 {
            assert!(trie.remove(&format!("a.*.{i}.#"), &bound("x")));
        }
        assert!(trie.nodes[0].is_unused());
        assert_eq!(trie.free.len() + 1, trie.nodes.len());
    }
}
