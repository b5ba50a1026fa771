//! Hands libFuzzer's inputs to the parser that the variable `FUZZ` names; `make fuzz` runs it.
//! It does not know what a parser must fulfil.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod target {
    use std::sync::OnceLock;

    static CHECK: OnceLock<fn(&[u8])> = OnceLock::new();

    libfuzzer_sys::fuzz_target!(
        init: {
            let name = std::env::var("FUZZ").unwrap_or_default();
            let check = fuzz::PARSERS.iter().find(|(known, _)| *known == name);
            CHECK.get_or_init(|| check.expect("FUZZ is the name of a parser").1);
        },
        |input: &[u8]| CHECK.get().expect("it was initialised")(input)
    );
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("built without libFuzzer: run `make fuzz`");
    std::process::exit(2);
}
