//! HTTP binding (TS-0009): pure mapping between primitives and the `http` crate's types.

use bytes::Bytes;

use crate::request::{BadRequest, Request};
use crate::response::Response;
use crate::rsc::Refusal;

/// Reads a request. The body has been received whole, within [`crate::limits::BODY_BYTES_MAX`].
pub fn request_from_http(_head: &http::request::Parts, _body: Bytes) -> Result<Request, Box<BadRequest>> {
    unimplemented!()
}

/// Writes a request to be sent to `authority` (`host:port`; becomes the Host header). The URI is origin-form.
pub fn request_to_http(_request: &Request, _authority: &str) -> Result<http::Request<Bytes>, Refusal> {
    unimplemented!()
}

/// Reads a response.
pub fn response_from_http(_head: &http::response::Parts, _body: Bytes) -> Result<Response, Refusal> {
    unimplemented!()
}

/// Writes a response. `location` becomes Content-Location (TS-0009 6.4.4): the address of what a CREATE made.
pub fn response_to_http(_response: Response, _location: Option<&str>) -> http::Response<Bytes> {
    unimplemented!()
}
