//! oneM2M primitives, resource types and attribute tables; no I/O.
