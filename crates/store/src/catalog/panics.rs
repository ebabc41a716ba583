//! Turns panics into errors: sled meets damage with a panic where it should return. The panic's text becomes the
//! error's and is not printed as a crash.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::CatalogError;

thread_local! {
    /// Whether a panic of this thread is going to be caught here.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// Text and place of the panic that was.
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does `work`, which is to be given up after a panic.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, CatalogError>) -> Result<T, CatalogError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if IS_CAUGHT.get() {
                let text = panic.payload_as_str().unwrap_or("no text");
                let place = panic.location().map(|place| format!(" ({place})")).unwrap_or_default();
                TEXT.set(format!("{text}{place}"));
            } else {
                others(panic);
            }
        }));
    });
    let was_caught = IS_CAUGHT.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(was_caught);
    outcome.unwrap_or_else(|_| Err(CatalogError::Damaged(format!("the database gave up: {}", TEXT.take()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        let outcome: Result<(), _> = caught(|| panic!("number {}", 7));
        let Err(CatalogError::Damaged(text)) = outcome else { panic!("{outcome:?}") };
        assert!(text.contains("number 7") && text.contains("panics.rs"), "{text}");
        assert!(caught(|| Ok(())).is_ok());
    }
}
