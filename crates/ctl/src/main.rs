//! The program `leveretctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    leveret_ctl::main()
}
