//! Files that nobody needs, or nobody knows: told, and no damage.

use std::collections::BTreeSet;
use std::fs;

use super::{Check, CheckError};
use crate::catalog::{CATALOG_NAME, SNAPSHOT_NAME};
use crate::entries::Contents;
use crate::segments;
use crate::store::Layout;

/// What a broker keeps in a data directory.
const OURS: [&str; 7] =
    [CATALOG_NAME, SNAPSHOT_NAME, "journal", "blocks", "delivered", "reserve", "leveret.lock"];

/// What a file is called while it is written.
const UNFINISHED: &str = ".new";

impl Check<'_> {
    pub(super) fn files(&mut self, contents: &Contents, is_snapshot: bool) -> Result<(), CheckError> {
        let names = fs::read_dir(self.data_dir).and_then(|entries| {
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        });
        let failed = |path, error| CheckError::Io { path, error };
        for name in names.map_err(|error| failed(self.data_dir.to_owned(), error))? {
            if name.starts_with(&format!("{CATALOG_NAME}.damaged-")) {
                self.note(format_args!("{name} is a damaged catalog that was set aside; nothing needs it"));
            } else if name.strip_suffix(UNFINISHED).is_some_and(|name| OURS.contains(&name)) {
                self.note(format_args!("{name} was not finished; the next start deletes it"));
            } else if !OURS.contains(&name.as_str()) {
                self.note(format_args!("{name} is not the broker's"));
            }
        }
        if !is_snapshot {
            self.files_of_blocks(contents).map_err(|error| failed(Layout::segments(self.data_dir), error))?;
        }
        Ok(())
    }

    fn files_of_blocks(&mut self, contents: &Contents) -> std::io::Result<()> {
        let dir = Layout::segments(self.data_dir);
        if !dir.exists() {
            return Ok(());
        }
        let needed: BTreeSet<u64> =
            contents.blocks.values().flatten().map(|block| block.location.file).collect();
        let kept = segments::kept_files(self.disk, &dir)?;
        for (number, path) in segments::durable_files(self.disk, &dir)? {
            let path = path.display();
            if kept.contains(&number) {
                self.note(format_args!(
                    "{path} was kept when the catalog was lost; delete the file with .keep behind its name to give \
                     it back"
                ));
            } else if !needed.contains(&number) {
                self.note(format_args!("nothing needs {path}; the next start deletes it"));
            }
        }
        Ok(())
    }
}
