//! The binary `leveret-perf`: everything is in the library, so that tests reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    leveret_perf::main()
}
