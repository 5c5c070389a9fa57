//! Makes Rust of `proto/cart.proto`. `protox` reads it, so no `protoc` is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/cart.proto");
    let descriptors = protox::compile(["proto/cart.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
