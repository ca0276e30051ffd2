//! Bounds on what comes from outside. What exceeds one is refused; nothing is cut.

/// Longest body of a request or response, in bytes.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Deepest nesting of the representation in a CREATE or UPDATE.
pub const CONTENT_DEPTH_MAX: usize = 64;
/// Deepest nesting of any other JSON. More than [`CONTENT_DEPTH_MAX`], since a representation that was let in comes back
/// inside others (nested children), notifications and primitives, which other nodes of ours read.
pub const JSON_DEPTH_MAX: usize = 160;
/// Most members of one representation or primitive.
pub const MEMBERS_MAX: usize = 256;
/// Most elements of a list attribute.
pub const LIST_ITEMS_MAX: usize = 10_000;
/// Longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 2048;
/// Most segments of an address.
pub const ADDRESS_SEGMENTS_MAX: usize = 64;
/// Longest name or identifier, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest single value of a primitive parameter or HTTP header, in bytes.
pub const PARAM_BYTES_MAX: usize = 8192;
/// Most entries of a list in a primitive parameter.
pub const PARAM_ITEMS_MAX: usize = 256;
/// Longest HTTP query, in bytes.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;
/// Most parameters in an HTTP query.
pub const QUERY_PARAMS_MAX: usize = 256;
/// Most values of one tag of filter criteria.
pub const FILTER_VALUES_MAX: usize = 256;
/// Longest `lbq` expression, wildcard pattern or schedule entry, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1024;
/// Most access control rules in one policy.
pub const RULES_MAX: usize = 1024;
/// Most resources that one retrieve or discovery returns, whatever `lim` says.
pub const RESULTS_MAX: usize = 10_000;
/// Most bytes of nested children that one retrieve returns, estimated by the sizes of contents.
pub const RESULT_BYTES_MAX: usize = 8 << 20;
/// Most resources that one discovery looks at.
pub const VISITS_MAX: usize = 1_000_000;
