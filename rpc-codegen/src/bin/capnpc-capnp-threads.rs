//! The plugin for the schema compiler: `capnp compile -o capnp-threads:folder …`
//! runs this program, which has to be in the search path, in `folder`.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capnpc-capnp-threads: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut request = Vec::new();
    std::io::stdin().lock().read_to_end(&mut request)?;
    if request.is_empty() {
        return Err("this program is run by the schema compiler: \
                    capnp compile -o capnp-threads:folder schema.capnp"
            .into());
    }
    for file in capnp_threads_codegen::generate_from_request(&request)? {
        file.write(Path::new(""))?;
    }
    Ok(())
}
