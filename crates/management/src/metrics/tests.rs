//! What lines look like, and that the document lists what pages show.

use super::metric::labels;
use super::metric::{Metric, Row};
use super::page::{Grown, Page};
use super::reference;

const BEGIN: &str = "<!-- begin of the list: made by `leveret_management::metrics::reference` -->\n";
const END: &str = "\n<!-- end of the list -->";

fn counter(value: u64, grown: &mut Grown) -> String {
    let metrics = [Metric::counter("eaten_total", "Carrots.", |&eaten: &u64| eaten)];
    let mut page = Page::new("hare_", Some(grown));
    page.table(&metrics, &[Row::of(labels(&[("where", "a\"b\\c\nd")]), value)]);
    page.into_text()
}

#[test]
fn labels_are_escaped_and_a_metric_is_introduced_once() {
    let expected = "# TYPE hare_eaten_total counter\n# HELP hare_eaten_total Carrots.\n\
                    hare_eaten_total{where=\"a\\\"b\\\\c\\nd\"} 7\n";
    assert_eq!(counter(7, &mut Grown::default()), expected);
}

#[test]
fn a_counter_that_seems_to_shrink_is_shown_as_before() {
    let mut grown = Grown::default();
    let first = counter(7, &mut grown);
    assert_eq!(counter(5, &mut grown), first);
    assert!(counter(8, &mut grown).ends_with(" 8\n"));
}

#[test]
fn a_histogram_is_cumulated_and_ends_with_all_of_it() {
    let mut page = Page::new("", None);
    page.histogram(("size", "Sizes."), [("1".to_owned(), 2), ("2".to_owned(), 3)], 4, 5.5);
    let expected = "# TYPE size histogram\n# HELP size Sizes.\nsize_bucket{le=\"1\"} 2\nsize_bucket{le=\"2\"} 5\n\
                    size_bucket{le=\"+Inf\"} 9\nsize_sum 5.5\nsize_count 9\n";
    assert_eq!(page.into_text(), expected);
}

#[test]
fn the_document_lists_what_pages_show() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/METRICS.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (head, rest) = document.split_once(BEGIN).expect("the document has the mark where the list begins");
    let (list, tail) = rest.split_once(END).expect("the document has the mark where the list ends");
    let made = reference();
    if std::env::var_os("LEVERET_TEST_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{made}{END}{tail}")).unwrap();
    } else {
        assert_eq!(list, made, "write it anew: LEVERET_TEST_WRITE_DOCS=1 cargo test -p leveret-management");
    }
}
