//! The program `leveret`.

use std::process::ExitCode;

fn main() -> ExitCode {
    leveret_server::main()
}
