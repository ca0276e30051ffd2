//! Turns the tables under `tables/` into static Rust data (`$OUT_DIR/tables.rs`), so that resource types and attributes are
//! rows and not hand-written branches. A wrong table is a build error, hence the panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "build/csv.rs"]
mod csv;
#[path = "build/data_types.rs"]
mod data_types;
#[path = "build/emit.rs"]
mod emit;

fn main() {
    println!("cargo:rerun-if-changed=tables");
    println!("cargo:rerun-if-changed=build");
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let out = std::env::var("OUT_DIR").unwrap();
    let tables = csv::Tables::load(&format!("{root}/tables"));
    std::fs::write(format!("{out}/tables.rs"), emit::all(&tables)).unwrap();
}
