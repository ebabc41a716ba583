//! The Rust client lapin: compiled with Cargo, run through the story.
