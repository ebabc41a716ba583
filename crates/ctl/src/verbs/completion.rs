//! `completion`: what shells need to complete verbs, options and columns.

use clap_complete::Shell;

use super::{Verb, required};
use crate::call::Call;
use crate::cli;
use crate::failure::Failure;

pub(super) const VERBS: &[Verb] = &[Verb {
    name: "completion",
    about: "Prints a script that completes command lines in a shell",
    arguments: |command| command.arg(required("shell").value_parser(["bash", "zsh", "fish"])),
    run: print,
}];

fn print(call: &mut Call<'_>) -> Result<(), Failure> {
    let shell = match call.text("shell").as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(call.tool), call.tool.name(), &mut script);
    Ok(call.output.out.write_all(&script)?)
}
