//! The sample app as a program: `shop web`, `shop api`, `shop db`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shop::main(std::env::args().skip(1))
}
